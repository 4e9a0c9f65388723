"""Groups and folds: what must never stand on both sides of a split, and how it is divided."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk.records import Sample

#: Fewer groups of photographs, or of generated images, than this make no group-wise split.
_FEWEST = 3


class Groups(NamedTuple):
    """A group for each sample, and what the groups are.

    Attributes:
        ids: (n,) int64, dense from 0.
        by: `source`, `source and prompt`, `prompt` or `image`, as methods state it; `caption` stands for `prompt` where
            several prompts ask for one picture.
    """

    ids: NDArray[np.int64]
    by: str

    @property
    def weak(self) -> bool:
        """Whether images of one source can stand on both sides."""
        return self.by == "image"


def groups(
    samples: Sequence[Sample],
    concepts: Mapping[str, str] | None = None,
    joined: Sequence[tuple[str, str]] = (),
) -> Groups:
    """The coarsest grouping that still leaves enough groups on both sides to split.

    Images of one source, and of one prompt, belong together across all generators and levels; where a collection
    has too few sources for that, the prompt alone groups, and where it has no prompts either, each image stands
    alone (:attr:`Groups.weak`, and the report says so).

    Args:
        samples: the n samples.
        concepts: what a prompt asks for, by prompt id: prompts of one concept (a caption and its expansions) are one.
        joined: pairs of sample ids that belong together for another reason.
    """
    concepts = concepts or {}
    asked = {sample.prompt_id for sample in samples if sample.prompt_id is not None}
    word = "prompt" if len({concepts.get(name, name) for name in asked}) == len(asked) else "caption"
    for columns, by in (
        (("source", "prompt_id"), f"source and {word}"),
        (("source",), "source"),
        (("prompt_id",), word),
    ):
        if any(getattr(sample, column) is None for sample in samples for column in columns[:1]):
            continue
        if len(columns) == 2 and all(sample.prompt_id is None for sample in samples):
            continue
        ids = _components(samples, columns, concepts, joined)
        if all(_count(ids, samples, label) >= _FEWEST for label in ("real", "fake")):
            return Groups(ids, by)
    return Groups(_components(samples, ("image",), {}, joined), "image")


def _count(ids: NDArray[np.int64], samples: Sequence[Sample], label: str) -> int:
    return len({int(i) for i, sample in zip(ids, samples, strict=True) if sample.label == label})


def _components(
    samples: Sequence[Sample],
    columns: Sequence[str],
    concepts: Mapping[str, str],
    joined: Sequence[tuple[str, str]],
) -> NDArray[np.int64]:
    """Connected components of samples that share a value in any of the columns, or that are joined."""
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        for column in columns:
            value = getattr(sample, column)
            if value is not None:
                other = first.setdefault((column, concepts.get(value, value) if column == "prompt_id" else value), i)
                parent[root(i)] = root(other)
    place = {sample.id: i for i, sample in enumerate(samples)}
    for one, other_id in joined:
        parent[root(place[one])] = root(place[other_id])
    dense: dict[int, int] = {}
    return np.array([dense.setdefault(root(i), len(dense)) for i in range(len(samples))], dtype=np.int64)


def folds(ids: NDArray[np.int64], samples: Sequence[Sample], count: int, seed: int) -> NDArray[np.int64]:
    """Divides groups into folds so that each paradigm is spread as evenly as its groups allow.

    Args:
        ids: (n,) group of each sample.
        samples: the n samples.
        count: folds wanted; fewer where a label has fewer groups.
        seed: another seed gives another division.

    Returns:
        (n,) int64 fold of each sample.
    """
    rng = np.random.default_rng([seed, 0xF01D])
    content: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group, sample in zip(ids, samples, strict=True):
        content[int(group)][sample.paradigm] += 1
    count = max(2, min(count, *(_count(ids, samples, label) for label in ("real", "fake"))))
    order = [int(g) for g in rng.permutation(sorted(content))]
    order.sort(key=lambda g: -max(content[g].values()))
    load: list[dict[str, int]] = [defaultdict(int) for _ in range(count)]
    chosen: dict[int, int] = {}
    for group in order:
        main = max(content[group], key=lambda paradigm: content[group][paradigm])
        fold = min(range(count), key=lambda f: (load[f][main], sum(load[f].values())))
        chosen[group] = fold
        for paradigm, n in content[group].items():
            load[fold][paradigm] += n
    return np.array([chosen[int(group)] for group in ids], dtype=np.int64)
