"""AIDE (Yan 2025): noise residuals of four chosen patches, and the meaning of the whole image.

github.com/shilinyan99/AIDE. The patches are the two windows with the lowest and the two with the highest frequencies,
enlarged; choosing and enlarging them is no part of the network (`mllmrisk.images.patches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn
from torch.nn import functional

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.residual import EXPANSION, stage
from mllmrisk.detectors.architectures.weights import without

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Sizes(NamedTuple):
    """Config: the side of image and patches (the network takes others), two ResNets, a ConvNeXt, the head."""

    image: int = 256
    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    depths: tuple[int, ...] = (3, 4, 30, 3)
    widths: tuple[int, ...] = (384, 768, 1536, 3072)
    projection: int = 256
    hidden: int = 1024


class ResidualNet(nn.Module):
    """A ResNet-50 on the 30 residuals of the SRM filters: (n, 30, h, w) → (n, 32 width)."""

    def __init__(self, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(30, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        before = width
        for i, count in enumerate(blocks):
            self.add_module(f"layer{i + 1}", stage(before, width << i, count, 1 if i == 0 else 2))
            before = (width << i) * EXPANSION

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))


class AideNet(nn.Module):
    """Patches (n, 4, 3, 256, 256) and the image (n, 3, image, image) → logits (n, 2): real, fake.

    The order of the patches is the author's: lowest, highest, second lowest, second highest. Both inputs are
    normalised by ImageNet's mean and deviation.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.hpf = nn.Module()
        self.hpf.hpf = nn.Conv2d(3, 30, 5, padding=2, bias=False)  # the 30 SRM filters come with the weights
        self.model_min = ResidualNet(sizes.width, sizes.blocks)
        self.model_max = ResidualNet(sizes.width, sizes.blocks)
        self.openclip_convnext_xxl = ConvNeXt(
            num_classes=0, global_pool="", depths=sizes.depths, dims=sizes.widths, norm_eps=1e-5
        )
        self.convnext_proj = nn.Sequential(nn.Linear(sizes.widths[-1], sizes.projection))
        self.fc = nn.Module()
        residual = (sizes.width << (len(sizes.blocks) - 1)) * EXPANSION
        self.fc.fc1 = nn.Linear(residual + sizes.projection, sizes.hidden)
        self.fc.fc2 = nn.Linear(sizes.hidden, 2)
        (mean, std), (clip_mean, clip_std) = (map(torch.tensor, pair) for pair in (_IMAGENET, _CLIP))
        self.register_buffer("_gain", (std / clip_std).view(3, 1, 1), persistent=False)
        self.register_buffer("_shift", ((mean - clip_mean) / clip_std).view(3, 1, 1), persistent=False)

    def forward(self, patches: Tensor, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        whole = self.openclip_convnext_xxl(pixel_values * self._gain + self._shift).mean(dim=(2, 3))
        noise = sum(
            net(self.hpf.hpf(patches[:, i]))
            for i, net in enumerate((self.model_min, self.model_max, self.model_min, self.model_max))
        )
        joint = torch.cat([self.convnext_proj(whole), noise / 4], dim=1)
        return self.fc.fc2(functional.gelu(self.fc.fc1(joint)))


def inputs(pictures: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Patches (n, 4, 3, 256, 256) and images (n, 3, 256, 256) as data/datasets.py and data/dct.py make them."""
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in _IMAGENET)
    images = [torch.from_numpy(picture).permute(2, 0, 1).float() / 255 for picture in pictures]

    def enlarged(parts: Tensor) -> Tensor:
        return (functional.interpolate(parts, (256, 256), mode="bilinear") - mean) / std

    return torch.stack([enlarged(_chosen(image)) for image in images]), torch.cat(
        [enlarged(image[None]) for image in images]
    )


def _chosen(image: Tensor, side: int = 32, bands: int = 6) -> Tensor:
    """The (4, 3, side, side) windows of (3, H, W) in the order of the network, graded by their DCT in six bands."""
    index = torch.arange(side)
    basis = torch.cos((index + 0.5) * torch.pi * index[:, None] / side) * (2.0 / side) ** 0.5
    basis[0] = side**-0.5
    windows = functional.unfold(image[None], side, stride=side // 2)[0].T.reshape(-1, 3, side, side)
    loud = torch.log1p((basis @ windows @ basis.T).abs())
    grade, diagonal = torch.zeros(len(windows)), index + index[:, None]
    for i in range(bands):
        low, high = (2.0 * side / bands * j for j in (i, i + 1))
        band = ((low <= diagonal) & (diagonal <= high)).float()
        grade += 2**i * (loud * (band / band.sum())).sum(dim=(1, 2, 3))
    order = grade.argsort(stable=True)
    last = len(order) - 1
    return windows[order[[0, last, min(1, last), max(last - 1, 0)]]]


def _state(state: State, _: State, __: Sizes) -> dict[str, Any]:
    # Classifiers of ImageNet that the two ResNets still carry; nothing reads them.
    return without(state, ["model_min.fc.", "model_max.fc."])


AIDE = Architecture(Sizes(), AideNet, _state)
