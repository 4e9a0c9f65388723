"""Suites and profiles: versioned TOML, read into frozen structs; an unknown key is an error.

A suite says *what* is measured, a profile *who*. Both come from the package (`configs/`) or from the user's file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tomllib
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.registry import did_you_mean

CONFIGS = Path(__file__).parent / "configs"

S = TypeVar("S", bound=msgspec.Struct)


class Captions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Benign prompts whose images stand against photographs in detection.

    Attributes:
        sets: prompt sets.
        samples: images per prompt and generator.
        take: at most so many prompts of each set.
    """

    sets: list[str]
    samples: int = 1
    take: int | None = None


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured: experiments in their order, each with its parameters.

    Attributes:
        experiments: one table per experiment; `kind` names it, the other keys are its parameters, checked by the
            experiment itself (:func:`parameters`).
        captions: what is generated for detection, where the run generates.
        resamples: bootstrap resamples behind every interval.
        explained: of a leak probe, why it reaches figures here; it is shown beside the stamp, which stays.
    """

    name: str
    version: int
    about: str
    experiments: list[dict[str, Any]]
    captions: Captions | None = None
    resamples: int = 10_000
    explained: dict[str, str] = {}


class GivenImages(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What looks at images that are given, in place of what looks at the profile's own."""

    judges: list[str] = []
    corrupted: list[str] = []
    filters: list[str] = []
    detectors: list[str] = []
    near_duplicates: Literal["stop", "join", "tell"] = "stop"


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is measured. Generators, judges, detectors and prompt sets stand by registered name or file.

    Attributes:
        generators: who makes the images; none where images are always given.
        samples: images per prompt, in place of what the suite's experiments ask for.
        prompts: what stands for a suite's prompt sets, by the suite's name for them: `i2p = "literal"`. An empty name
            leaves a set out, and the report says so; a set that is not named here stands for itself.
        judges: of unsafe content.
        corrupted: judges of corruption, in the order in which they are asked.
        filters: judges that stand for an external filter before publication.
        detectors: families that are trained on the run's images (`forensic`, `probe:ENCODER`, `finetune:BACKBONE`), and
            detectors with weights of their own, by registered name or file.
        near_duplicates: what is done about one picture in two groups of images: `stop` with their list, `join` them
            into one group, or `tell` how many there are and go on.
        validation: labelled images on which the judges' errors are measured: `world`, or None for a suite's own.
        photographs: where real images come from when none are given: `kind` and its parameters.
        explained: as a suite's, which it adds to.
        given: the judges of images that are given, where its own know nothing of these; None for its own.
        note: what a reader of the report must know first, where its generators made the images.
    """

    name: str
    version: int
    about: str
    note: str = ""
    generators: list[str] = []
    samples: int | None = None
    prompts: dict[str, str] = {}
    judges: list[str] = []
    corrupted: list[str] = []
    filters: list[str] = []
    validation: str | None = None
    detectors: list[str] = []
    near_duplicates: Literal["stop", "join", "tell"] = "stop"
    photographs: dict[str, Any] = {}
    explained: dict[str, str] = {}
    given: GivenImages | None = None

    def looking(self, *, generated: bool) -> GivenImages:
        """What looks at images that its generators make, or at images that are given."""
        own = GivenImages(
            judges=self.judges,
            corrupted=self.corrupted,
            filters=self.filters,
            detectors=self.detectors,
            near_duplicates=self.near_duplicates,
        )
        return own if generated or self.given is None else self.given


class Described(NamedTuple, Generic[S]):
    """The TOML of one of several kinds (a generator, a prompt set), read and not loaded.

    Attributes:
        common: the keys that every kind has.
        parameters: keys of its own kind, unchecked until it is loaded (:func:`parameters`).
        folder: where the TOML is.
        digest: of the whole text.
    """

    common: S
    parameters: dict[str, Any]
    folder: Path
    digest: str


class Loaded(msgspec.Struct, frozen=True):
    """A config with the digest of the text that it was read from."""

    value: Any
    digest: str


def names(kind: str) -> list[str]:
    """Names of the configs that come with the package; `kind` is `suites`, `profiles` or `prompts`."""
    return sorted(path.stem for path in (CONFIGS / kind).glob("*.toml"))


def find(kind: str, name: str) -> Path:
    """The file of a packaged config, or the user's file of that path.

    Raises:
        UsageError: neither is there.
    """
    packaged = CONFIGS / kind / f"{name}.toml"
    if name in names(kind):
        return packaged
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if path.is_file():
            return path
        raise UsageError(f"no such file: {name}")
    word = kind.removesuffix("s")
    raise UsageError(
        f"no {word} is named {name!r}.{did_you_mean(name, names(kind))} Known: {', '.join(names(kind))}; "
        f"or give a .toml file"
    )


def user_folder(part: str, variable: str) -> Path:
    """The user's own folder for a part of mllmrisk: the environment variable's, else `mllmrisk/PART` among their data.

    Args:
        part: `prompts`, `weights`, `recordings`, `engines`.
        variable: name of the environment variable.
    """
    if named := os.environ.get(variable):
        return Path(named).expanduser()
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "mllmrisk" / part


def table(path: Path) -> dict[str, Any]:
    """A TOML file as it is.

    Raises:
        UsageError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong


def parse(text: str, struct: type[S], where: str) -> S:
    """Reads TOML text into a struct.

    Raises:
        UsageError: not TOML, an unknown key, a missing key or a value of the wrong type; the message names `where`.
    """
    try:
        return msgspec.convert(tomllib.loads(text), struct)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as wrong:
        raise UsageError(f"{where}: {wrong}") from wrong


def converted(table: dict[str, Any], struct: type[S]) -> S:
    """A table of a TOML as a struct.

    Raises:
        UsageError: an unknown key, a missing key or a value of the wrong type.
    """
    try:
        return msgspec.convert(table, struct)
    except msgspec.ValidationError as wrong:
        raise UsageError(str(wrong)) from wrong


def _text(path: Path) -> tuple[str, str]:
    """A config's text and its digest."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def load(kind: str, name: str, struct: type[S]) -> Loaded:
    """The packaged config `name`, or the user's file of that path, with its digest."""
    path = find(kind, name)
    text, digest = _text(path)
    return Loaded(parse(text, struct, str(path)), digest)


def describe(kind: str, name: str, struct: type[S]) -> Described[S]:
    """The packaged config `name`, or the user's file, of which `struct` has the keys that every kind has.

    Raises:
        UsageError: no such config or file, or a common key is wrong or missing.
    """
    path = find(kind, name)
    text, digest = _text(path)
    common = parse(text, struct, str(path))
    rest = {key: value for key, value in tomllib.loads(text).items() if key not in struct.__struct_fields__}
    return Described(common, rest, path.parent, digest)


def suite(name: str) -> Loaded:
    """The suite `name` (or a file)."""
    return load("suites", name, Suite)


def profile(name: str) -> Loaded:
    """The profile `name` (or a file)."""
    return load("profiles", name, Profile)


def parameters(table: dict[str, Any], struct: type[S], where: str) -> S:
    """An experiment's own parameters out of its table in a suite.

    Raises:
        UsageError: a key that the experiment does not have, or a value of the wrong type.
    """
    given = {key: value for key, value in table.items() if key != "kind"}
    unknown = sorted(set(given) - set(struct.__struct_fields__))
    if unknown:
        raise UsageError(f"{where} has no key {unknown[0]!r}.{did_you_mean(unknown[0], struct.__struct_fields__)}")
    try:
        return msgspec.convert(given, struct)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"{where}: {wrong}") from wrong
