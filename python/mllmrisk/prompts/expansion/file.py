"""Expansion by the user's own texts: a table with a row per caption and a column per level."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.prompts import places
from mllmrisk.prompts.columns import Columns, Mapping
from mllmrisk.prompts.expansion.base import Common, Expanded, Identity, Tell, Wanted
from mllmrisk.prompts.tables import csv_rows, jsonl_rows


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a TOML of the kind `file`.

    Attributes:
        file: `.csv` or `.jsonl`, beside the TOML or in the user's folder of prompts; its columns `v1`, `v2`, ... are
            the texts.
        id: its column of prompt ids, as `SET/KEY` or as `KEY`.
        author: who wrote the texts: a person, or a model.
        instruction: that the author had.
    """

    file: str
    id: str = "id"
    author: str = ""
    instruction: str = ""


class File:
    """Looks texts up.

    Attributes:
        name, identity, remembered: see :class:`~mllmrisk.prompts.expansion.base.Expander`.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters
    remembered = False

    def __init__(self, common: Common, parameters: Parameters, folder: Path) -> None:
        """Reads the file."""
        self.name = common.name
        path = places.find(parameters.file, folder)
        if path is None:
            raise UsageError(
                f"expander {common.name}: no file {parameters.file} in {places.home()} (nor in {folder}): "
                f"a row per caption, with the columns {parameters.id}, v1, v2"
            )
        data = places.content(path)
        text = places.decoded(data, path)
        mapping = Mapping(columns=Columns(text="v1", id=parameters.id))
        reader = jsonl_rows if path.suffix.lower() in {".jsonl", ".ndjson"} else csv_rows
        self._rows: dict[str, dict[str, object]] = {}
        for row in reader(text, path, mapping):
            key = str(row.values[parameters.id]).strip()
            if key in self._rows:
                raise UsageError(f"{row.where}: {key[:40]!a} stands twice")
            self._rows[key] = row.values
        digest = hashlib.sha256(data).hexdigest()[:16]
        self.identity = Identity(digest, parameters.author or path.name, parameters.instruction)

    def expand(self, wanted: Sequence[Wanted], *, seed: int, tell: Tell) -> None:
        """See :class:`~mllmrisk.prompts.expansion.base.Expander`."""
        del seed
        for place, each in enumerate(wanted):
            row = self._rows.get(each.prompt.id) or self._rows.get(each.prompt.id.partition("/")[2])
            text = None if row is None else row.get(each.level)
            tell(place, Expanded(None, "not_in_the_file") if text is None else Expanded(str(text)))
