"""Judges: image → scores per category of unsafe content. The tables of names; nothing is imported until asked for.

A judge is one TOML in `configs/judges/` (or a user's file) that names its kind; a kind is one file here and one line
of the table, or an entry point of an outside package (`mllmrisk.judge_kinds`). A judge that needs no TOML is an entry
point of the group `mllmrisk.judges`.
"""

from __future__ import annotations

from pathlib import Path

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.judges.base import Judge, JudgeClass, JudgeKind
from mllmrisk.registry import Registry

#: Adapters by kind. A TOML without a kind is of the kind `onnx`.
KINDS: Registry[JudgeKind] = Registry(
    "kind of judge",
    "mllmrisk.judge_kinds",
    {
        "onnx": "mllmrisk.judges.onnx:made",
        "transformers-classifier": "mllmrisk.judges.classifier:made",
        "clip-heads": "mllmrisk.judges.clip_heads:made",
        "vlm": "mllmrisk.judges.vlm:made",
        "openai-moderation": "mllmrisk.judges.moderation:made",
        "ocr": "mllmrisk.judges.ocr:made",
        "human": "mllmrisk.judges.human:made",
        "alignment": "mllmrisk.judges.alignment:made",
        "gates": "mllmrisk.judges.gates:made",
    },
    {
        "transformers-classifier": "gen",
        "clip-heads": "gen",
        "vlm": "gen",
        "openai-moderation": "api",
        "ocr": "judges",
        "alignment": "gen",
    },
)

#: Judges by name: the packaged TOMLs, all through one module, and outside packages.
JUDGES: Registry[JudgeClass] = Registry(
    "judge", "mllmrisk.judges", {name: f"mllmrisk.judges.packaged:{name}" for name in config.names("judges")}
)


def stays_here(name_or_file: str) -> bool:
    """Whether it is not spread over machines: a service's pace belongs to one process, people's labels lie here."""
    packaged = name_or_file in config.names("judges")
    if not packaged and not name_or_file.endswith(".toml"):
        return False
    kind = str(config.table(config.find("judges", name_or_file)).get("kind", "onnx"))
    return kind == "human" or KINDS.extra(kind) == "api"


def load(name_or_file: str, *, device: str = "auto") -> Judge:
    """The judge of a registered name, or the one that a user's TOML file describes, loaded and tried.

    Args:
        name_or_file: a name of `mllmrisk list judges`, or the path of a `.toml`.
        device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

    Raises:
        UsageError: no such judge or file, or the judge cannot be trusted (weights, device, known answer).
        MissingExtraError: it needs a package that is not installed.
    """
    if not name_or_file.endswith(".toml"):
        return JUDGES.get(name_or_file)(device=device)
    return from_file(config.find("judges", name_or_file), device=device)


def from_file(path: Path, *, device: str = "auto") -> Judge:
    """The judge that a TOML file describes."""
    table = config.table(path)
    kind = str(table.get("kind", "onnx"))
    try:
        return KINDS.get(kind)(table, path.parent, device=device)
    except UsageError as wrong:
        if str(path) in str(wrong):
            raise
        raise UsageError(f"{path}: {wrong}") from wrong
