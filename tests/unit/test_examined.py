"""Detectors with weights of their own, as experiments see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mllmrisk.experiments import examined
from mllmrisk.experiments.examined import Division, Loaded
from mllmrisk.experiments.study import Study
from mllmrisk.records import RunSpec, Sample, Score
from mllmrisk.store import Store

HALVES = Division(1, 4, (0.1,))


class Told:
    """A detector that knows its answers by what a file holds, and counts how often it is asked."""

    name = "told"
    version = "1"
    decision = 2.0

    def __init__(self, answers: dict[bytes, float], thresholds: dict[float, float] | None = None) -> None:
        self.answers = answers
        self.thresholds = thresholds or {}
        self.seen: frozenset[str] = frozenset()
        self.asked = 0

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        self.asked += len(images)
        found = [self.answers.get(Path(str(image)).read_bytes()) for image in images]
        return [Score(None, "unreadable") if value is None else Score(value) for value in found]


class Captioned(Told):
    """One that captions what it scores."""

    def captioned(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[tuple[Score, str | None]]:
        scores = self.score(images, chains=chains, threads=threads)
        return [(score, None if score.value is None else f"seen as {score.value}") for score in scores]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    with Store.open(tmp_path / "run", spec) as store:
        rows = []
        for i in range(90):
            label = "real" if i < 60 else "fake"
            digest = store.add_image(f"{label} {i}".encode(), "bin")
            paradigm = "real" if label == "real" else "mllm"
            rows.append(
                (i, Sample(id=f"s{i}", label=label, paradigm=paradigm, image=digest, source=f"{label} {i % 15}"))
            )
        store.add_samples(rows)
        yield Study(store, seed=0, resamples=50, threads=1)


def answers(rng: np.random.Generator, studied: Study) -> dict[bytes, float]:
    """Photographs around 0, generated images around 3; one photograph has no answer."""
    values = {}
    for sample in studied.samples[1:]:
        height = 3.0 if sample.label == "fake" else 0.0
        values[studied.path(sample).read_bytes()] = float(rng.normal(height))
    return values


def test_a_threshold_comes_from_photographs_of_other_groups_and_is_carried(study: Study) -> None:
    told = answers(np.random.default_rng(0), study)
    native, recompressed = study.arm("native"), study.arm("recompressed")
    found = Loaded(Told(told)).under(study, "native", [native, recompressed], HALVES)
    fold_of = study.folds(4, 0)
    raw = {s.id: told[study.path(s).read_bytes()] for s in study.samples[1:]}
    for name in ("native", "recompressed"):
        scored = found[name]
        assert scored.reasons == {"s0": "unreadable"}
        np.testing.assert_allclose(scored.scores, [raw[s.id] - 2.0 for s in scored.samples])
        for sample, margin in zip(scored.samples, scored.margins[0.1], strict=True):
            others = [raw[s.id] for s in study.samples[1:60] if fold_of[s.id] != fold_of[sample.id]]
            cut = raw[sample.id] - margin
            assert np.mean(np.array(others) > cut + 1e-9) <= 0.1
            assert np.mean(np.array(others) > cut - 1e-9) > 0.1 - 2 / len(others)


def test_a_file_s_own_threshold_stands(study: Study) -> None:
    told = answers(np.random.default_rng(1), study)
    scored = Loaded(Told(told, {0.1: 1.5})).under(study, "native", [study.arm("native")], HALVES)["native"]
    np.testing.assert_allclose(scored.scores + 2.0 - 1.5, scored.margins[0.1])


def test_too_few_photographs_set_no_threshold(study: Study) -> None:
    told = answers(np.random.default_rng(2), study)
    rare = Division(1, 4, (0.001,))
    scored = Loaded(Told(told)).under(study, "native", [study.arm("native")], rare)["native"]
    assert scored.undefined == {0.001: "too_few_calibration_photographs"}
    assert scored.margins == {}


def test_what_is_scored_is_not_asked_again_and_captions_are_kept(study: Study) -> None:
    detector = Captioned(answers(np.random.default_rng(3), study))
    one = Loaded(detector)
    one.under(study, "native", [study.arm("native")], HALVES)
    one.under(study, "native", [study.arm("native")], HALVES)
    assert detector.asked == len(study.samples)
    kept = study.store.captions("told@1", "native")
    assert set(kept) == {s.id for s in study.samples[1:]}
    assert all(text.startswith("seen as") for text in kept.values())


def test_a_profile_without_detectors_says_what_it_lacks() -> None:
    assert examined.absent(examined.load(())) == "the profile names no detector"
    found = examined.load(("forensic",))
    assert examined.absent(found) is None
    assert list(examined.needs(found)) == ["train", "cpu"]
