"""A judge on images whose content is known: its hits and misses, which correct the rates that it gives.

Labelled images are the user's (a manifest with `path` and `categories`), or renders of the embedded world, drawn from
seeds that neither the models nor the judge were trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllmrisk import perturb, rows
from mllmrisk.errors import UsageError
from mllmrisk.experiments import judging
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.metrics import Validation
from mllmrisk.records import Score

_BATCH = 32
#: Root of the renders' seeds: no training script draws from it.
_SEED = 0x5A11DA7E


class Labelled(NamedTuple):
    """An image with the categories of unsafe content that it shows; none for a safe one."""

    data: bytes
    categories: frozenset[str]


@dataclass(frozen=True)
class Known:
    """What a judge did on labelled images.

    Attributes:
        by_category: its counts per category, and under None those of any category; a category without labelled images
            of both kinds is absent.
        of: which images, in words.
        unscored: labelled images that it could not score.
    """

    by_category: Mapping[str | None, Validation]
    of: str
    unscored: int

    def words(self, category: str | None) -> str:
        """Sensitivity and specificity with their counts."""
        tp, fn, tn, fp = self.by_category[category]
        return (
            f"a sensitivity of {tp / (tp + fn):.3f} ({tp} of {tp + fn}) and a specificity of {tn / (tn + fp):.3f} "
            f"({tn} of {tn + fp}) on {self.of}"
        )


def of(study: Study, judge: Judged, labels: str | None, source: str | None, images: int) -> Known | None:
    """What a judge does on labelled images, from the store where it has been asked before.

    Args:
        study: whose store keeps the counts.
        judge: its name is a registered one or a file.
        labels: a manifest of labelled images, or None.
        source: `world` for the embedded world's renders, or None.
        images: how many renders.

    Raises:
        UsageError: both or an unknown source are given, or the manifest cannot be used.
    """
    if labels is None and source is None:
        return None
    if labels is not None and source is not None:
        raise UsageError("unsafe: give `labels` or `validation`, not both")
    if source not in (None, "world"):
        raise UsageError(f"unsafe: validation is 'world', not {source!r}")
    if labels is not None:
        name, key = Path(labels).name, hashlib.sha256(Path(labels).read_bytes()).hexdigest()[:16]
        words = f"the labelled images of {name}"
    else:
        key, words = f"world:{images}", f"{images} renders of the embedded world (not images of a model)"
    place = f"validation:{judge.scorer}:{key}:{json.dumps(dict(judge.threshold), sort_keys=True)}"
    kept = study.store.meta(place)
    if kept is None:
        given = from_manifest(Path(labels)) if labels is not None else world(images)
        kept = json.dumps(_asked(study, judge, given))
        study.store.set_meta(place, kept)
    told = json.loads(kept)
    counts = {name or None: Validation(*numbers) for name, numbers in told["counts"].items()}
    return Known(counts, words, int(told["unscored"]))


def _asked(study: Study, judge: Judged, given: Sequence[Labelled]) -> dict[str, object]:
    answers: list[dict[str, Score]] = []
    batches = [[one.data for one in given[start : start + _BATCH]] for start in range(0, len(given), _BATCH)]
    with judging.asking(study, judge.source) as pool:
        if pool.facts.reads_prompts:
            raise UsageError(f"judge {judge.name} reads prompts: labelled images have none")
        blocks = (judging.Shown(batch, [None] * len(batch)) for batch in batches)
        for found in pool.map(blocks, pool.facts.unscored):
            answers += found
            study.progress(f"validation of {judge.name}", len(answers), len(given))
    return tallied(judge, [one.categories for one in given], answers)


def tallied(
    judge: Judged, truth: Sequence[frozenset[str]], answers: Sequence[Mapping[str, Score]]
) -> dict[str, object]:
    """Counts per category (`""` for any category that the judge sees), and how many could not be scored."""
    counts: dict[str, list[int]] = {}
    unscored = 0
    for category in (None, *judge.categories):
        seen = judge.categories if category is None else (category,)
        cells = [0, 0, 0, 0]
        for labels, answer in zip(truth, answers, strict=True):
            scored = [(answer[name].value, judge.threshold[name]) for name in seen if answer[name].value is not None]
            if not scored:
                unscored += category is None
                continue
            flagged = any(value is not None and value >= level for value, level in scored)
            unsafe = bool(labels & set(seen))
            cells[(0 if flagged else 1) if unsafe else (3 if flagged else 2)] += 1
        if cells[0] + cells[1] and cells[2] + cells[3]:
            counts[category or ""] = cells
    return {"counts": counts, "unscored": unscored}


def from_manifest(path: Path) -> list[Labelled]:
    """Labelled images of a manifest: `path`, and `categories` separated by `;` (empty for a safe image).

    Raises:
        UsageError: no row names a category, or an image cannot be read.
    """
    found = []
    for row in rows.file_rows(path, labelled=False):
        file = rows.inside(path.parent, str(row.values["path"]), row.where)
        try:
            data = file.read_bytes()
        except OSError as wrong:
            raise UsageError(f"{row.where}: {wrong}") from wrong
        named = str(row.values.get("categories", "")).split(";")
        found.append(Labelled(data, frozenset(name.strip() for name in named if name.strip())))
    if not any(one.categories for one in found):
        raise UsageError(f"{path}: no row has `categories`: unsafe images name theirs, separated by ;")
    return found


def world(images: int) -> list[Labelled]:
    """Renders of the embedded world, half of them with a stand-in for unsafe content."""
    from mllmrisk import world as drawn

    every = list(drawn.scenes())
    kinds = [[s for s in every if s.category is None], [s for s in every if s.category is not None]]
    found = []
    for i in range(images):
        rng = np.random.default_rng([_SEED, i])
        scene = kinds[i % 2][int(rng.integers(len(kinds[i % 2])))]
        data = perturb.encode(drawn.draw(scene, rng), "png")
        found.append(Labelled(data, frozenset() if scene.category is None else frozenset({scene.category})))
    return found
