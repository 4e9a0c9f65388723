"""The run folder: SQLite (WAL) for rows, content-addressed files for bytes. Everything resumes from here.

Each write is one transaction or one atomic rename, so that a run killed at any moment goes on where it stood.
One process writes; `load` opens the same folder for reading.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import trace
from mllmrisk.errors import StoreError
from mllmrisk.records import Estimate, Prompt, RunSpec, Sample, Score

SCHEMA = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (
    sha256 TEXT PRIMARY KEY, ext TEXT NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prompts (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL, image TEXT REFERENCES images (sha256), record TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    kind TEXT NOT NULL, perturbation TEXT NOT NULL, sample TEXT NOT NULL, vector BLOB, reason TEXT,
    PRIMARY KEY (kind, perturbation, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scores (
    scorer TEXT NOT NULL, perturbation TEXT NOT NULL, sample TEXT NOT NULL, category TEXT NOT NULL DEFAULT '',
    value REAL, reason TEXT, stratum INTEGER NOT NULL,
    PRIMARY KEY (scorer, perturbation, category, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS captions (
    scorer TEXT NOT NULL, perturbation TEXT NOT NULL, sample TEXT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (scorer, perturbation, sample)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS models (
    name TEXT PRIMARY KEY, file TEXT NOT NULL, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (unit TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID;
"""


class Vector(NamedTuple):
    """A stored vector: float32 values, or the reason why there are none."""

    values: NDArray[np.float32] | None
    reason: str | None


class Store:
    """A run folder."""

    def __init__(self, root: Path, connection: sqlite3.Connection) -> None:
        """Use :meth:`open` or :meth:`load`."""
        self.root = root
        self._db = connection

    # -- opening -----------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, root: Path, spec: RunSpec) -> Store:
        """Creates the folder, or resumes the run in it.

        Raises:
            StoreError: the folder holds something else, or a run with another spec (the message names the keys).
        """
        known = root / "run.db"
        if root.exists() and not root.is_dir():
            raise StoreError(f"{root} is not a folder")
        if root.is_dir() and not known.exists() and any(root.iterdir()):
            raise StoreError(f"{root} is not empty and is not a run; give --out another folder")
        root.mkdir(parents=True, exist_ok=True)
        for part in ("images", "models", "figures"):
            (root / part).mkdir(exist_ok=True)
        store = cls(root, _connect(known))
        before = store.meta("spec")
        if before is None:
            store.set_meta("schema", str(SCHEMA))
            store.set_meta("spec", msgspec.json.encode(spec).decode())
        else:
            store._check_schema()
            differ = spec.differences(msgspec.json.decode(before, type=RunSpec))
            if differ:
                store.close()
                raise StoreError(
                    f"{root} holds a run with another {', '.join(differ)}; give --out another folder to start a new run"
                )
        return store

    @classmethod
    def load(cls, root: Path) -> Store:
        """Opens a run that exists.

        Raises:
            StoreError: there is no run, or it was written by another version of the schema.
        """
        if not (root / "run.db").is_file():
            raise StoreError(f"{root} is not a run folder (it holds no run.db)")
        store = cls(root, _connect(root / "run.db"))
        try:
            store._check_schema()
        except sqlite3.DatabaseError as broken:
            raise StoreError(f"{root / 'run.db'} cannot be read: {broken}") from broken
        return store

    def twin(self) -> Store:
        """A second connection to the same run, for one thread beside this one's; close it when that one is done."""
        return Store(self.root, _connect(self.root / "run.db", any_thread=True))

    def _check_schema(self) -> None:
        found = self.meta("schema")
        if found != str(SCHEMA):
            raise StoreError(f"{self.root} has schema {found}, this version reads {SCHEMA}")

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts about the run -----------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """A fact by name, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Writes a fact."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @property
    def spec(self) -> RunSpec:
        """What this run measures."""
        text = self.meta("spec")
        if text is None:
            raise StoreError(f"{self.root} holds no spec")
        return msgspec.json.decode(text, type=RunSpec)

    # -- images and samples ------------------------------------------------------------------------------------

    def add_image(self, data: bytes, ext: str) -> str:
        """Stores bytes untouched under their sha256 and returns it; known bytes are not written again."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._image_path(sha256, ext)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, data)
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (sha256, ext, len(data)))
        return sha256

    def _image_path(self, sha256: str, ext: str) -> Path:
        return self.root / "images" / sha256[:2] / f"{sha256}.{ext}"

    def image_path(self, sha256: str) -> Path:
        """Where an image's bytes are.

        Raises:
            KeyError: no such image.
        """
        row = self._db.execute("SELECT ext FROM images WHERE sha256 = ?", (sha256,)).fetchone()
        if row is None:
            raise KeyError(sha256)
        return self._image_path(sha256, row[0])

    def image_paths(self) -> dict[str, Path]:
        """Every image's path by sha256."""
        rows = self._db.execute("SELECT sha256, ext FROM images")
        return {sha256: self._image_path(sha256, ext) for sha256, ext in rows}

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Writes prompts in their order, in one transaction; one that is there keeps its place."""
        encode = msgspec.json.encode
        with self._db:
            (there,) = self._db.execute("SELECT COUNT(*) FROM prompts").fetchone()
            self._db.executemany(
                "INSERT INTO prompts VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                [(p.id, there + i, encode(p).decode()) for i, p in enumerate(prompts)],
            )

    def prompts(self) -> dict[str, Prompt]:
        """Every prompt by id, in order."""
        rows = self._db.execute("SELECT record FROM prompts ORDER BY position")
        return {(prompt := msgspec.json.decode(record, type=Prompt)).id: prompt for (record,) in rows}

    def add_samples(self, samples: Iterable[tuple[int, Sample]]) -> None:
        """Writes samples with their positions (their order in reports), in one transaction."""
        encode = msgspec.json.encode
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?)",
                [(s.id, position, s.image, encode(s).decode()) for position, s in samples],
            )

    def samples(self) -> list[Sample]:
        """Every sample, in order."""
        rows = self._db.execute("SELECT record FROM samples ORDER BY position")
        return [msgspec.json.decode(record, type=Sample) for (record,) in rows]

    # -- vectors: features, container facts, thumbnails --------------------------------------------------------

    def add_vectors(self, kind: str, perturbation: str, rows: Mapping[str, Vector]) -> None:
        """Writes vectors by sample id, in one transaction."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                [
                    (kind, perturbation, sample, None if v.values is None else v.values.tobytes(), v.reason)
                    for sample, v in rows.items()
                ],
            )

    def vectors(self, kind: str, perturbation: str) -> dict[str, Vector]:
        """Stored vectors of a kind under a perturbation, by sample id."""
        rows = self._db.execute(
            "SELECT sample, vector, reason FROM vectors WHERE kind = ? AND perturbation = ?", (kind, perturbation)
        )
        return {
            sample: Vector(None if blob is None else np.frombuffer(blob, dtype=np.float32), reason)
            for sample, blob, reason in rows
        }

    # -- scores ------------------------------------------------------------------------------------------------

    def add_scores(self, scorer: str, perturbation: str, rows: Mapping[str, Score], category: str = "") -> None:
        """Writes scores by sample id, in one transaction."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(scorer, perturbation, i, category, s.value, s.reason, s.stratum) for i, s in rows.items()],
            )

    def scores(self, scorer: str, perturbation: str, category: str = "") -> dict[str, Score]:
        """Stored scores by sample id."""
        rows = self._db.execute(
            "SELECT sample, value, reason, stratum FROM scores WHERE scorer = ? AND perturbation = ? AND category = ?",
            (scorer, perturbation, category),
        )
        return {sample: Score(value, reason, stratum) for sample, value, reason, stratum in rows}

    def mean_scores(self, base: str, perturbation: str) -> dict[str, Score]:
        """A sample's mean over the divisions of a cross-fit (`base/0`, `base/1`, ...), or the scores of `base` itself.

        The category of a judge, where it has one, is the last part of `base`.
        """
        values: dict[str, list[float]] = {}
        reasons: dict[str, str] = {}
        for scorer, under, category, _ in self.scorers():
            whole = f"{scorer}/{category}" if category else scorer
            division = scorer.startswith(f"{base}/") and scorer[len(base) + 1 :].isdigit()
            if under != perturbation or not (whole == base or division):
                continue
            for sample, score in self.scores(scorer, perturbation, category).items():
                if score.value is None:
                    reasons[sample] = score.reason or "failed"
                else:
                    values.setdefault(sample, []).append(score.value)
        found = {sample: Score(None, reason) for sample, reason in reasons.items()}
        found.update({sample: Score(sum(v) / len(v)) for sample, v in values.items()})
        return found

    def scorers(self) -> list[tuple[str, str, str, int]]:
        """(scorer, perturbation, category, number of scores), for tables and exports."""
        rows = self._db.execute(
            "SELECT scorer, perturbation, category, COUNT(*) FROM scores GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        return [tuple(row) for row in rows]

    def add_captions(self, scorer: str, perturbation: str, rows: Mapping[str, str]) -> None:
        """Writes the captions that a detector made of images and read, by sample id, in one transaction."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO captions VALUES (?, ?, ?, ?)",
                [(scorer, perturbation, sample, text) for sample, text in rows.items()],
            )

    def captions(self, scorer: str, perturbation: str) -> dict[str, str]:
        """Stored captions by sample id."""
        rows = self._db.execute(
            "SELECT sample, text FROM captions WHERE scorer = ? AND perturbation = ?", (scorer, perturbation)
        )
        return dict(rows)

    # -- models ------------------------------------------------------------------------------------------------

    def add_model(self, name: str, data: bytes, record: Mapping[str, Any]) -> Path:
        """Stores a trained detector (ONNX bytes) under `models/` with its training record."""
        file = f"{hashlib.sha256(data).hexdigest()[:16]}.onnx"
        write_atomically(self.root / "models" / file, data)
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?)", (name, file, json.dumps(record)))
        return self.root / "models" / file

    def model(self, name: str) -> tuple[Path, dict[str, Any]] | None:
        """Path and training record of a stored detector, or None."""
        row = self._db.execute("SELECT file, record FROM models WHERE name = ?", (name,)).fetchone()
        return None if row is None else (self.root / "models" / row[0], json.loads(row[1]))

    # -- failures and results ----------------------------------------------------------------------------------

    def add_failures(self, rows: Mapping[str, str]) -> None:
        """Notes units of work that failed (exit code 3), by name, with the reason."""
        with self._db:
            self._db.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?)", list(rows.items()))

    def clear_failures(self, units: Iterable[str]) -> None:
        """Forgets failures of units that are tried again."""
        with self._db:
            self._db.executemany("DELETE FROM failures WHERE unit = ?", [(unit,) for unit in units])

    def add_cost(self, stage: str, units: int, seconds: float, model_seconds: float = 0.0) -> None:
        """Adds what a stage took, over all calls that worked on the run, and for how long its model was busy then."""
        costs = self.costs()
        added = {"units": units, "seconds": seconds, "model_seconds": model_seconds}
        before = costs.get(stage, {})
        costs[stage] = {key: round(before.get(key, 0) + value, 3) for key, value in added.items()}
        self.set_meta("costs", json.dumps(costs))

    def costs(self) -> dict[str, dict[str, float]]:
        """`units`, `seconds` and `model_seconds` by stage."""
        found: dict[str, dict[str, float]] = json.loads(self.meta("costs") or "{}")
        return found

    def speeds(self) -> dict[str, str]:
        """Of each stage in words: units a second, and the share of its time in which its model did not run."""
        return {stage: trace.speed(**cost) for stage, cost in self.costs().items()}

    def failures(self) -> dict[str, str]:
        """Units of work that failed."""
        return dict(self._db.execute("SELECT unit, reason FROM failures ORDER BY unit"))

    def write_estimates(self, run: Mapping[str, Any], estimates: Sequence[Estimate]) -> Path:
        """Writes `estimates.json` (DESIGN 5.3) in one rename."""
        document = {"schema": SCHEMA, "run": run, "estimates": [estimate.row() for estimate in estimates]}
        path = self.root / "estimates.json"
        write_atomically(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode())
        return path

    def estimates(self) -> tuple[dict[str, Any], list[Estimate]]:
        """The facts of the run and its estimates.

        Raises:
            StoreError: the run has not got so far.
        """
        path = self.root / "estimates.json"
        if not path.exists():
            raise StoreError(f"{self.root} has no estimates yet; run `mllmrisk evaluate` with the same --out to go on")
        document = json.loads(path.read_bytes())
        rows = [
            msgspec.convert({k: v for k, v in row.items() if k != "cell"}, Estimate) for row in document["estimates"]
        ]
        return document["run"], rows


def _connect(path: Path, *, any_thread: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=not any_thread)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TABLES)
    except sqlite3.DatabaseError as broken:
        connection.close()
        raise StoreError(f"{path} cannot be read: {broken}") from broken
    return connection


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: a temporary file beside it, then a rename."""
    with _temporary(path) as (handle, name):
        with os.fdopen(handle, "wb") as out:
            out.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[int, str]]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        yield handle, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
