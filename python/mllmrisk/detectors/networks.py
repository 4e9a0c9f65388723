"""Networks that transformers loads for a detector: a folder or a hub id at a commit, safetensors only, float32.

torch and transformers are imported inside functions only.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mllmrisk.detectors import places
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional, quiet
from mllmrisk.inference import first_line, parse_device

#: What decides a network's answer, in a folder of `save_pretrained`.
_DECIDING = ("*.safetensors", "*.json", "*.txt")


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a network and its tokenizer are.

    Attributes:
        folder: what `save_pretrained` wrote, from the TOML's folder on, or in the detector's part of the weights
            folder.
        hub: a model id of the Hugging Face hub, fetched once into its cache.
        commit: of the hub's repository, 40 hexadecimal digits.
    """

    folder: str | None = None
    hub: str | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        """Refuses a network that is in two places, or that may become another one."""
        if self.folder is not None and self.hub is not None:
            raise ValueError("give either folder, or hub and commit")
        if (self.hub is None) != (self.commit is None):
            raise ValueError("hub and commit go together")
        if self.commit is not None and not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError("commit must be a whole commit, 40 lower-case hexadecimal digits; branches and tags move")


class Loaded(NamedTuple):
    """A network in evaluation mode, its tokenizer, and what stands for both in a version."""

    model: Any
    words: Any
    fingerprint: str


class Loader:
    """Loads the networks of one detector onto one device.

    Attributes:
        device: torch's.
    """

    def __init__(self, name: str, folder: Path, *, device: str) -> None:
        """Finds the device.

        Args:
            name: the detector's.
            folder: of its TOML.
            device: `auto`, `cpu` or `cuda[:INDEX]`.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            UsageError: there is no such device.
        """
        self._name, self._folder, self._what = name, folder, f"detector {name!r}"
        self._torch = torch = optional("torch", self._what, "gen")
        self._transformers = optional("transformers", self._what, "gen")
        kind, index = parse_device(device)
        cuda = kind != "cpu" and torch.cuda.is_available()
        if kind == "cuda" and not (cuda and index < torch.cuda.device_count()):
            raise UsageError(
                f"{self._what}: {device} was asked for, but torch sees no such device; or use --device cpu"
            )
        self.device = torch.device("cuda", index) if cuda else torch.device("cpu")

    def load(self, network: Network, kind: str) -> Loaded:
        """The network of a class of transformers (`CLIPModel`), and its tokenizer.

        Raises:
            UsageError: it cannot be loaded, or a part of it has no weights there, which transformers would make up.
        """
        where, at = str(network.hub), {"revision": network.commit} if network.commit else {}
        if network.folder is not None:
            beside, own = self._folder / network.folder, places.home() / self._name / network.folder
            where = str(own if own.is_dir() and not beside.is_dir() else beside)
            if not Path(where).is_dir():
                raise UsageError(f"{self._what}: no such folder: {where}")
        exact = {**at, "dtype": self._torch.float32, "use_safetensors": True, "output_loading_info": True}
        try:
            with quiet(self._transformers):
                words = self._transformers.AutoTokenizer.from_pretrained(where, **at)
                model, report = getattr(self._transformers, kind).from_pretrained(where, **exact)
        except Exception as wrong:  # OSError, ValueError, SafetensorError, ImportError: as they come
            raise UsageError(f"{self._what}: {where} cannot be loaded: {first_line(wrong)}") from wrong
        if missing := sorted(report["missing_keys"]):
            raise UsageError(f"{self._what}: {where} has no weights for {missing[0]} ({len(missing)} missing)")
        fingerprint = f"{network.hub}@{network.commit}" if network.hub else _contents(Path(where))
        return Loaded(model.eval().requires_grad_(False).to(self.device), words, fingerprint)


@contextlib.contextmanager
def single(torch: Any) -> Iterator[None]:
    """One torch thread inside: with more, float32 sums are taken in another order, and results move."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _contents(folder: Path) -> str:
    """A digest of the files that decide what a network answers; it reads every weight once."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in _DECIDING for path in folder.glob(pattern)}):
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
