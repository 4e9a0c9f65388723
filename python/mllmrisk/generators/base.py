"""What a generator is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import UsageError
from mllmrisk.records import Outcome, Paradigm

PACKAGE = Path(__file__).parents[1]


class Request(NamedTuple):
    """One image that is asked for.

    Attributes:
        sample: id of the sample, for logs and file names; it says nothing of the prompt.
        prompt: the text.
        seed: of this image alone, below 2**32: the same whatever else is in the batch.
    """

    sample: str
    prompt: str
    seed: int


class Made(NamedTuple):
    """What came of a request.

    Attributes:
        outcome: `ok` has an image, any other has a reason.
        image: encoded bytes as a provider sent them (kept untouched: their metadata are evidence), or
            (height, width, 3) uint8 RGB, which is stored lossless.
        reason: one short word or code: `moderation_blocked`, `timeout`, `not_finite`.
        facts: what else is to be kept with the sample: a revised prompt, a provider's request id.
    """

    outcome: Outcome
    image: bytes | NDArray[np.uint8] | None = None
    reason: str | None = None
    facts: dict[str, str] | None = None


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every generator's TOML has, whatever its kind.

    Attributes:
        kind: which adapter runs it (`mllmrisk list generators`).
        seconds, usd: an image's cost where somebody measured or published it, for `--dry-run`; `basis` says how.
        mib: size of an image on disk, for `--dry-run`.
    """

    name: str
    version: str
    kind: str
    paradigm: Paradigm
    about: str
    licence: str = ""
    seconds: float | None = None
    usd: float | None = None
    mib: float | None = None
    basis: str = ""


class Generator(Protocol):
    """Makes images from prompts.

    Attributes:
        name, paradigm: as in its TOML.
        batch: requests that it likes to get at once; the caller may give fewer. 0: the caller looks for the best.
        identity: model id and revision, dtype, device, library versions, arguments as passed and as effective: all
            that is needed to make the same images again, as JSON values. Never a key or a header. Under `effective`,
            `safety_checker` says whether something may put a black picture in place of another; where nothing says
            it, a black picture counts as filtered.
    """

    name: str
    paradigm: Paradigm
    batch: int
    identity: dict[str, Any]

    def generate(self, requests: Sequence[Request]) -> list[Made]:
        """Makes one image per request, in order; what fails for one prompt is that request's outcome.

        Raises:
            OutOfMemoryError: the batch does not fit; the caller halves it.
            GeneratorError: nothing more can be made by this generator.
        """
        ...

    def close(self) -> None:
        """Frees models, processes and connections; calling it twice is harmless."""
        ...


class GeneratorKind(Protocol):
    """What the table of kinds holds: a class that loads a generator.

    Attributes:
        accepts: the keys of its TOML beyond :class:`Common`, with defaults.
    """

    accepts: ClassVar[type[msgspec.Struct]]

    def __call__(self, common: Common, parameters: Any, folder: Path, *, device: str) -> Generator:
        """Loads it.

        Args:
            common: the keys that every generator has.
            parameters: an instance of `accepts`.
            folder: where the TOML is; relative paths in it start there.
            device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

        Raises:
            MissingExtraError: a package is not installed.
            UsageError: the model is not there or cannot be used as described.
        """
        ...


def place(model: str, folder: Path) -> str:
    """Where a model is: `package:weights/NAME` came with mllmrisk, `./NAME` or `/NAME` is a folder, else a hub id.

    Raises:
        UsageError: no such folder.
    """
    if model.startswith("package:"):
        path = PACKAGE / model.removeprefix("package:")
    elif model.startswith((".", "/", "~")):
        path = (folder / Path(model).expanduser()).resolve()
    else:
        return model
    if not path.is_dir():
        raise UsageError(f"no such folder: {path}")
    return str(path)
