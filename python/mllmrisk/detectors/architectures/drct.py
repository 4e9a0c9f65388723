"""DRCT (Chen 2024): a backbone with 1024 outputs and a linear layer on them, real against fake.

github.com/beibuwandeluori/DRCT publishes a ConvNeXt-B and a CLIP ViT-L/14. Column 0 is real.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.clip_tower import Tower, VisionTower, tower_state
from mllmrisk.detectors.architectures.weights import prefixed, under


class ConvNext(NamedTuple):
    """Config of a ConvNeXt (Liu 2022) with `embedding` outputs; the defaults are ConvNeXt-B."""

    image: int = 224
    depths: tuple[int, ...] = (3, 3, 27, 3)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    embedding: int = 1024


class Clip(NamedTuple):
    """Config of the CLIP variant."""

    tower: Tower = Tower()
    embedding: int = 1024

    @property
    def image(self) -> int:
        """Side of the input, px."""
        return self.tower.image


class DrctConvNext(nn.Module):
    """Pixels (n, 3, image, image) → logits (n, 2): real, fake."""

    def __init__(self, config: ConvNext) -> None:
        super().__init__()
        from timm.models.convnext import ConvNeXt

        self.model = ConvNeXt(num_classes=config.embedding, depths=config.depths, dims=config.widths)
        self.fc = nn.Linear(config.embedding, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        return self.fc(self.model(pixel_values))


class DrctClip(nn.Module):
    """Pixels (n, 3, image, image) → logits (n, 2): real, fake."""

    def __init__(self, config: Clip) -> None:
        super().__init__()
        self.visual = VisionTower(config.tower)
        self.embedding = nn.Linear(config.tower.dimension, config.embedding)
        self.fc = nn.Linear(config.embedding, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        return self.fc(self.embedding(self.visual(pixel_values)))


def _convnext_state(state: State, _: State, __: ConvNext) -> dict[str, Any]:
    return dict(state)


def _clip_state(state: State, _: State, config: Clip) -> dict[str, Any]:
    """`model.model.` is OpenAI's CLIP with its unused text tower, `model.fc` the layer after it, `fc` the last one."""
    left = {name: part for name, part in state.items() if not name.startswith("model.")}
    middle = under("model.", state)
    tower = tower_state(under("model.", middle), config.tower)
    other = {name: part for name, part in middle.items() if not name.startswith(("model.", "fc."))}
    return {
        **left,
        **prefixed("model.", other),
        **prefixed("embedding.", under("fc.", middle)),
        **prefixed("visual.", tower),
    }


DRCT_CONVNEXT = Architecture(ConvNext(), DrctConvNext, _convnext_state)
DRCT_CLIP = Architecture(Clip(), DrctClip, _clip_state)
