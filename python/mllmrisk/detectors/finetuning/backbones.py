"""Builds the network of a backbone's TOML: from weights or from its shape, with what is to be trained switched on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mllmrisk.detectors.finetuning.recipe import Backbone
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.inference import first_line

#: The layer that each architecture decides with: it starts at random and is trained in every mode.
_HEADS = {"siglip": "classifier", "vit": "classifier", "npr": "fc1", "micro-cnn": "classifier"}
_EXTRA = "finetune"


class Network(NamedTuple):
    """A network that can be trained.

    Attributes:
        module: (m, 3, h, w) float32 to (m,) logits; parameters that are not trained want no gradient.
        head: start of the names of the head's parameters.
        origin: which weights it started from, for the record.
        merged: the network as it is carried away, low-rank additions folded into its weights; called once, after
            training.
    """

    module: Any
    head: str
    origin: dict[str, str]
    merged: Callable[[], Any]

    def trained(self) -> dict[str, Any]:
        """What training changes: parameters that want a gradient, and buffers (running means)."""
        wanted = {name for name, value in self.module.named_parameters() if value.requires_grad}
        wanted |= {name for name, _ in self.module.named_buffers()}
        return {name: value for name, value in self.module.state_dict().items() if name in wanted}


def build(backbone: Backbone, folder: Path, *, seed: int) -> Network:
    """The network of a backbone, on the CPU.

    Args:
        backbone: what its TOML says.
        folder: where relative paths of the TOML start.
        seed: of everything that starts at random; torch's generator of random numbers is as before afterwards.

    Raises:
        MissingExtraError: torch, transformers or peft is not installed.
        UsageError: the weights cannot be loaded, or do not fit.
    """
    torch = optional("torch", f"fine-tuning {backbone.name!r}", _EXTRA)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if backbone.architecture in {"siglip", "vit"}:
                module, origin = _pretrained(backbone, folder)
            else:
                module, origin = _own(backbone, folder)
        except TypeError as wrong:  # a key of [shape] that the class does not have
            raise UsageError(f"backbone {backbone.name!r}: [shape]: {first_line(wrong)}") from wrong
        return _switched(backbone, module, origin)


def _own(backbone: Backbone, folder: Path) -> tuple[Any, dict[str, str]]:
    from mllmrisk.detectors.finetuning import networks

    module = {"npr": networks.Npr, "micro-cnn": networks.MicroCnn}[backbone.architecture](**backbone.shape)
    weights = backbone.weights
    if weights is None:
        return module, {"start": "random"}
    path = folder / str(weights.file)
    if weights.file is None or path.suffix != ".safetensors":
        raise UsageError(f"backbone {backbone.name!r}: its weights are a safetensors file of a state dict: file = ...")
    load = optional("safetensors.torch", f"backbone {backbone.name!r}", _EXTRA).load_file
    try:
        module.load_state_dict(load(path), strict=True)
    except Exception as wrong:  # OSError, SafetensorError, RuntimeError for names and sizes
        raise UsageError(f"backbone {backbone.name!r}: {path}: {first_line(wrong)}") from wrong
    return module, {"start": path.name, "sha256": _digest(path)}


def _pretrained(backbone: Backbone, folder: Path) -> tuple[Any, dict[str, str]]:
    from mllmrisk.detectors.finetuning.networks import Logit

    transformers = optional("transformers", f"backbone {backbone.name!r}", _EXTRA)
    siglip = backbone.architecture == "siglip"
    model_class = transformers.SiglipForImageClassification if siglip else transformers.ViTForImageClassification
    weights = backbone.weights
    if weights is None:
        with quiet():
            if siglip:
                vision = transformers.SiglipVisionConfig(**{"vision_use_head": False, **backbone.shape})
                config = transformers.SiglipConfig(vision_config=vision, num_labels=1)
            else:
                config = transformers.ViTConfig(**backbone.shape, num_labels=1)
            return Logit(model_class(config)), {"start": "random"}
    if weights.file is not None:
        raise UsageError(f"backbone {backbone.name!r}: transformers loads a folder or a hub id, not a file")
    place = weights.hub or str(folder / str(weights.folder))
    if weights.hub is None and not Path(place).is_dir():
        raise UsageError(f"backbone {backbone.name!r}: no such folder: {place}")
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                place,
                revision=weights.revision or "main",
                num_labels=1,
                ignore_mismatched_sizes=True,  # a head of other labels; anything else that does not fit is refused
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
                output_loading_info=True,
            )
    except Exception as wrong:  # OSError, ValueError, KeyError, SafetensorError: as they come
        raise UsageError(f"backbone {backbone.name!r}: {place} cannot be loaded: {first_line(wrong)}") from wrong
    wrongs = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
    if lost := sorted(key for key in wrongs if not key.startswith("classifier")):
        raise UsageError(f"backbone {backbone.name!r}: {place} has no weights that fit {lost[0]} ({len(lost)} in all)")
    if weights.hub is not None:
        return Logit(model), {"start": weights.hub, "revision": str(weights.revision)}
    files = sorted(Path(place).glob("*.safetensors"))
    return Logit(model), {"start": Path(place).name, "sha256": " ".join(_digest(path) for path in files)}


def _switched(backbone: Backbone, module: Any, origin: dict[str, str]) -> Network:
    """Switches on what the mode trains."""
    head = _HEADS[backbone.architecture]
    inside = "model." if backbone.architecture in {"siglip", "vit"} else ""
    if backbone.mode == "lora":
        return _with_lora(backbone, module, head, inside, origin)
    if backbone.mode == "head":
        for name, value in module.named_parameters():
            value.requires_grad_(name.startswith(inside + head))
    return Network(module, inside + head, origin, lambda: module)


def _with_lora(backbone: Backbone, module: Any, head: str, inside: str, origin: dict[str, str]) -> Network:
    peft = optional("peft", "mode lora", _EXTRA)
    lora = backbone.lora
    assert lora is not None
    config = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets)
    if not any(name.endswith(target) for name, _ in module.named_modules() for target in lora.targets):
        raise UsageError(f"backbone {backbone.name!r}: [lora] targets name no layer: {', '.join(lora.targets)}")
    with quiet():
        adapted = peft.inject_adapter_in_model(config, module)
    for name, value in adapted.named_parameters():
        if name.startswith(inside + head):
            value.requires_grad_(True)

    def merged() -> Any:
        for _, layer in list(adapted.named_modules()):
            for name, child in list(layer.named_children()):
                if isinstance(child, peft.tuners.tuners_utils.BaseTunerLayer):
                    child.merge(safe_merge=True)
                    setattr(layer, name, child.get_base_layer())
        return adapted

    return Network(adapted, inside + head, origin, merged)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and advice; what goes wrong is in our errors."""
    log = optional("transformers", "a backbone", _EXTRA).utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that the latter has renamed.
            warnings.filterwarnings("ignore", category=FutureWarning, message="`is_gradient_checkpointing`")
            yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()


def _digest(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
