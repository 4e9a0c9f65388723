"""What the TOML of a backbone says (`configs/backbones/*.toml`): a network, its input, and how it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.images import Preprocessing

Mode = Literal["whole", "lora", "head"]


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the weights are that training starts from; safetensors only.

    Attributes:
        hub: a model id of the Hugging Face hub.
        revision: its commit: the record and the result are about that commit for ever.
        folder: a folder that `save_pretrained` wrote, relative to the TOML.
        file: for `npr`, a safetensors file of its state dict, relative to the TOML.
    """

    hub: str | None = None
    revision: str | None = None
    folder: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        """Refuses weights in no place or in several, and a hub id that may mean something else tomorrow."""
        if sum(place is not None for place in (self.hub, self.folder, self.file)) != 1:
            raise ValueError("give one of hub (with revision), folder and file")
        if (self.hub is None) != (self.revision is None):
            raise ValueError("hub and revision (a commit) go together")


class Lora(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Low-rank adaptation (Hu et al. 2022): what is added to which linear layers.

    Attributes:
        targets: ends of the names of the layers.
        alpha: the update is scaled by alpha / rank.
    """

    targets: list[str]
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0


class Course(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long and how fast a network learns.

    Attributes:
        epochs: at most; one epoch draws as many images as there are to fit.
        batch: images per optimiser step; where the device has no room it is computed in parts.
        tiles: of an image that gives several rows, so many are drawn each time.
        rate: peak learning rate of AdamW: linear warm-up over the share `warm_up` of all steps, then a cosine to 0.
        head_rate: of the head, which starts from nothing where the rest starts from weights; None for `rate`.
        decay: AdamW's weight decay, of matrices only.
        clip: largest norm of the gradient.
        patience: epochs without a better validation loss after which training ends.
        copies: different augmented copies of an image; epochs go through them in turn, and decoded ones are kept.
    """

    epochs: int
    batch: int = 32
    tiles: int = 1
    rate: float = 1e-4
    head_rate: float | None = None
    warm_up: float = 0.1
    decay: float = 0.05
    clip: float = 1.0
    patience: int = 5
    copies: int = 8

    def __post_init__(self) -> None:
        """Refuses a course without a step."""
        if min(self.epochs, self.batch, self.tiles, self.patience, self.copies) < 1:
            raise ValueError("epochs, batch, tiles, patience and copies must be at least 1")
        if not 0 <= self.warm_up < 1 or min(self.rate, self.clip) <= 0:
            raise ValueError("warm_up is a share below 1; rate and clip are above 0")


class Shares(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the training images, by whole groups; the rest is fitted."""

    validation: float = 0.15
    calibration: float = 0.25

    def __post_init__(self) -> None:
        """Refuses shares that leave nothing to fit."""
        if min(self.validation, self.calibration) <= 0 or self.validation + self.calibration >= 1:
            raise ValueError("validation and calibration must be above 0 and leave something to fit")


class Backbone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network that can be trained.

    Attributes:
        architecture: `siglip` and `vit` are transformers' classes, `npr` the truncated ResNet-50 on neighbouring
            pixel relationships, `micro-cnn` a small network of our own.
        licence: of the weights.
        restrictions: a use that the licence forbids; empty if none.
        weights: where training starts; None builds the network from `shape`, at random from the seed.
        shape: the network's measures, under the names of its config class.
        mode: `whole` trains everything, `lora` low-rank additions and the head, `head` the head alone.
        input: how an image becomes the network's input.
    """

    name: str
    version: str
    about: str
    architecture: Literal["siglip", "vit", "npr", "micro-cnn"]
    input: Preprocessing
    course: Course
    licence: str = ""
    restrictions: str = ""
    citation: str = ""
    weights: Weights | None = None
    shape: dict[str, Any] = {}
    mode: Mode = "whole"
    lora: Lora | None = None
    shares: Shares = Shares()

    def __post_init__(self) -> None:
        """Refuses a mode that the rest does not bear."""
        if self.mode == "lora" and self.lora is None:
            raise ValueError("mode lora needs a table [lora]")
        if self.mode == "head" and self.weights is None:
            raise ValueError("mode head trains a head on given weights, and there are none")
        if self.input.size is None or self.input.layout != "NCHW":
            raise ValueError("a network is trained on inputs of one size, in the layout NCHW")


class Found(NamedTuple):
    """A backbone with the folder that its paths start from and the digest of its text."""

    backbone: Backbone
    folder: Path
    digest: str


def names() -> list[str]:
    """Backbones that come with the package."""
    return config.names("backbones")


def read(name: str) -> Found:
    """The packaged backbone `name`, or the user's TOML.

    Raises:
        UsageError: there is none, or its text is wrong.
    """
    loaded = config.load("backbones", name, Backbone)
    backbone: Backbone = loaded.value
    weights = backbone.weights
    if weights is not None and weights.file is not None and backbone.architecture != "npr":
        raise UsageError(f"{name}: {backbone.architecture} loads a folder that save_pretrained wrote, not a file")
    return Found(backbone, config.find("backbones", name).parent, loaded.digest)
