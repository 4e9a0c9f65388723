"""People as a judge: labels from a file. An image that nobody labelled is unscored (`no_label`), never safe."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.judges.described import Described, Threshold, digest, unscored
from mllmrisk.records import Score

_COLUMNS = ("sha256", "path", "category", "label", "score", "rater")


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of labels and how several raters make one score.

    Attributes:
        file: CSV or JSONL, relative to the TOML: `sha256` of the image's bytes (or its `path`, relative to this file),
            `category`, `label` (0 or 1) or `score` (in [0, 1]), and `rater` where there are several.
        sha256: of the file, if it is to be checked.
        combine: `majority`: 1 where more than half of the raters say 1, `tie` (unscored) where just half do;
            `mean`: the share (or the mean score) of the raters.
        min_raters: an image with fewer is unscored, `few_raters`.
    """

    file: str
    sha256: str | None = None
    combine: Literal["majority", "mean"] = "majority"
    min_raters: int = 1


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML; `categories` are those that the raters were asked about."""

    kind: Literal["human"]
    labels: Labels
    categories: dict[str, Threshold]

    def __post_init__(self) -> None:
        """Refuses a judge of nothing."""
        if not self.categories:
            raise ValueError("at least one category is needed")


class Row(NamedTuple):
    """One rater's label of one image in one category."""

    image: str
    category: str
    rater: str
    value: float


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> Human:
    """The judge of a TOML of the kind `human`."""
    del device
    return Human(config.converted(table, Recipe), folder)


class Human:
    """Labels by the sha256 of an image's bytes.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of the labels' file and the rule.
        raters: who labelled, sorted.
    """

    attributes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Reads the file, and the images that it names by path.

        Raises:
            UsageError: it cannot be read, is not the pinned one, or a row is wrong (the message names it).
        """
        what = f"judge {recipe.name!r}"
        path = folder / recipe.labels.file
        try:
            data = path.read_bytes()
        except OSError as wrong:
            raise UsageError(f"{what}: {path}: {wrong.strerror or wrong}") from wrong
        found = hashlib.sha256(data).hexdigest()
        if recipe.labels.sha256 not in (None, found):
            raise UsageError(f"{what}: {path} is not the file that its TOML names: its sha256 begins {found[:12]}")
        self.name = recipe.name
        self.categories = tuple(recipe.categories)
        self.threshold = {name: category.threshold for name, category in recipe.categories.items()}
        self._rule = recipe.labels
        values: dict[tuple[str, str], dict[str, float]] = {}
        for row in _rows(data, path, self.categories):
            raters = values.setdefault((row.image, row.category), {})
            if row.rater in raters:
                raise UsageError(f"{path}: {row.rater or 'the rater'} labels {row.image[:12]} twice for {row.category}")
            raters[row.rater] = row.value
        self.raters = sorted({rater for raters in values.values() for rater in raters})
        self._scores = {key: self._combined(list(raters.values())) for key, raters in values.items()}
        rule = (found, recipe.labels.combine, recipe.labels.min_raters)
        self.version = f"{recipe.version}-{digest(*rule)}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """What people said of these images; nothing is decoded."""
        del threads
        found = []
        for data in images:
            image = hashlib.sha256(data).hexdigest()
            absent = unscored(self.categories, "no_label")
            found.append({name: self._scores.get((image, name), score) for name, score in absent.items()})
        return found

    def _combined(self, values: list[float]) -> Score:
        if len(values) < self._rule.min_raters:
            return Score(None, "few_raters")
        mean = sum(values) / len(values)
        if self._rule.combine == "mean":
            return Score(mean)
        votes = sum(value >= 0.5 for value in values)
        return Score(None, "tie") if 2 * votes == len(values) else Score(float(2 * votes > len(values)))


def _rows(data: bytes, path: Path, categories: Sequence[str]) -> Iterator[Row]:
    hashes: dict[str, str] = {}
    for where, values in _tables(data, path):
        unknown = sorted(set(values) - set(_COLUMNS))
        if unknown:
            hint = "; a judge sees bytes: give sha256 or path" if "sample" in unknown else ""
            raise UsageError(f"{where}: no column {unknown[0]!r} ({', '.join(_COLUMNS)}){hint}")
        given = {name: str(value).strip() for name, value in values.items() if value not in (None, "")}
        if given.get("category") not in categories:
            raise UsageError(f"{where}: category {given.get('category')!r} is none of {', '.join(categories)}")
        yield Row(_image(given, path, hashes, where), given["category"], given.get("rater", ""), _value(given, where))


def _image(given: Mapping[str, str], path: Path, hashes: dict[str, str], where: str) -> str:
    """The sha256 of the row's image."""
    name = given.get("path")
    if name is not None and name not in hashes:
        try:
            hashes[name] = hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
        except OSError as wrong:
            raise UsageError(f"{where}: {name}: {wrong.strerror or wrong}") from wrong
    image = given.get("sha256", hashes.get(name or ""))
    if image is None or len(image) != 64:
        raise UsageError(f"{where}: sha256 (64 hexadecimal digits) or path is needed")
    if name is not None and image.lower() != hashes[name]:
        raise UsageError(f"{where}: {name} has another sha256")
    return image.lower()


def _value(given: Mapping[str, str], where: str) -> float:
    if ("label" in given) == ("score" in given):
        raise UsageError(f"{where}: either label (0 or 1) or score is needed")
    try:
        value = float(given.get("label", given.get("score", "")))
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1 or ("label" in given and value not in (0.0, 1.0)):
        raise UsageError(f"{where}: {'label must be 0 or 1' if 'label' in given else 'score must be in [0, 1]'}")
    return value


def _tables(data: bytes, path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, columns) of every row."""
    try:
        text = data.decode("utf-8-sig")
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{path}, line {reader.line_num}: {len(reader.fieldnames or [])} columns expected")
                yield f"{path}, line {reader.line_num}", row
            return
        if path.suffix.lower() != ".jsonl":
            raise UsageError(f"{path}: labels are a .csv or a .jsonl file")
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise UsageError(f"{path}, line {number}: not an object")
                yield f"{path}, line {number}", row
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError) as wrong:
        raise UsageError(f"{path}: {wrong}") from wrong
