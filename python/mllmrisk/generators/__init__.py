"""Generators: prompts → images. The table of kinds; nothing is imported until asked for.

A generator is one TOML in `configs/generators/` (or a user's file) that names its kind: an adapter is one file here
and one line of the table, or an entry point of an outside package (`mllmrisk.generators`).
"""

from __future__ import annotations

from mllmrisk import config
from mllmrisk.generators.base import Common, Generator, GeneratorKind
from mllmrisk.registry import Registry

GENERATORS: Registry[GeneratorKind] = Registry(
    "kind of generator",
    "mllmrisk.generators",
    {
        "diffusers": "mllmrisk.generators.diffusers:Diffusers",
        "transformers": "mllmrisk.generators.transformers:Transformers",
        "command": "mllmrisk.generators.command:Command",
        "openai": "mllmrisk.generators.openai:OpenAI",
        "renderer": "mllmrisk.generators.renderer:Renderer",
    },
    {"diffusers": "gen", "transformers": "gen", "openai": "api"},
)


#: A generator's TOML, read and not loaded.
Described = config.Described[Common]


def describe(name_or_file: str) -> Described:
    """Reads a generator's TOML; imports nothing of its kind.

    Raises:
        UsageError: no such generator or file, or a common key is wrong or missing.
    """
    return config.describe("generators", name_or_file, Common)


def stays_here(described: Described) -> bool:
    """Whether it asks a service, whose pace and budget belong to one process: it is not spread over machines."""
    return GENERATORS.extra(described.common.kind) == "api"


def load(described: Described, *, device: str = "auto") -> Generator:
    """Loads a generator on `auto`, `cpu`, `cuda` or `cuda:INDEX`.

    Raises:
        UsageError, MissingExtraError: see :class:`~mllmrisk.generators.base.GeneratorKind`.
    """
    kind = GENERATORS.get(described.common.kind)
    where = f"generator {described.common.name}"
    parameters = config.parameters(described.parameters, kind.accepts, where)
    return kind(described.common, parameters, described.folder, device=device)
