"""A folder of Parquet files as one result: each part has one file, which is there as a whole or not at all.

`part-000017.parquet` is the 18th part, whoever wrote it and however often: a task that runs again, because its worker
or its node died, replaces its file by an equal one. `_plan.json` says what the folder is the result of, so that another
call goes on with it; `_manifest.json` lists the files that count, and `_SUCCESS` is written last. Readers of Parquet
pass over names that begin with `_` or `.`.
"""

from __future__ import annotations

import io
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.executors import dataset_inputs as inputs
from mllmrisk.executors.dataset_tables import parquet_options
from mllmrisk.extras import optional

PLAN = "_plan.json"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"

#: Key of a file's metadata that says which inputs its rows are of.
_KEY = b"mllmrisk.inputs"

#: Stores where an object appears when it is complete; elsewhere a file is written under another name first.
_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"})


#: Files of an earlier call that are looked at side by side.
_READERS = 16


class Done(NamedTuple):
    """What is known of a part's file.

    Attributes:
        file: its name in the folder.
        digest: of the inputs that it holds the rows of.
        rows: how many.
        bytes: size of the file.
        errors: how many rows gave nothing, by reason.
    """

    file: str
    digest: str
    rows: int
    bytes: int
    errors: dict[str, int]


class Folder:
    """The result's folder, on this machine or behind any URL; the same on every node."""

    def __init__(self, place: str) -> None:
        """Looks nowhere yet.

        Args:
            place: a path or a URL.

        Raises:
            MissingExtraError: fsspec is not installed.
            UsageError: no such protocol.
        """
        self.place = place.rstrip("/")
        self._system, self._path = inputs.filesystem(self.place)
        protocol = self._system.protocol
        self._whole = bool(_WHOLE & ({protocol} if isinstance(protocol, str) else set(protocol)))

    def names(self) -> list[str]:
        """Names in the folder, sorted; none where there is no folder.

        Raises:
            UsageError: a file is there, or it cannot be listed.
        """
        self._system.invalidate_cache()
        try:
            if not self._system.exists(self._path):
                return []
            if self._system.isfile(self._path):
                raise UsageError(f"{self.place} is a file; with --executor ray the output is a folder")
            found = self._system.ls(self._path, detail=False)
        except (OSError, ImportError) as wrong:
            raise UsageError(f"{self.place}: {wrong}") from wrong
        return sorted(str(name).rstrip("/").rsplit("/", 1)[-1] for name in found)

    def begin(self, plan: Mapping[str, Any], *, force: bool, resume: bool) -> dict[str, Any]:
        """Makes the folder ready for a plan and returns the plan that stands: its own, or an equal earlier one.

        Args:
            plan: what decides the rows; keys that begin with `_` may differ from those of an earlier call, which win.
            force: take away the results that are there.
            resume: go on with them.

        Raises:
            UsageError: there are results (and neither is set), or they are of another plan.
        """
        there = self.names()
        own = [name for name in there if name.startswith("part-") or name in (PLAN, MANIFEST, SUCCESS)]
        if own and resume and PLAN in there:
            return self._resumed(plan)
        if there and not force and not resume:
            raise UsageError(f"{self.place} exists; give --resume to go on with it or --force to replace it")
        if set(there) - set(own):
            strange = min(set(there) - set(own))
            raise UsageError(
                f"{self.place} holds files that are no result of mllmrisk ({strange}); give another folder"
            )
        for name in own:
            self._system.rm_file(self._file(name))
        try:
            self._system.makedirs(self._path, exist_ok=True)
            self.write(PLAN, json.dumps(plan, indent=1).encode())
        except OSError as wrong:
            raise UsageError(f"{self.place} cannot be written to: {wrong}") from wrong
        return dict(plan)

    def _resumed(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        before: dict[str, Any] = json.loads(self._system.cat_file(self._file(PLAN)))
        other = sorted(key for key in {*plan, *before} if not key.startswith("_") and plan.get(key) != before.get(key))
        if other:
            raise UsageError(f"{self.place} is the result of another call ({', '.join(other)} differ); use --force")
        return before

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, which appears as a whole and replaces one of that name."""
        if self._whole:
            self._system.pipe_file(self._file(name), data)
            return
        self._system.makedirs(self._path, exist_ok=True)  # a node may not have seen it yet, or have its own disk
        temporary = self._file(f".{name}.{uuid.uuid4().hex}")
        self._system.pipe_file(temporary, data)
        self._system.mv(temporary, self._file(name))

    def write_part(self, number: int, digest: str, tables: Iterable[Any], schema: Any) -> Done:
        """Writes the rows of a part, a row group per table; again, if need be, over the same file."""
        parquet = optional("pyarrow.parquet", "Parquet", "parquet")
        stream = io.BytesIO()
        errors: Counter[str] = Counter()
        rows = 0
        noted = schema.with_metadata({**(schema.metadata or {}), _KEY: digest.encode()})
        with parquet.ParquetWriter(stream, noted, **parquet_options()) as writer:
            for table in tables:
                writer.write_table(table.cast(noted), row_group_size=max(1, table.num_rows))
                rows += table.num_rows
                errors.update(table["error"].drop_null().to_pylist())
        name = f"part-{number:06d}.parquet"
        self.write(name, stream.getvalue())
        return Done(name, digest, rows, stream.tell(), dict(errors))

    def done(self) -> dict[str, Done]:
        """The parts that are there, by the name of their file; one that cannot be read is not there."""
        names = [name for name in self.names() if name.startswith("part-")]
        with ThreadPoolExecutor(_READERS) as readers:
            return {done.file: done for done in readers.map(self._read, names) if done is not None}

    def _read(self, name: str) -> Done | None:
        parquet = optional("pyarrow.parquet", "Parquet", "parquet")
        try:
            with self._system.open(self._file(name), "rb") as file:
                size = file.seek(0, 2)
                table = parquet.ParquetFile(file)
                digest = (table.metadata.metadata or {})[_KEY].decode()
                codes = table.read(["error"])["error"].drop_null().to_pylist()
                return Done(name, digest, table.metadata.num_rows, size, dict(Counter(codes)))
        except (OSError, ValueError, KeyError):
            return None

    def finish(self, parts: list[Done], plan: Mapping[str, Any]) -> None:
        """Takes away what no part is of (files of writers that died), lists the rest and says that all is there.

        Raises:
            MllmriskError: files that workers wrote are not there, as where nodes have folders of the same name.
        """
        counted = {done.file for done in parts}
        there = self.names()
        if missing := counted.difference(there):
            raise MllmriskError(
                f"{self.place}: {len(missing)} files are on other machines; give a folder that all share"
            )
        for name in there:
            if name not in counted and name.startswith(("part-", ".part-")):
                self._system.rm_file(self._file(name))
        errors: Counter[str] = Counter()
        for done in parts:
            errors.update(done.errors)
        listed = {
            "schema": 1,
            **{key: value for key, value in plan.items() if not key.startswith("_")},
            "rows": sum(done.rows for done in parts),
            "bytes": sum(done.bytes for done in parts),
            "errors": dict(errors),
            "files": [done._asdict() for done in parts],
        }
        self.write(MANIFEST, json.dumps(listed, indent=1).encode())
        self.write(SUCCESS, b"")

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"
