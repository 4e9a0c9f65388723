"""Published weights, read as plain tensors and loaded whole: no code of a file runs, no tensor is left out unsaid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mllmrisk.detectors.architectures import State
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.inference import first_line

#: Where training scripts put the state dict among epoch, optimiser and the like.
_WRAPPERS = ("model", "state_dict", "model_state_dict", "net")
#: What an encoder's folder or hub repository holds, best first.
_ENCODER_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)


def read(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file or of a state dict that torch saved, on the CPU.

    A state dict inside a training checkpoint is found, and the `module.` of a data-parallel run taken off its names.

    Raises:
        UsageError: no such file, a pickle that is more than tensors, or no state dict.
        MissingExtraError: torch or safetensors is not installed.
    """
    if not path.is_file():
        raise UsageError(f"no weights file {path}")
    if path.suffix == ".safetensors":
        load = optional("safetensors.torch", "reading weights", "gen").load_file
        try:
            return dict(load(str(path)))
        except Exception as wrong:  # SafetensorError, OSError: as they come
            raise UsageError(f"{path}: not a safetensors file: {first_line(wrong)}") from wrong
    torch = optional("torch", "reading weights", "gen")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as wrong:  # RuntimeError, UnpicklingError, EOFError: as they come
        raise UsageError(
            f"{path}: more than tensors, or no checkpoint ({type(wrong).__name__}). A whole pickled module runs code "
            f"when it is loaded and is refused. In a container without network and without anything of yours, with the "
            f"author's code: `torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW)`; then give NEW"
        ) from wrong
    found = next((found[key] for key in _WRAPPERS if _is_state(_item(found, key), torch)), found)
    if not _is_state(found, torch):
        raise UsageError(f"{path}: holds {type(found).__name__}, not a state dict of tensors")
    if all(name.startswith("module.") for name in found):
        return {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return dict(found)


def _item(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, dict) else None


def _is_state(found: Any, torch: Any) -> bool:
    return (
        isinstance(found, dict)
        and bool(found)
        and all(isinstance(key, str) and isinstance(part, torch.Tensor) for key, part in found.items())
    )


def read_encoder(place: str) -> dict[str, Any]:
    """The tensors of an encoder: a file, a folder, or a repository of the Hugging Face hub (`laion/CLIP-...`).

    Raises:
        UsageError: nothing is there that can be read.
    """
    path = Path(place)
    if path.is_file():
        return read(path)
    if path.is_dir():
        for name in _ENCODER_FILES:
            if (path / name).is_file():
                return read(path / name)
        raise UsageError(f"{path} holds none of {', '.join(_ENCODER_FILES)}")
    if place.count("/") != 1 or place.startswith((".", "/")):
        raise UsageError(f"no encoder at {place}: give a file, a folder, or a hub repository such as laion/CLIP-...")
    hub = optional("huggingface_hub", "an encoder of the hub", "gen")
    reasons = []
    for name in _ENCODER_FILES:
        try:
            return read(Path(hub.hf_hub_download(place, name)))
        except UsageError:
            raise
        except Exception as wrong:  # no such file, no such repository, no network: as they come
            reasons.append(f"{name}: {first_line(wrong)}")
    raise UsageError(f"{place}: nothing that can be read ({reasons[0]})")


def fill(module: Any, state: State, *, what: str) -> None:
    """Loads a state dict into a module: every tensor, every name, every shape.

    Raises:
        UsageError: a name is missing or unexpected, or a shape differs; the message names the first ones.
    """
    wanted = module.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        parts = [f"no {_named(missing)}"] if missing else []
        parts += [f"unexpected {_named(unexpected)}"] if unexpected else []
        raise UsageError(f"{what}: these weights are of another network: {'; '.join(parts)}")
    for name, tensor in wanted.items():
        if tensor.shape != state[name].shape:
            raise UsageError(f"{what}: {name} has shape {tuple(state[name].shape)}, the network {tuple(tensor.shape)}")
    module.load_state_dict(dict(state), strict=True)


def _named(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def without(state: State, prefixes: Iterable[str]) -> dict[str, Any]:
    """A state without the tensors whose names begin with one of `prefixes`: parts that the detector never runs."""
    unused = tuple(prefixes)
    return {name: tensor for name, tensor in state.items() if not name.startswith(unused)}


def under(prefix: str, state: State) -> dict[str, Any]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def prefixed(prefix: str, state: State) -> dict[str, Any]:
    """The same tensors with `prefix` before each name."""
    return {prefix + name: tensor for name, tensor in state.items()}
