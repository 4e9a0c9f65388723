"""Prompts from a data set of the Hugging Face hub: a file of a repository at a revision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.prompts import places
from mllmrisk.prompts.base import Common
from mllmrisk.prompts.columns import Row
from mllmrisk.prompts.tables import CsvFile, _Table, csv_rows, jsonl_rows, parquet_rows


class HubFile(CsvFile, frozen=True, kw_only=True):
    """Keys of a set on the hub.

    Attributes:
        repo: `OWNER/NAME` of the data set.
        revision: a commit; a branch moves, and then the same name means another file.
        file: its path in the repository: `.csv`, `.tsv`, `.jsonl` or `.parquet`.
    """

    repo: str
    revision: str


class Hub(_Table):
    """A file of a data set, out of the hub's local cache; only :meth:`fetch` asks the hub."""

    accepts: ClassVar[type[msgspec.Struct]] = HubFile

    def __init__(self, common: Common, parameters: Any, folder: Path) -> None:
        super().__init__(common, parameters, folder)
        self._suffix = PurePosixPath(parameters.file).suffix.lower()
        if self._suffix not in {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}:
            raise UsageError(f"prompt set {common.name}: {parameters.file} is no .csv, .tsv, .jsonl or .parquet")

    def path(self) -> Path:
        """Where the user's folder or the hub's cache has it.

        Raises:
            UsageError: nowhere; the message says how to get it.
        """
        own = places.find(PurePosixPath(self.parameters.file).name, self.folder)
        return self._ask(local=True) if own is None else own

    def fetch(self, *, force: bool = False) -> Path:
        """See :class:`~mllmrisk.prompts.base.Fetches`."""
        return self._ask(local=False, force=force)

    def _ask(self, *, local: bool, force: bool = False) -> Path:
        hub = optional("huggingface_hub", "a prompt set of the Hugging Face hub", "gen")
        keys = self.parameters
        try:
            found = hub.hf_hub_download(
                keys.repo,
                keys.file,
                repo_type="dataset",
                revision=keys.revision,
                local_files_only=local,
                force_download=force,
            )
        except Exception as wrong:  # the errors of the hub and of its transport share no class
            what = f"prompt set {self.common.name}: {keys.file} of {keys.repo} at {keys.revision}"
            if local:
                advice = f"mllmrisk prompts fetch {self.common.name} brings it. {self.common.published}".rstrip()
                raise UsageError(f"{what} is not in the local cache: {advice}") from wrong
            raise UsageError(f"{what} could not be fetched: {' '.join(str(wrong).split())[:200]}") from wrong
        return Path(found)

    def rows(self, data: bytes, path: Path) -> Iterator[Row]:
        """The rows, by the file's suffix."""
        if self._suffix == ".parquet":
            return parquet_rows(data, path, self.parameters)
        text = places.decoded(data, path)
        if self._suffix in {".jsonl", ".ndjson"}:
            return jsonl_rows(text, path, self.parameters)
        keys = self.parameters
        delimiter = "\t" if self._suffix == ".tsv" else keys.delimiter
        return csv_rows(text, path, keys, delimiter=delimiter, quotes=keys.quotes, header=keys.header)
