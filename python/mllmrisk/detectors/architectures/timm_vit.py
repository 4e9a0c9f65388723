"""Vision transformers that timm builds: Community Forensics (ViT-S/16) and DDA (DINOv2 with LoRA, merged)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.weights import without


class Vit(NamedTuple):
    """Sizes of a vision transformer, in px and units."""

    image: int
    patch: int
    width: int
    layers: int
    heads: int


def _transformer(sizes: Vit, **more: Any) -> VisionTransformer:
    return VisionTransformer(
        img_size=sizes.image,
        patch_size=sizes.patch,
        embed_dim=sizes.width,
        depth=sizes.layers,
        num_heads=sizes.heads,
        **more,
    )


class OneLogit(nn.Module):
    """timm's transformer with a single output, under the name `vit`: pixels → logit (n, 1), above 0 for fake."""

    def __init__(self, sizes: Vit) -> None:
        super().__init__()
        self.vit = _transformer(sizes, num_classes=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, image, image) → (n, 1)."""
        return self.vit(pixel_values)


def _as_it_is(state: State, _: State, __: Vit) -> dict[str, Any]:
    return dict(state)


def _of_this_side(state: State, sizes: Vit) -> Vit:
    """Published at 384 px and at 224 px: the position embeddings tell which."""
    positions = state.get("vit.pos_embed")
    if positions is None:
        return sizes
    return sizes._replace(image=round((positions.shape[1] - 1) ** 0.5) * sizes.patch)


#: Park and Owens 2025, `OwensLab/commfor-model-384` and `-224`. github.com/JeongsooP/Community-Forensics
COMMUNITY_FORENSICS = Architecture(Vit(384, 16, 384, 12, 6), OneLogit, _as_it_is, resized=_of_this_side)


class DinoLinear(nn.Module):
    """DINOv2's class token through one linear layer: pixels → logit (n, 1), above 0 for fake."""

    def __init__(self, sizes: Vit) -> None:
        super().__init__()
        self.model = _transformer(sizes, init_values=1.0, num_classes=0)
        self.fc = nn.Linear(sizes.width, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, image, image) → (n, 1)."""
        return self.fc(self.model(pixel_values))


#: The published adapters: rank 8, alpha 1.
_LORA_SCALE = 1.0 / 8
_ADAPTED = re.compile(r"(.*)\.lora\.lora_A")


def merged(state: State, scale: float) -> dict[str, Any]:
    """A state dict whose LoRA adapters (Hu 2021) are added to the layers that they adapt: `W + scale * B A`.

    Args:
        state: with `X.original_layer.weight`, `X.lora.lora_A` (rank, in) and `X.lora.lora_B` (out, rank).
        scale: alpha / rank.
    """
    found = {name.replace(".original_layer.", "."): tensor for name, tensor in state.items() if ".lora." not in name}
    for name, down in state.items():
        if (match := _ADAPTED.fullmatch(name)) and f"{match[1]}.lora.lora_B" in state:
            up = state[f"{match[1]}.lora.lora_B"]
            weight = found[f"{match[1]}.weight"]
            found[f"{match[1]}.weight"] = (weight.double() + scale * (up.double() @ down.double())).to(weight.dtype)
    return found


def _dino_state(state: State, _: State, sizes: Vit) -> dict[str, Any]:
    found = without(merged(state, _LORA_SCALE), ["base_model.model.mask_token"])  # used in pre-training only
    found = {name.removeprefix("base_model."): tensor for name, tensor in found.items()}
    if (positions := found.get("model.pos_embed")) is not None:
        found["model.pos_embed"] = resampled(positions, sizes.image // sizes.patch)
    return found


def resampled(positions: Tensor, side: int) -> Tensor:
    """DINOv2's position embeddings (1, 1 + old², width) for a grid of `side`², as its own code interpolates them.

    Bicubic without antialiasing, by a factor of (side + 0.1) / old: the offset is DINOv2's, against rounding, and
    shifts the result.
    """
    old = round((positions.shape[1] - 1) ** 0.5)
    if old == side:
        return positions
    grid = positions[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2).float()
    factor = (side + 0.1) / old
    grid = functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)


#: Chen 2025, `Junwei-Xi/Dual-Data-Alignment`. github.com/roy-ch/Dual-Data-Alignment
DDA = Architecture(Vit(336, 14, 1024, 24, 16), DinoLinear, _dino_state)
