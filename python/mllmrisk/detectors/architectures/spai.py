"""SPAI (Karageorgiou 2025): how alike a patch, its low and its high frequencies look to a model of spectra.

github.com/mever-team/spai, configs/spai.yaml. A ViT that was trained to restore frequencies gives features of the
three after each of its blocks; their similarities, and the patch's own features, are what is classified.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import functional as transforms

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.weights import without

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sizes(NamedTuple):
    """Config.

    Attributes:
        image: side of a patch of the image, px.
        patch: side of a token, px.
        projection: dimension that features are projected to.
        attention, attention_heads: of the attention over an image's patches.
        ratio: width of the classifier's hidden layers over its input's.
    """

    image: int = 224
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    projection: int = 1024
    attention: int = 1536
    attention_heads: int = 12
    ratio: int = 3

    @property
    def features(self) -> int:
        """Length of what is encoded of a patch."""
        return 6 * self.layers + self.projection


class Projector(nn.Module):
    """Two linear layers between two normalisations; places of the author's dropouts are kept for the names."""

    def __init__(self, before: int, after: int, *, first_norm: bool, last: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(before) if first_norm else nn.Identity()
        inner = (nn.Linear(before, after), nn.GELU(), nn.Identity(), nn.Linear(after, after), last)
        self.projector = nn.Sequential(nn.Identity(), *inner)
        self.norm2 = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """(..., before) → (..., after)."""
        return self.norm2(self.projector(self.norm1(x)))


class Spectral(nn.Module):
    """Features of a patch and of its two bands, (n, layers, tokens, width) each → (n, features)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.projection
        self.patch_projector = nn.Module()
        self.patch_projector.projectors = nn.ModuleList(
            Projector(sizes.width, width, first_norm=True, last=nn.Identity()) for _ in range(sizes.layers)
        )
        own = self.original_features_processor = nn.Module()
        own.alpha = nn.Parameter(torch.randn(1, sizes.layers, width))
        own.proj1 = Projector(2 * width, width, first_norm=False, last=nn.GELU())
        own.proj2 = Projector(width, width, first_norm=False, last=nn.GELU())

    def forward(self, whole: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """As the class says."""
        whole, low, high = self._projected(whole), self._projected(low), self._projected(high)
        found = []
        for a, b in ((whole, low), (whole, high), (low, high)):
            alike = functional.cosine_similarity(a, b, dim=-1)
            found += [alike.mean(dim=-1), _deviation(alike, -1)]
        own = self.original_features_processor
        x = own.proj1(torch.cat([whole.mean(dim=2), _deviation(whole, 2)], dim=-1))
        return torch.cat([*found, own.proj2((torch.softmax(own.alpha, dim=1) * x).sum(dim=1))], dim=1)

    def _projected(self, x: Tensor) -> Tensor:
        return torch.stack([project(x[:, i]) for i, project in enumerate(self.patch_projector.projectors)], dim=1)


def _deviation(x: Tensor, dim: int) -> Tensor:
    """Standard deviation with Bessel's correction, of operators that ONNX has."""
    return ((x - x.mean(dim, keepdim=True)).square().sum(dim) / (x.shape[dim] - 1)).sqrt()


class Band(nn.Module):
    """The low frequencies of pictures, (n, 3, side, side), by two real matrix products a side instead of an FFT."""

    def __init__(self, side: int) -> None:
        super().__init__()
        index = torch.arange(side, dtype=torch.float64)
        angle = 2 * torch.pi / side * (index[:, None] * index % side)
        self.register_buffer("_cos", angle.cos().float(), persistent=False)
        self.register_buffer("_sin", angle.sin().float(), persistent=False)

    def forward(self, pictures: Tensor, mask: Tensor) -> Tensor:
        """`Re ifft2(mask fft2(pictures))`; the mask has frequency 0 in the middle, as after `fftshift`."""
        c, s, half = self._cos, self._sin, mask.shape[0] // 2
        mask = torch.roll(mask, (half, half), dims=(0, 1))
        real = mask * (c @ pictures @ c - s @ pictures @ s)
        imaginary = -mask * (c @ pictures @ s + s @ pictures @ c)
        low = (c @ real - s @ imaginary) @ c - (c @ imaginary + s @ real) @ s
        return low / mask.shape[0] ** 2


class SpaiNet(nn.Module):
    """Patches (m, 3, image, image) in [0, 1] → encoded (m, features); features (n, patches, features) → logits (n, 1).

    The two are independent of each other.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.mfvit = nn.Module()
        self.mfvit.vit = VisionTransformer(
            img_size=sizes.image,
            patch_size=sizes.patch,
            embed_dim=sizes.width,
            depth=sizes.layers,
            num_heads=sizes.heads,
            num_classes=0,
            global_pool="",
            final_norm=False,
        )
        self.mfvit.features_processor = Spectral(sizes)
        self.mfvit.register_buffer("frequencies_mask", torch.zeros(sizes.image, sizes.image))
        self._band = Band(sizes.image)
        self.to_kv = nn.Linear(sizes.features, 2 * sizes.attention, bias=False)
        depth = sizes.attention // sizes.attention_heads
        self.patch_aggregator = nn.Parameter(torch.randn(sizes.attention_heads, 1, depth))
        self.to_out = nn.Sequential(nn.Linear(sizes.attention, sizes.features, bias=False))
        self.norm = nn.LayerNorm(sizes.features)
        hidden = sizes.ratio * sizes.features
        self.cls_head = nn.Module()
        layers = (nn.Linear(sizes.features, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1))
        nothing = nn.Identity()
        self.cls_head.head = nn.Sequential(layers[0], nn.ReLU(), nothing, layers[1], nn.ReLU(), nothing, layers[2])
        self.register_buffer("_mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, patches: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """As the class says."""
        return self._encoded(patches), self._joined(features)

    def _encoded(self, patches: Tensor) -> Tensor:
        low = self._band(patches, self.mfvit.frequencies_mask)
        parts = (patches, low.clamp(0, 1), (patches - low).clamp(0, 1))
        return self.mfvit.features_processor(*(self._after_blocks((part - self._mean) / self._std) for part in parts))

    def _after_blocks(self, pixels: Tensor) -> Tensor:
        found = self.mfvit.vit.forward_intermediates(pixels, norm=False, output_fmt="NLC", intermediates_only=True)
        return torch.stack(found, dim=1)

    def _joined(self, features: Tensor) -> Tensor:
        heads, _, depth = self.patch_aggregator.shape
        key, value = self.to_kv(features).view(*features.shape[:2], 2, heads, depth).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(self.patch_aggregator @ key.transpose(-1, -2) * depth**-0.5, dim=-1)
        joined = self.to_out((weights @ value).transpose(1, 2).flatten(1))
        return self.cls_head.head(self.norm(joined))


def patches(pictures: Sequence[NDArray[np.uint8]], side: int) -> Tensor:
    """The patches of all pictures, (m, 3, side, side) in [0, 1], as spai/models/sid.py and its data set make them."""
    found = []
    for picture in pictures:
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        rows, columns = (max(side - length, 0) for length in image.shape[2:])
        edges = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
        image = transforms.pad(image, edges, padding_mode="reflect")
        tiles = image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        found.append(torch.cat(transforms.five_crop(image, [side, side])) if len(tiles) < 4 else tiles)
    return torch.cat(found)


#: Heads and tokens of the ViT's own training, which the detector never runs.
_UNUSED = ("cls_blocks.", "cls_pos_embed", "actual_cls_token", "intermediate_fc_norm.", "fc_norm.", "head.")
_QUERY_BIAS = re.compile(r"(mfvit\.vit\.blocks\.\d+\.attn\.)q_bias")


def _state(state: State, _: State, __: Sizes) -> dict[str, Any]:
    found = without(state, [f"mfvit.vit.{name}" for name in _UNUSED])
    for name in [name for name in found if _QUERY_BIAS.fullmatch(name)]:
        at = name.removesuffix("q_bias")
        query, value = found.pop(name), found.pop(f"{at}v_bias", None)
        if value is not None:  # keys have no bias in BEiT
            found[f"{at}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
    return found


SPAI = Architecture(Sizes(), SpaiNet, _state)
