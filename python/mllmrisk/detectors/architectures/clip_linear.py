"""Detectors that are one linear layer on CLIP's image embedding: UnivFD, C2P-CLIP, clipdet."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from mllmrisk.detectors.architectures import Architecture, State
from mllmrisk.detectors.architectures.clip_tower import Tower, VisionTower, tower_state
from mllmrisk.detectors.architectures.weights import prefixed, under


class ClipLinear(NamedTuple):
    """Config: the tower, and whether embeddings are brought to length 1 before the linear layer."""

    tower: Tower = Tower()
    unit_length: bool = False

    @property
    def image(self) -> int:
        """Side of the input, px."""
        return self.tower.image


class LinearOnClip(nn.Module):
    """Pixels (n, 3, image, image) → logit (n, 1), above 0 for fake."""

    def __init__(self, config: ClipLinear) -> None:
        super().__init__()
        self.visual = VisionTower(config.tower)
        self.fc = nn.Linear(config.tower.dimension, 1)
        self._unit_length = config.unit_length

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As the class says."""
        embedding = self.visual(pixel_values)
        return self.fc(functional.normalize(embedding, dim=-1) if self._unit_length else embedding)


def _with_encoder(head: State, encoder: State, config: ClipLinear) -> dict[str, Any]:
    """UnivFD saves `weight` and `bias` of its layer, clipdet `fc.weight` and `fc.bias`."""
    named = head if any(name.startswith("fc.") for name in head) else prefixed("fc.", head)
    return {**named, **prefixed("visual.", tower_state(encoder, config.tower))}


def _whole(state: State, _: State, config: ClipLinear) -> dict[str, Any]:
    """C2P-CLIP saves a transformers CLIP under `model.` with the layer inside."""
    inner = under("model.", state) | {name: part for name, part in state.items() if not name.startswith("model.")}
    head: dict[str, Any] = {name: inner.pop(name) for name in ("fc.weight", "fc.bias") if name in inner}
    return {**head, **prefixed("visual.", tower_state(inner, config.tower))}


#: Ojha 2023: OpenAI's ViT-L/14, embedding as it is. github.com/WisconsinAIVision/UniversalFakeDetect
UNIVFD = Architecture(
    ClipLinear(),
    LinearOnClip,
    _with_encoder,
    encoder=True,
    where_encoder="openai/clip-vit-large-patch14",
)
#: Tan 2024: ViT-L/14 tuned by prompts, embedding of length 1. github.com/chuangchuangtan/C2P-CLIP-DeepfakeDetection
C2P_CLIP = Architecture(ClipLinear(unit_length=True), LinearOnClip, _whole)
#: Cozzolino 2024: open_clip's ViT-L/14 before its projection, of length 1; the logit is a log likelihood ratio.
#: github.com/grip-unina/ClipBased-SyntheticImageDetection
CLIPDET = Architecture(
    ClipLinear(Tower(output=None, quick=False), unit_length=True),
    LinearOnClip,
    _with_encoder,
    encoder=True,
    where_encoder="laion/CLIP-ViT-L-14-CommonPool.XL-s13B-b90K",
)
