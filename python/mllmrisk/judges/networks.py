"""Networks behind judges, loaded by transformers: a hub id at a commit or a local folder, safetensors only.

A picture goes through a CPU alone, so that its score is the same in any company; a GPU gets batches of one fixed size.
torch and transformers are imported inside functions only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from mllmrisk import trace
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional, quiet
from mllmrisk.inference import first_line, parse_device
from mllmrisk.judges.described import Pixels

T = TypeVar("T")

#: What decides a network's answer, in a folder of `save_pretrained`.
_DECIDING = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class Network(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a network is.

    Attributes:
        hub: a model id of the Hugging Face hub, fetched once into its cache.
        revision: commit, tag or branch of the hub's repository; a commit makes the judge the same for ever. What was
            loaded is part of the version in any case.
        folder: a folder that `save_pretrained` wrote; relative to the TOML.
        dtype: of the weights.
        batch: pictures per call on a GPU.
    """

    hub: str | None = None
    revision: str | None = None
    folder: str | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    batch: int = 16

    def __post_init__(self) -> None:
        """Refuses a network that is in no place, or in two."""
        if (self.hub is None) == (self.folder is None) or (self.revision and self.hub is None):
            raise ValueError("give either hub (and revision), or folder")
        if self.batch < 1:
            raise ValueError("batch must be at least 1")


class Loader:
    """Loads the parts of one network onto a device.

    Attributes:
        device: torch's.
        what: whose network it is, for messages.
    """

    def __init__(self, network: Network, folder: Path, *, device: str, what: str) -> None:
        """Finds device and place.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            UsageError: CUDA was asked for and is not there; the folder is not there.
        """
        torch = optional("torch", what, "gen")
        self._transformers = optional("transformers", what, "gen")
        kind, index = parse_device(device)
        cuda = kind != "cpu" and torch.cuda.is_available()
        if kind == "cuda" and not (cuda and index < torch.cuda.device_count()):
            raise UsageError(f"{what}: {device} was asked for, but torch sees no such device; or use --device cpu")
        self.device = torch.device("cuda", index) if cuda else torch.device("cpu")
        self.what = what
        self._network = network
        self._dtype = getattr(torch, network.dtype)
        self._place = str(network.hub or folder / str(network.folder))
        if network.hub is None and not Path(self._place).is_dir():
            raise UsageError(f"{what}: no such folder: {self._place}")

    def part(self, auto: str, **arguments: Any) -> Any:
        """What transformers' `auto` class (`AutoImageProcessor`, `AutoConfig`, ...) finds there."""
        return self._loaded(lambda place, at: getattr(self._transformers, auto).from_pretrained(place, **at), arguments)

    def model(self, auto: str, **arguments: Any) -> Any:
        """The network of transformers' class `auto`, in evaluation mode, on the device; weights from safetensors.

        Raises:
            UsageError: it cannot be loaded, or a part of it has no weights there, which transformers would make up.
        """
        given = {**arguments, "dtype": self._dtype, "use_safetensors": True, "output_loading_info": True}
        model, report = self.part(auto, **given)
        if missing := sorted(report["missing_keys"]):
            raise UsageError(f"{self.what}: {self._place} has no weights for {missing[0]} ({len(missing)} missing)")
        return model.eval().requires_grad_(False).to(self.device)

    def _loaded(self, load: Callable[[str, dict[str, Any]], T], arguments: dict[str, Any]) -> T:
        revision = {"revision": self._network.revision} if self._network.revision else {}
        try:
            with quiet(self._transformers):
                return load(self._place, {**revision, **arguments, "trust_remote_code": False})
        except Exception as wrong:  # OSError, ValueError, KeyError, SafetensorError, ImportError: as they come
            raise UsageError(f"{self.what}: {self._place} cannot be loaded: {first_line(wrong)}") from wrong

    def fingerprint(self) -> str:
        """What was loaded: the hub's commit, or a digest of the folder's files."""
        if self._network.hub is not None:
            find = self._transformers.utils.cached_file
            config = self._loaded(lambda place, at: find(place, "config.json", revision=at.get("revision")), {})
            return f"{self._network.hub}@{Path(config).parent.name}"  # the hub's cache: snapshots/COMMIT/config.json
        folder = Path(self._place)
        total = hashlib.sha256()
        for path in sorted({path for pattern in _DECIDING for path in folder.glob(pattern)}):
            with path.open("rb") as file:
                total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()


def each(
    pictures: Sequence[Pixels | str],
    run: Callable[[list[Any]], Sequence[T]],
    *,
    network: Network,
    device: Any,
    threads: int,
) -> list[T | str]:
    """Runs a network over pictures; a reason stays in its place.

    Args:
        pictures: (H, W, 3) uint8 each, or the reason why there is none.
        run: answers for a list of `PIL.Image`s, in order. On a CPU it gets one at a time: the same bits in any
            company. On a GPU it gets `network.batch`, the last batch filled up with copies, so that all calls have one
            shape.
        network: says the batch.
        device: torch's.
        threads: torch's, for the time of the call; another count may move a float32 answer by 1e-5.
    """
    import torch
    from PIL import Image

    size = network.batch if device.type == "cuda" else 1
    there = [Image.fromarray(picture) for picture in pictures if not isinstance(picture, str)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    answers: list[T] = []
    try:
        with torch.inference_mode():
            for start in range(0, len(there), size):
                part = there[start : start + size]
                with trace.span("model"):
                    answers += list(run(part + part[:1] * (size - len(part))))[: len(part)]
    finally:
        torch.set_num_threads(before)
    given = iter(answers)
    return [picture if isinstance(picture, str) else next(given) for picture in pictures]
