"""Simulated studies with known truth: prompts, generators and judges whose rates are set, no pixels.

A study is 2 + 2 generators of two paradigms over four prompt sets. Each prompt has a rate of its own (Beta, so that
images of one prompt correlate), which prompts of one concept share in part (a Gaussian copula), so that pairing has
something to gain. Judges err at set rates. The experiments under test are the package's own; only what the models and
judges would have said is drawn.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import stats

from mllmrisk.experiments import agreement, contrast, corrupted, counting, filter, judging, unsafe, validation
from mllmrisk.experiments.counting import Verdicts
from mllmrisk.experiments.judging import Judged
from mllmrisk.experiments.study import Study
from mllmrisk.metrics import Validation
from mllmrisk.records import Estimate, Outcome, Prompt, RunSpec, Sample, Score
from mllmrisk.store import Store

GENERATORS = {"d1": "diffusion", "d2": "diffusion", "m1": "mllm", "m2": "mllm"}
SETS = ("plain", "foreign", "twins", "people")
JUDGES = ("first", "second")
CATEGORY = "stand-in"


@dataclass(frozen=True)
class Truth:
    """What is set.

    Attributes:
        prompts, samples: per set, and per prompt and generator.
        unsafe: mean rate by (set, paradigm).
        corrupted: likewise.
        lost: share of requests that are refused, by paradigm.
        women: share of people who present as women, by paradigm.
        within: correlation of two images of one prompt.
        shared: of the latent rates of prompts of one concept, across sets and generators.
        sensitivity, specificity: of each judge, and of the filter.
        called_unsafe: share of corrupted images that a judge flags.
        unscored: share of images that a judge cannot score.
        labelled: images of each kind on which a judge's errors are measured.
    """

    prompts: int = 40
    samples: int = 3
    unsafe: Mapping[tuple[str, str], float] = field(
        default_factory=lambda: {
            ("plain", "diffusion"): 0.30, ("plain", "mllm"): 0.50, ("foreign", "diffusion"): 0.15,
            ("foreign", "mllm"): 0.45, ("twins", "diffusion"): 0.10, ("twins", "mllm"): 0.12,
            ("people", "diffusion"): 0.10, ("people", "mllm"): 0.10,
        }
    )  # fmt: skip
    corrupted: Mapping[tuple[str, str], float] = field(
        default_factory=lambda: {
            (name, paradigm): rate + (0.1 if name == "twins" else 0.0)
            for name in SETS
            for paradigm, rate in (("diffusion", 0.4), ("mllm", 0.15))
        }
    )
    lost: Mapping[str, float] = field(default_factory=lambda: {"diffusion": 0.05, "mllm": 0.15})
    women: Mapping[str, float] = field(default_factory=lambda: {"diffusion": 0.35, "mllm": 0.6})
    within: float = 0.2
    shared: float = 0.5
    sensitivity: Mapping[str, float] = field(default_factory=lambda: {"first": 0.85, "second": 0.75, "filter": 0.7})
    specificity: Mapping[str, float] = field(default_factory=lambda: {"first": 0.92, "second": 0.95, "filter": 0.9})
    called_unsafe: float = 0.2
    unscored: float = 0.03
    labelled: int = 300

    @classmethod
    def null(cls, **changes: int) -> Truth:
        """Nothing differs between sets and paradigms, and half of the people present as women."""
        every = [(name, paradigm) for name in SETS for paradigm in ("diffusion", "mllm")]
        return replace(
            cls(**changes),
            unsafe=dict.fromkeys(every, 0.3),
            corrupted=dict.fromkeys(every, 0.2),
            lost=dict.fromkeys(("diffusion", "mllm"), 0.05),
            women=dict.fromkeys(("diffusion", "mllm"), 0.5),
        )

    @classmethod
    def rare(cls) -> Truth:
        """Near the bounds: few images are unsafe or corrupted, and a judge calls nearly all corrupted images safe."""
        every = [(name, paradigm) for name in SETS for paradigm in ("diffusion", "mllm")]
        return replace(
            cls(),
            unsafe=dict.fromkeys(every, 0.02),
            corrupted=dict.fromkeys(every, 0.03),
            lost=dict.fromkeys(("diffusion", "mllm"), 0.02),
            women=dict.fromkeys(("diffusion", "mllm"), 0.95),
            sensitivity={"first": 0.9, "second": 0.9, "filter": 0.9},
            specificity={"first": 0.99, "second": 0.99, "filter": 0.99},
            called_unsafe=0.006,
        )


class Drawn:
    """One simulated study: samples, prompts, what judges said, which images are corrupted, the judge's errors."""

    def __init__(self, truth: Truth, seed: int) -> None:
        self.truth = truth
        self.rng = np.random.default_rng([seed, 0x7B057])
        self.prompts: list[Prompt] = []
        self.samples: list[Sample] = []
        self.state: dict[str, str] = {}
        self.woman: dict[str, bool] = {}
        for name in SETS:
            self._set(name)
        self.judged = {name: self._judged(name) for name in (*JUDGES, "filter")}
        self.verdicts = Verdicts(
            asked=True,
            corrupted=frozenset(i for i, state in self.state.items() if state == "corrupted"),
            by="the simulation",
            scorer="corruption",
        )
        self.known = self._validation()

    def _rates(self, mean: float, latent: np.ndarray) -> np.ndarray:
        """(prompts,) Beta rates of that mean, increasing in a standard normal latent."""
        if mean in (0.0, 1.0):
            return np.full(len(latent), mean)
        total = 1 / self.truth.within - 1
        return stats.beta.ppf(stats.norm.cdf(latent), mean * total, (1 - mean) * total)

    def _set(self, name: str) -> None:
        t, rng = self.truth, self.rng
        if not self.prompts:
            self.concepts = {what: rng.standard_normal(t.prompts) for what in ("unsafe", "corrupted", "woman")}
        for i in range(t.prompts):
            twin = f"plain/{i}" if name == "twins" else None
            prompt = Prompt(id=f"{name}/{i}", text=str(i), prompt_set=name, concept=f"c{i}", twin_of=twin)
            self.prompts.append(prompt)
        for generator, paradigm in GENERATORS.items():

            def rates(mean: float, what: str) -> np.ndarray:
                own = rng.standard_normal(t.prompts)
                return self._rates(mean, np.sqrt(t.shared) * self.concepts[what] + np.sqrt(1 - t.shared) * own)

            shape = (t.prompts, t.samples)
            unsafe = rng.random(shape) < rates(t.unsafe[name, paradigm], "unsafe")[:, None]
            broken = rng.random(shape) < rates(t.corrupted[name, paradigm], "corrupted")[:, None]
            women = rng.random(shape) < rates(t.women[paradigm], "woman")[:, None]
            lost = rng.random(shape) < t.lost[paradigm]
            for i, k in np.ndindex(shape):
                sample = f"{name}/{i}/{generator}/{k}"
                self.state[sample] = (
                    "lost" if lost[i, k] else "corrupted" if broken[i, k] else "unsafe" if unsafe[i, k] else "safe"
                )
                self.woman[sample] = bool(women[i, k])
                self.samples.append(
                    Sample(
                        id=sample, label="fake", paradigm=paradigm, generator=generator, prompt_id=f"{name}/{i}",
                        prompt_set=name, index=int(k), outcome=Outcome.REFUSED if lost[i, k] else Outcome.OK,
                        image=None if lost[i, k] else sample,
                    )
                )  # fmt: skip

    def _judged(self, name: str) -> Judged:
        t, rng = self.truth, self.rng
        chance = {
            "unsafe": t.sensitivity[name], "safe": 1 - t.specificity[name], "corrupted": t.called_unsafe,
        }  # fmt: skip
        scores: dict[str, Score] = {}
        attributes: dict[str, dict[str, Score]] = {"woman": {}, "man": {}}
        for sample, state in self.state.items():
            if state == "lost":
                continue
            if name != "filter" and rng.random() < t.unscored:
                scores[sample] = Score(None, "timeout")
            else:
                scores[sample] = Score(float(rng.random() < chance[state]))
            if name == "first" and sample.startswith("people/"):
                for what, there in (("woman", self.woman[sample]), ("man", not self.woman[sample])):
                    attributes[what][sample] = Score(float(there))
        told = {CATEGORY: scores, **(attributes if name == "first" else {})}
        has = ("woman", "man") if name == "first" else ()
        return Judged(name, f"{name}@1", name, (CATEGORY,), has, {CATEGORY: 0.5}, told)

    def _validation(self) -> validation.Known:
        n = self.truth.labelled
        hits = int(self.rng.binomial(n, self.truth.sensitivity["first"]))
        passes = int(self.rng.binomial(n, self.truth.specificity["first"]))
        counts = Validation(hits, n - hits, passes, n - passes)
        return validation.Known({None: counts, CATEGORY: counts}, "simulated images", 0)


def estimates(truth: Truth, seed: int, folder: Path, resamples: int, *, contrasts_only: bool = False) -> list[Estimate]:
    """The estimates of the experiments on one simulated study."""
    drawn = Drawn(truth, seed)
    spec = RunSpec(suite="trust", suite_digest="", profile="simulated", profile_digest="", seed=seed)
    with Store.open(folder, spec) as store:
        store.add_prompts(drawn.prompts)
        store.add_samples(enumerate(drawn.samples))
        study = Study(store, seed=seed, resamples=resamples, threads=1)
        for name, said in drawn.judged.items():
            judging.told(study, name, said)
        found = contrasts(study)
        if contrasts_only:
            return found
        named = ["plain"]
        groups = [g for g in counting.groups(study, counting.of_sets(study, named), named) if "prompt_set" in g.keys]
        first = drawn.judged["first"]
        found += unsafe.figures(study, first, groups, drawn.verdicts, drawn.known)
        in_pair = counting.of_sets(study, ["plain", "twins"])
        found += corrupted.figures(study, in_pair, ["plain"], ["twins"], drawn.verdicts, [first])
        plain = counting.of_sets(study, ["plain"])
        found += filter.figures(study, drawn.judged["filter"], [first], plain, ["plain"], drawn.verdicts)
        found += agreement.Agreement(agreement.Parameters(sets=("plain",), judges=JUDGES, consensus="any")).estimates(
            study
        )
    return found


def contrasts(study: Study) -> list[Estimate]:
    """All designs of matched prompts: one family."""
    return contrast.Contrast(
        contrast.Parameters(
            designs=("paradigm", "language", "association", "gender"),
            sets=("plain",),
            language=(("foreign", "plain"),),
            association=(("plain", "twins"),),
            gender=("people",),
            judges=("first",),
        )
    ).estimates(study)


def studies(
    truth: Truth, count: int, folder: Path, resamples: int, *, contrasts_only: bool = False
) -> Iterator[list[Estimate]]:
    """Estimates of many studies, each of its own seed."""
    for seed in range(count):
        place = folder / str(seed)
        yield estimates(truth, seed, place, resamples, contrasts_only=contrasts_only)
        shutil.rmtree(place)
