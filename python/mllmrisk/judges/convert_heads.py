"""Turns published heads into safetensors, once: `python -m mllmrisk.judges.convert_heads NAME=FILE...`.

Q16's prompts are a pickle and the multi-headed classifier's are torch checkpoints. Neither is ever loaded by a judge.
Here they are read without running what they may contain: the pickle by an unpickler that knows NumPy arrays and nothing
else, checkpoints with `weights_only=True`.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, ClassVar

import click
import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.extras import optional
from mllmrisk.judges.clip_heads import weights_folder

#: The published files have at most 1.2 MB.
_LARGEST = 64 * 2**20


class ArrayUnpickler(pickle.Unpickler):
    """Knows what a pickled NumPy array is made of; every other name is refused before it is imported."""

    known: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, _encoding: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """One of the names above, or NumPy's array constructor under its old or new module name."""
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]  # where this NumPy keeps it
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return self.known[module, name]


def pickled_array(path: Path) -> NDArray[Any]:
    """The one numeric array of a pickle.

    Raises:
        UsageError: the pickle holds anything else.
    """
    try:
        with path.open("rb") as file:
            found = ArrayUnpickler(file).load()
    except Exception as wrong:  # a broken pickle raises what it likes
        raise UsageError(f"{path}: not the pickle of an array: {wrong}") from wrong
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        raise UsageError(f"{path}: holds {type(found).__name__}, not an array of floats")
    return found


def tensors(path: Path) -> dict[str, NDArray[Any]]:
    """What a published head holds: `prompts` of a pickle or of a single tensor, or a state dict by its own names.

    Raises:
        UsageError: too large, or neither.
        MissingExtraError: torch is not installed.
    """
    if path.stat().st_size > _LARGEST:
        raise UsageError(f"{path}: larger than any published head")
    if path.suffix in (".p", ".pkl", ".pickle"):
        return {"prompts": pickled_array(path)}
    torch = optional("torch", "the conversion of a checkpoint", "gen")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as wrong:  # torch raises RuntimeError, UnpicklingError, ...
        raise UsageError(f"{path}: not a checkpoint of weights alone: {str(wrong).splitlines()[0]}") from wrong
    if isinstance(found, torch.Tensor):
        return {"prompts": found.detach().float().numpy()}
    if isinstance(found, dict) and found and all(isinstance(part, torch.Tensor) for part in found.values()):
        # batch norm's count of batches is an integer, and decides nothing
        return {name: part.detach().numpy() for name, part in found.items() if part.is_floating_point()}
    raise UsageError(f"{path}: holds {type(found).__name__}, neither a tensor nor a state dict")


@click.command()
@click.argument("heads", nargs=-1, required=True, metavar="NAME=FILE...")
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write to (default: where judges look).")
def main(heads: tuple[str, ...], to: Path | None) -> None:
    """Write NAME.safetensors for each published FILE (.p, .pkl, .pt) and print its sha256."""
    folder = to or weights_folder()
    try:
        save = optional("safetensors.numpy", "the conversion", "gen").save
        for head in heads:
            name, given, file = head.partition("=")
            if not given or not name.isidentifier() or not Path(file).is_file():
                raise UsageError(f"{head!r} is not NAME=FILE with a file that exists")
            data = save({key: np.ascontiguousarray(part) for key, part in sorted(tensors(Path(file)).items())})
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.safetensors"
            path.write_bytes(data)
            click.echo(f"{hashlib.sha256(data).hexdigest()}  {path}")
    except MllmriskError as wrong:
        raise click.UsageError(str(wrong)) from wrong


if __name__ == "__main__":
    main()
