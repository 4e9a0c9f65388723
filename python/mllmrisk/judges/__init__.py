"""Judges: image → scores per category of unsafe content. The table of names; nothing is imported until asked for.

A judge that is an ONNX classifier is one TOML in `configs/judges/` (or in a user's folder) and no code; another kind
of judge is one file here and one line of the table, or an entry point of an outside package (`mllmrisk.judges`).
"""

from __future__ import annotations

from pathlib import Path

from mllmrisk import config
from mllmrisk.judges.base import Judge, JudgeClass
from mllmrisk.registry import Registry

#: Judges that are classes of their own, by name.
_CLASSES: dict[str, str] = {}
#: Judges that a packaged TOML describes, all through one adapter.
_RECIPES = {name: f"mllmrisk.judges.packaged:{name}" for name in config.names("judges")}

JUDGES: Registry[JudgeClass] = Registry("judge", "mllmrisk.judges", {**_CLASSES, **_RECIPES})


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
    from mllmrisk.judges.onnx import OnnxJudge
    from mllmrisk.judges.recipe import Recipe

    recipe: Recipe = config.load("judges", name_or_file, Recipe).value
    return OnnxJudge(recipe, Path(name_or_file).parent, device=device)
