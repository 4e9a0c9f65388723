"""Expansion: captions said again, richer, level by level. The table of kinds of expander.

An expander is one TOML in `configs/expanders/` (or a user's file) that names its kind; another kind is one file here
and one line of the table, or an entry point of an outside package (`mllmrisk.expanders`).
"""

from __future__ import annotations

import re

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.prompts.expansion.base import Common, Expander, ExpanderKind
from mllmrisk.registry import Registry

KINDS: Registry[ExpanderKind] = Registry(
    "kind of expander",
    "mllmrisk.expanders",
    {
        "openai": "mllmrisk.prompts.expansion.openai:OpenAI",
        "transformers": "mllmrisk.prompts.expansion.transformers:Transformers",
        "file": "mllmrisk.prompts.expansion.file:File",
        "grammar": "mllmrisk.prompts.expansion.grammar:Grammar",
    },
    {"openai": "api", "transformers": "gen"},
)

#: An expander's TOML, read; nothing is loaded.
Described = config.Described[Common]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


def describe(name_or_file: str) -> Described:
    """Reads an expander's TOML.

    Raises:
        UsageError: no such expander or file, or a common key is wrong or missing.
    """
    described = config.describe("expanders", name_or_file, Common)
    if not _NAME.fullmatch(described.common.name):
        raise UsageError(f"{name_or_file}: a name is of letters, digits, dots and dashes")
    return described


def load(described: Described) -> Expander:
    """The expander of a TOML, ready to be asked.

    Raises:
        UsageError: no such kind, a wrong key, or something that it needs is missing.
        MissingExtraError: the kind needs a package that is not installed.
    """
    kind = KINDS.get(described.common.kind)
    where = f"expander {described.common.name}"
    return kind(described.common, config.parameters(described.parameters, kind.accepts, where), described.folder)
