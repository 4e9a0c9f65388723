"""NPR (Tan 2024): what nearest-neighbour down- and upsampling loses, through the first half of a ResNet-50.

github.com/chuangchuangtan/NPR-DeepfakeDetection; its file holds the whole network.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.residual import EXPANSION, stage


class Sizes(NamedTuple):
    """Config: side of the input (the network takes any even one), width of the stem, blocks of the two stages."""

    image: int = 256
    width: int = 64
    blocks: tuple[int, int] = (3, 4)


class NprNet(nn.Module):
    """Pixels (n, 3, h, w) with even sides, normalised → logit (n, 1), above 0 for fake."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(width, width, sizes.blocks[0], 1)
        self.layer2 = stage(width * EXPANSION, 2 * width, sizes.blocks[1], 2)
        self.fc1 = nn.Linear(2 * width * EXPANSION, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        # Halving and doubling by nearest neighbour repeats the top left pixel of each 2×2 cell.
        corners = pixel_values[:, :, ::2, ::2]
        repeated = corners.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = self.maxpool(self.relu(self.bn1(self.conv1((pixel_values - repeated) * (2.0 / 3.0)))))
        return self.fc1(self.layer2(self.layer1(x)).mean(dim=(2, 3)))


def _state(state: State, _: State, __: Sizes) -> dict[str, Any]:
    return dict(state)


NPR = Architecture(Sizes(), NprNet, _state)
