"""Whether images show what their prompts ask for: vectors, kept, and the threshold that a run's own strangers set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mllmrisk.experiments import corruption, judging
from mllmrisk.experiments.study import Study
from mllmrisk.records import Score
from mllmrisk.store import Vector

#: Images per transaction.
_BATCH = 32


@runtime_checkable
class Embedding(Protocol):
    """A judge of alignment: it has no threshold of its own and gives its vectors instead (the kind `alignment`)."""

    name: str
    version: str

    def image_vectors(self, images: Sequence[bytes], *, threads: int) -> Sequence[NDArray[np.float32] | str]:
        """Unit vectors (d,), or the reason why there is none."""
        ...

    def text_vectors(self, prompts: Sequence[str | None], *, threads: int) -> Sequence[NDArray[np.float32] | str]:
        """Unit vectors (d,), or the reason why there is none."""
        ...


@dataclass(frozen=True)
class Vectors:
    """Images and prompts in one space.

    Attributes:
        images: unit vector by sample id.
        texts: unit vector by prompt.
        prompt_of: the prompt of each sample.
        key_of: what names the prompt's concept: its id, or the prompt itself.
        reasons: why a sample has no score.
    """

    images: Mapping[str, NDArray[np.float32]]
    texts: Mapping[str, NDArray[np.float32]]
    prompt_of: Mapping[str, str]
    key_of: Mapping[str, str]
    reasons: Mapping[str, str]

    def scores(self) -> dict[str, Score]:
        """Minus the cosine of each image with its own prompt."""
        found = {sample: Score(None, reason) for sample, reason in self.reasons.items()}
        for sample, image in self.images.items():
            if sample not in found:
                found[sample] = Score(-float(image @ self.texts[self.prompt_of[sample]]))
        return found


def vectors(study: Study, judge: Embedding) -> Vectors:
    """The vectors of a study's images, made once and stored, and of their prompts."""
    kind = f"vectors:{judge.name}@{judge.version}"
    known = study.store.vectors(kind, "native")
    missing = [s for s in study.samples if s.id not in known]
    for start in range(0, len(missing), _BATCH):
        batch = missing[start : start + _BATCH]
        data = [study.path(s).read_bytes() for s in batch]
        made = {
            s.id: Vector(None, found) if isinstance(found, str) else Vector(found, None)
            for s, found in zip(batch, judge.image_vectors(data, threads=study.threads), strict=True)
        }
        study.store.add_vectors(kind, "native", made)
        known |= made
        study.progress(f"judge {judge.name}", start + len(batch), len(missing))
    prompts = {s.id: judging.text(study, s) for s in study.samples}
    keys = {s.id: s.prompt_id or "" for s in study.samples}
    vectors = _together(judge, {s.id: known[s.id] for s in study.samples}, prompts, keys, study.threads)
    study.store.add_scores(f"{judge.name}@{judge.version}", "native", vectors.scores(), "unrelated")
    return vectors


def of(judge: Embedding, ids: Sequence[str], data: Sequence[bytes], prompts: Sequence[str], *, threads: int) -> Vectors:
    """The vectors of images that are no study's; the prompt itself names its concept."""
    made: dict[str, Vector] = {}
    for start in range(0, len(ids), _BATCH):
        part = slice(start, start + _BATCH)
        answers = judge.image_vectors(data[part], threads=threads)
        made |= {
            i: Vector(None, found) if isinstance(found, str) else Vector(found, None)
            for i, found in zip(ids[part], answers, strict=True)
        }
    asked = dict(zip(ids, prompts, strict=True))
    return _together(judge, made, asked, asked, threads)


def _together(
    judge: Embedding,
    made: Mapping[str, Vector],
    prompts: Mapping[str, str | None],
    keys: Mapping[str, str],
    threads: int,
) -> Vectors:
    named = list(dict.fromkeys(prompt for prompt in prompts.values() if prompt is not None))
    answers = dict(zip(named, judge.text_vectors(named, threads=threads), strict=True))
    reasons: dict[str, str] = {}
    for sample, prompt in prompts.items():
        text = "no_prompt" if prompt is None else answers[prompt]
        if made[sample].values is None:
            reasons[sample] = made[sample].reason or "failed"
        elif isinstance(text, str):
            reasons[sample] = text
    return Vectors(
        {sample: vector.values for sample, vector in made.items() if vector.values is not None},
        {prompt: text for prompt, text in answers.items() if not isinstance(text, str)},
        {sample: prompt for sample, prompt in prompts.items() if prompt is not None},
        keys,
        reasons,
    )


def null(given: Vectors, benign: Collection[str], concepts: Mapping[str, str]) -> corruption.Null:
    """The threshold that benign images and prompts of other concepts set.

    Args:
        given: the vectors.
        benign: ids of samples whose prompts are harmless.
        concepts: what each prompt (by `key_of`) asks for.
    """
    chosen = [sample for sample in given.images if sample in benign and sample not in given.reasons]
    prompts = list(dict.fromkeys(given.prompt_of[sample] for sample in chosen))
    if not chosen:
        return corruption.Null(None, 0.95, 0, 0, None)
    position = {prompt: i for i, prompt in enumerate(prompts)}
    key = {given.prompt_of[sample]: given.key_of[sample] for sample in chosen}
    return corruption.null_threshold(
        np.stack([given.images[sample] for sample in chosen]),
        np.stack([given.texts[prompt] for prompt in prompts]),
        [position[given.prompt_of[sample]] for sample in chosen],
        [concepts.get(key[prompt], key[prompt]) for prompt in prompts],
    )


def words(null: corruption.Null) -> str:
    """A null in words, for a method."""
    if null.threshold is None or null.kept is None:
        return "not asked: too few benign images with prompts of other concepts"
    return (
        f"unrelated at {null.threshold:.3f}: no nearer to its prompt than {null.level:.0%} of {null.n_pairs} pairs of "
        f"benign images with prompts of others, which lets {null.kept:.0%} of {null.n_images} benign images pass"
    )
