"""Any text-to-image pipeline of diffusers, by hub id or local folder."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from mllmrisk.errors import GeneratorError, UsageError
from mllmrisk.extras import optional
from mllmrisk.generators.acceleration import Mode, Options, Shapes, check, settle
from mllmrisk.generators.base import Common, Made, Request, place
from mllmrisk.generators.guarded import batch_or_singles, free_caches, guarded, random_streams
from mllmrisk.generators.pixels import outcome, to_uint8
from mllmrisk.generators.pretrained import loaded, origin, passed, quiet
from mllmrisk.generators.torch_device import Device, Precision, choose, precision, versions
from mllmrisk.records import Outcome
from mllmrisk.registry import did_you_mean

#: Arguments of a pipeline's call that are set here and nowhere else.
_OURS = frozenset(
    {
        *("prompt", "generator", "output_type", "return_dict", "num_images_per_prompt"),
        *("callback_on_step_end", "callback"),
    }
)
_PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "safetensors", "accelerate")


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a TOML of the kind `diffusers`, beyond the common ones.

    Attributes:
        model: hub id, `./FOLDER`, `/FOLDER` or `package:weights/NAME`.
        revision: branch, tag or commit of a hub id.
        variant: file variant of the weights: `fp16`.
        dtype: `auto` is float32 on a CPU and `cuda_dtype` on a GPU.
        steps, guidance, width, height: `num_inference_steps`, `guidance_scale`, and so on; the pipeline's own
            default where left out.
        negative_prompt: refused where the pipeline takes none.
        offload: `model` keeps one component at a time on the GPU, `sequential` one layer: less memory, slower.
        safety_checker: on: what it flags ends as `filtered`. Off: it is not loaded.
        batch: prompts per call; `auto` looks for the size that gives most images per second.
        compile: mode of `torch.compile` for the denoiser and the decoder, or false.
        channels_last: lays their convolutions out with channels last.
        drop: components that are not loaded (`text_encoder_3`, `tokenizer_3`: SD3.5 without T5).
        extra: further arguments of the pipeline's call.
    """

    model: str
    revision: str | None = None
    variant: str | None = None
    dtype: Literal["auto"] | Precision = "auto"
    cuda_dtype: Precision = "bfloat16"
    steps: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    negative_prompt: str | None = None
    offload: Literal["none", "model", "sequential"] = "none"
    safety_checker: bool = False
    batch: int | Literal["auto"] = 4
    compile: bool | Mode = False
    channels_last: bool = False
    drop: list[str] = []
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Refuses numbers that no pipeline can use.

        Raises:
            ValueError: shown as the TOML's error.
        """
        for name in ("steps", "width", "height"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        check(self.compile, self.batch)
        if self.compile and self.offload != "none":
            raise ValueError("compile and offload exclude each other: what moves between devices is not compiled")


class Diffusers:
    """A pipeline that makes images.

    Attributes:
        name, paradigm, batch, identity: see :class:`~mllmrisk.generators.base.Generator`.
    """

    accepts: ClassVar[type[Parameters]] = Parameters

    def __init__(self, common: Common, parameters: Parameters, folder: Path, *, device: str = "auto") -> None:
        """Loads the pipeline; see :class:`~mllmrisk.generators.base.GeneratorKind`."""
        self.name = common.name
        self.paradigm = common.paradigm
        self.batch = 0 if parameters.batch == "auto" else parameters.batch
        self._what = f"generator {common.name!r}"
        self._device = choose(device, self._what)
        self._dtype = precision(parameters.dtype, parameters.cuda_dtype, self._device)
        placed = place(parameters.model, folder)
        self._pipeline, options = _load(placed, parameters, self._dtype, self._what)
        self._arguments = _arguments(self._pipeline, parameters, self._what)
        loaded(self._what, lambda: _settle(self._pipeline, parameters.offload, self._device, self._what))
        asked = Options(parameters.compile, parameters.channels_last)
        accelerated = loaded(self._what, lambda: settle(_networks(self._pipeline), asked, self._device, self._what))
        self._shapes = Shapes() if parameters.compile else None
        effective = _effective(self._pipeline, self._arguments)
        self._limits = _token_limits(self._pipeline, effective)
        self.identity = {
            "kind": common.kind,
            **origin(parameters.model, placed, parameters.revision, "model_index.json"),
            "class": type(self._pipeline).__name__,
            "components": {name: type(part).__name__ for name, part in self._pipeline.components.items() if part},
            "dtype": self._dtype,
            "device": self._device.name,
            "hardware": self._device.model,
            "noise": "one torch.Generator per sample, on the CPU",
            "versions": versions(*_PACKAGES),
            "passed": passed(parameters),
            "loading": options,
            "acceleration": accelerated,
            "effective": effective,
        }

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """One image per request, in order; see :class:`~mllmrisk.generators.base.Generator`.

        A text that is longer than a text encoder reads has `truncated` among its facts. It counts the plain prompt's
        tokens against each tokenizer's limit: a template that the pipeline puts around it is not counted.
        """
        if self._pipeline is None:
            raise GeneratorError(f"{self._what} is closed")
        make = self._make if self._shapes is None else partial(self._shapes.run, self._make)
        return batch_or_singles(make, requests)

    def close(self) -> None:
        """Frees the pipeline's memory."""
        if self._pipeline is None:
            return
        self._pipeline.remove_all_hooks()
        self._pipeline = None
        free_caches()

    def _make(self, requests: Sequence[Request]) -> list[Made]:
        # one text per prompt everywhere: some pipelines do not repeat a single negative prompt
        arguments = {
            name: [value] * len(requests) if name.startswith("negative_prompt") and isinstance(value, str) else value
            for name, value in self._arguments.items()
        }
        with quiet():
            made = self._pipeline(
                prompt=[request.prompt for request in requests],
                generator=random_streams(requests),
                output_type="pt",
                **arguments,
            )
        images = to_uint8(made.images, layout="NCHW", rounding="nearest")
        if len(images) != len(requests):
            raise GeneratorError(f"{self._what} returned {len(images)} images for {len(requests)} prompts")
        flags = getattr(made, "nsfw_content_detected", None) or [False] * len(requests)
        return [
            # the checker has blackened it: there is no image to keep
            Made(Outcome.FILTERED, reason="safety_checker", facts=facts) if flagged else outcome(image, facts)
            for image, flagged, facts in zip(images, flags, map(self._facts, requests), strict=True)
        ]

    def _facts(self, request: Request) -> dict[str, str] | None:
        cut = []
        with quiet():
            for name, (tokenizer, limit) in self._limits.items():
                length = len(tokenizer(request.prompt).input_ids)
                if length > limit:
                    cut.append(f"{name} {length}>{limit}")
        return {"truncated": ", ".join(cut)} if cut else None


def _load(placed: str, parameters: Parameters, dtype: Precision, what: str) -> tuple[Any, dict[str, Any]]:
    """The pipeline on the CPU, and what was said to its class beyond the weights.

    `use_safetensors` refuses pickled weights; code from a repository is never run.
    """
    import torch

    diffusers = optional("diffusers", what, "gen")
    described: dict[str, Any] = loaded(
        what, lambda: diffusers.DiffusionPipeline.load_config(placed, revision=parameters.revision)
    )
    name = described.get("_class_name")
    kind = getattr(diffusers, str(name), None)
    if kind is None:
        raise UsageError(f"{what}: the installed diffusers {diffusers.__version__} has no pipeline {name!r}")
    components = sorted(part for part, value in described.items() if isinstance(value, list))
    for part in parameters.drop:
        if part not in components:
            raise UsageError(f"{what}: there is no component {part!r} to drop.{did_you_mean(part, components)}")
    options: dict[str, Any] = dict.fromkeys(parameters.drop)
    accepted = inspect.signature(kind.__init__).parameters
    if "safety_checker" in accepted and not parameters.safety_checker:
        options["safety_checker"] = None
        options |= {"requires_safety_checker": False} if "requires_safety_checker" in accepted else {}
    if "add_watermarker" in accepted:  # else it depends on whether another package happens to be installed
        options["add_watermarker"] = False
    pipeline = loaded(
        what,
        lambda: guarded(
            lambda: kind.from_pretrained(
                placed,
                revision=parameters.revision,
                variant=parameters.variant,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                **options,
            )
        ),
    )
    if pipeline.dtype != getattr(torch, dtype):  # an older diffusers passes over an argument that it does not know
        raise UsageError(f"{what}: {dtype} was asked for, and diffusers {diffusers.__version__} loads {pipeline.dtype}")
    if parameters.safety_checker and getattr(pipeline, "safety_checker", None) is None:
        raise UsageError(f"{what}: safety_checker = true, and this model comes without one")
    return pipeline, options


def _networks(pipeline: Any) -> dict[str, Any]:
    """Where a pipeline's time goes: what takes noise away, and what makes pixels of the rest."""
    found = {name: getattr(pipeline, name, None) for name in ("unet", "transformer")}
    found["vae.decoder"] = getattr(getattr(pipeline, "vae", None), "decoder", None)
    return {name: network for name, network in found.items() if network is not None}


def _settle(pipeline: Any, offload: str, device: Device, what: str) -> None:
    """To its device, in evaluation mode, without a progress bar."""
    for part in pipeline.components.values():
        if hasattr(part, "eval") and hasattr(part, "parameters"):
            part.eval()
    pipeline.set_progress_bar_config(disable=True)
    if offload != "none" and not device.cuda:
        raise UsageError(f"{what}: offload = {offload!r} needs a GPU to offload from; on {device.name} use 'none'")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device.name)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device.name)
    else:
        guarded(lambda: pipeline.to(device.name))


def _arguments(pipeline: Any, parameters: Parameters, what: str) -> dict[str, Any]:
    """The call's arguments, once each of them has an effect.

    Raises:
        UsageError: the pipeline has no such argument, or would ignore it.
    """
    signature = inspect.signature(type(pipeline).__call__).parameters
    known = {name for name, one in signature.items() if one.kind is not one.VAR_KEYWORD} - _OURS - {"self"}
    named = {
        "num_inference_steps": parameters.steps,
        "guidance_scale": parameters.guidance,
        "width": parameters.width,
        "height": parameters.height,
        "negative_prompt": parameters.negative_prompt,
    }
    given = {name: value for name, value in named.items() if value is not None}
    twice = sorted(given.keys() & parameters.extra.keys())
    if twice:
        raise UsageError(f"{what}: {twice[0]!r} is given twice, by its own key and in extra")
    given |= parameters.extra
    if "generator" not in signature or "output_type" not in signature or "prompt" not in signature:
        raise UsageError(f"{what}: {type(pipeline).__name__} is no text-to-image pipeline")
    for name in given:
        if name in _OURS:
            raise UsageError(f"{what}: {name!r} is set for every call and cannot be given")
        if name not in known:
            raise UsageError(f"{what}: {type(pipeline).__name__} takes no {name!r}.{did_you_mean(name, known)}")
    _refuse_ignored_guidance(pipeline, given, signature, what)
    return given


def _refuse_ignored_guidance(pipeline: Any, given: dict[str, Any], signature: Any, what: str) -> None:
    """Pipelines with two kinds of guidance ignore one of them in silence; a record must not say otherwise."""
    if "true_cfg_scale" not in signature:
        return
    scale = given.get("true_cfg_scale", signature["true_cfg_scale"].default)
    if scale > 1 and given.get("negative_prompt") is None:
        raise UsageError(
            f"{what}: true_cfg_scale = {scale} has no effect without a negative_prompt (' ' will do); "
            f"or set extra.true_cfg_scale = 1.0"
        )
    distilled = getattr(getattr(pipeline.transformer, "config", None), "guidance_embeds", None)
    if "guidance_scale" in given and distilled is False:
        raise UsageError(f"{what}: this model ignores guidance; set extra.true_cfg_scale in its place")


def _effective(pipeline: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Every plain argument of the call as it stands, and the scheduler's settings.

    A width or height that nobody gave is null: the pipeline's own default, and the images show it.
    """
    signature = inspect.signature(type(pipeline).__call__).parameters
    defaults = {name: one.default for name, one in signature.items() if one.default is not one.empty}
    scheduler = getattr(pipeline, "scheduler", None)
    settings = dict(scheduler.config) if scheduler is not None else {}
    return {
        "arguments": {"width": None, "height": None} | _plain(defaults, without=_OURS) | given,
        "scheduler": {"class": type(scheduler).__name__, **_plain(settings)},
        "watermark": getattr(pipeline, "watermark", None) is not None,
        "safety_checker": getattr(pipeline, "safety_checker", None) is not None,
    }


def _plain(values: dict[str, Any], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """What JSON can hold, and what is set at all."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name in without or name.startswith(("_", "callback")):
            continue
        if isinstance(value, list | tuple) and all(isinstance(one, bool | int | float | str) for one in value):
            kept[name] = list(value)
        elif isinstance(value, bool | int | float | str):
            kept[name] = value
    return kept


def _token_limits(pipeline: Any, effective: dict[str, Any]) -> dict[str, tuple[Any, int]]:
    """Each tokenizer with the number of tokens that its encoder reads."""
    longest = effective["arguments"].get("max_sequence_length")
    limits = {}
    for name, part in pipeline.components.items():
        if name.startswith("tokenizer") and part is not None:
            clip = "CLIP" in type(part).__name__
            limits[name] = (part, part.model_max_length if clip or longest is None else longest)
    return limits
