"""Unified multimodal models of transformers that write images: Janus, Janus-Pro, Emu3; found by the model's config."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import GeneratorError, UsageError
from mllmrisk.extras import optional
from mllmrisk.generators.acceleration import Mode, Options, Shapes, check, settle
from mllmrisk.generators.base import Common, Made, Request, place
from mllmrisk.generators.guarded import batch_or_singles, free_caches, guarded
from mllmrisk.generators.pixels import outcome
from mllmrisk.generators.pretrained import loaded, origin, passed, quiet
from mllmrisk.generators.torch_device import Precision, choose, precision, versions

#: `model_type` of a config → the model's class in transformers, and ours that draws with it.
_FAMILIES = {
    "janus": ("JanusForConditionalGeneration", "mllmrisk.generators.janus:Janus"),
    "emu3": ("Emu3ForConditionalGeneration", "mllmrisk.generators.emu3:Emu3"),
}
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "accelerate")
#: Keys that some families have and others do not.
_OPTIONAL = ("chat", "negative_prompt", "suffix", "ratio", "area")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a TOML of the kind `transformers`, beyond the common ones.

    Attributes:
        model: hub id, `./FOLDER`, `/FOLDER` or `package:weights/NAME`.
        revision: branch, tag or commit of a hub id.
        dtype: `auto` is float32 on a CPU and `cuda_dtype` on a GPU.
        batch: prompts per call; `auto` looks for the size that gives most images per second.
        compile: mode of `torch.compile` for the language model and the decoder, or false.
        channels_last: lays the decoder's convolutions out with channels last.
        guidance: classifier-free guidance; 1 for none, the model's own where left out.
        temperature, top_k, top_p: of the draw; no top-k or top-p where left out, whatever the library's default is.
        chat: whether the prompt is put into the processor's chat template; by default where it has one (Janus).
        negative_prompt: what guidance leads away from (Emu3).
        suffix: appended to every prompt (Emu3).
        ratio, area: width to height, as `1:1`, and pixels (Emu3).
    """

    model: str
    revision: str | None = None
    dtype: Literal["auto"] | Precision = "auto"
    cuda_dtype: Precision = "bfloat16"
    batch: int | Literal["auto"] = 4
    compile: bool | Mode = False
    channels_last: bool = False
    guidance: float | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    chat: bool | None = None
    negative_prompt: str | None = None
    suffix: str | None = None
    ratio: str | None = None
    area: int | None = None

    def __post_init__(self) -> None:
        """Refuses numbers that no model can draw with.

        Raises:
            ValueError: shown as the TOML's error.
        """
        check(self.compile, self.batch)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}; leave it out for all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}")


class Family(Protocol):
    """How one family of models draws an image."""

    takes: ClassVar[frozenset[str]]
    effective: dict[str, Any]
    networks: dict[str, Any]

    def tokens(self, requests: Sequence[Request]) -> tuple[Any, list[bool]]:
        """Token ids (n, length), and for each row whether its logits broke."""
        ...

    def pixels(self, ids: Any) -> list[NDArray[np.uint8] | None]:
        """(height, width, 3) uint8 per row, None where the decoder's output is not finite."""
        ...


class Transformers:
    """A multimodal model that makes images.

    Attributes:
        name, paradigm, batch, identity: see :class:`~mllmrisk.generators.base.Generator`.
    """

    accepts: ClassVar[type[Parameters]] = Parameters

    def __init__(self, common: Common, parameters: Parameters, folder: Path, *, device: str = "auto") -> None:
        """Loads the model; see :class:`~mllmrisk.generators.base.GeneratorKind`."""
        self.name = common.name
        self.paradigm = common.paradigm
        self.batch = 0 if parameters.batch == "auto" else parameters.batch
        self._what = f"generator {common.name!r}"
        on = choose(device, self._what)
        dtype = precision(parameters.dtype, parameters.cuda_dtype, on)
        placed = place(parameters.model, folder)
        self.family: Family | None
        family, kind = _load(placed, parameters, dtype, on.name, self._what)
        asked = Options(parameters.compile, parameters.channels_last)
        accelerated = loaded(self._what, lambda: settle(family.networks, asked, on, self._what))
        self._shapes = Shapes() if parameters.compile else None
        self.family = family
        self.identity = {
            "kind": common.kind,
            **origin(parameters.model, placed, parameters.revision, "config.json"),
            "class": kind,
            "dtype": dtype,
            "device": on.name,
            "hardware": on.model,
            "noise": "one torch.Generator per sample, on the CPU",
            "versions": versions(*_PACKAGES),
            "passed": passed(parameters),
            "acceleration": accelerated,
            "effective": {**family.effective, "safety_checker": False},
        }

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """One image per request, in order; see :class:`~mllmrisk.generators.base.Generator`."""
        make = self._make if self._shapes is None else partial(self._shapes.run, self._make)
        return batch_or_singles(make, requests)

    def close(self) -> None:
        """Frees the model's memory."""
        if self.family is not None:
            self.family = None
            free_caches()

    def _make(self, requests: Sequence[Request]) -> list[Made]:
        import torch

        if self.family is None:
            raise GeneratorError(f"{self._what} is closed")
        with quiet(), torch.no_grad():
            ids, failed = self.family.tokens(requests)
            images = self.family.pixels(ids)
        return [outcome(None if broken else image) for image, broken in zip(images, failed, strict=True)]


def _load(placed: str, parameters: Parameters, dtype: Precision, device: str, what: str) -> tuple[Family, str]:
    """The family's own class around the loaded model, and the model's class by name.

    Weights are safetensors, never pickle; code from a repository is never run.
    """
    import torch

    transformers = optional("transformers", what, "gen")
    where = {"revision": parameters.revision or "main", "trust_remote_code": False}
    found, _ = loaded(what, lambda: transformers.PreTrainedConfig.get_config_dict(placed, **where))
    model_type = found.get("model_type")
    if model_type not in _FAMILIES:
        raise UsageError(f"{what}: {_why_not(model_type)}")
    kind, ours = _FAMILIES[model_type]
    module, _, name = ours.partition(":")
    family: type[Any] = getattr(importlib.import_module(module), name)
    for key in _OPTIONAL:
        if getattr(parameters, key) is not None and key not in family.takes:
            raise UsageError(f"{what}: {key!r} has no effect on a model of the type {model_type!r}")

    def load() -> Family:
        model = getattr(transformers, kind).from_pretrained(
            placed, dtype=getattr(torch, dtype), use_safetensors=True, **where
        )
        processor = transformers.AutoProcessor.from_pretrained(placed, **where)
        made: Family = family(model.eval().to(device), processor, parameters)
        return made

    return loaded(what, lambda: guarded(load)), kind


def _why_not(model_type: object) -> str:
    known = ", ".join(sorted(_FAMILIES))
    if model_type == "multi_modality":
        return "these are the authors' original files; transformers reads the converted ones (deepseek-community/...)"
    return (
        f"no image is written by a model of the type {model_type!r} here (known: {known}); "
        f"a research repository runs through the kind 'command'"
    )
