"""Studies made by hand for tests of experiments: prompts, samples and what judges said, without pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mllmrisk.experiments import judging
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.records import Outcome, Prompt, RunSpec, Sample, Score
from mllmrisk.store import Store

PARADIGMS = {"d": "diffusion", "d2": "diffusion", "m": "mllm", "m2": "mllm"}


def sample(prompt: str, generator: str, index: int = 0, outcome: Outcome = Outcome.OK, **more: object) -> Sample:
    """A generated sample `PROMPT/GENERATOR/INDEX` of the prompt `SET/KEY`."""
    name = f"{prompt}/{generator}/{index}"
    given = {
        "id": name, "label": "fake", "paradigm": PARADIGMS[generator], "generator": generator, "prompt_id": prompt,
        "prompt_set": prompt.partition("/")[0], "index": index, "outcome": outcome,
        "image": name if outcome is Outcome.OK else None,
    }  # fmt: skip
    return Sample(**{**given, **more})  # type: ignore[arg-type]


def said(
    name: str, scores: Mapping[str, Mapping[str, float | str]], threshold: float = 0.5, attributes: Sequence[str] = ()
) -> Judged:
    """What a judge said: by category, then by sample id, a score or the reason why there is none."""
    told = {
        category: {i: Score(v) if isinstance(v, float) else Score(None, str(v)) for i, v in given.items()}
        for category, given in scores.items()
    }
    categories = tuple(category for category in told if category not in attributes)
    return Judged(name, f"{name}@1", name, categories, tuple(attributes), dict.fromkeys(told, threshold), told)


@contextmanager
def study(
    root: Path, samples: Sequence[Sample], prompts: Sequence[Prompt] = (), judges: Sequence[Judged] = ()
) -> Iterator[Study]:
    """A study over samples; the judges have been asked."""
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    with Store.open(root, spec) as store:
        store.add_prompts(prompts)
        store.add_samples(enumerate(samples))
        opened = Study(store, seed=0, resamples=200, threads=1, near_duplicates="tell")
        for judge in judges:
            judging.told(opened, judge.name, judge)
        yield opened
