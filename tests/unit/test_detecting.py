"""Operating points: ties are told, no figure is pooled over sources only, a threshold that ties forbid is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mllmrisk.experiments import detecting
from mllmrisk.experiments.crossfit import Scored, threshold
from mllmrisk.experiments.study import Study
from mllmrisk.records import Sample
from studies import study as opened

WHERE = detecting.Where("detection", "forensic", "native", "forensic/native/all", "all")
SOURCES = ("kodak", "flickr", "phone")


def photograph(source: str, i: int) -> Sample:
    name = f"{source}/{i}"
    return Sample(id=name, label="real", paradigm="real", source=source, image=name)


def made(i: int) -> Sample:
    return Sample(
        id=f"fake/{i}", label="fake", paradigm="mllm", generator="g", source=f"maker {i % 6}", image=f"fake/{i}"
    )


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    real = [photograph(source, i) for source in SOURCES for i in range(2 if source == "phone" else 6)]
    with opened(tmp_path / "run", [*real, *(made(i) for i in range(12))]) as found:
        yield found


def scored(study: Study, score: dict[str, float]) -> Scored:
    values = np.array([score.get(s.source or "", 1.0) for s in study.samples])
    strata = np.arange(len(values)) % 2
    return Scored(study.samples, values, strata.astype(np.int64), {0.05: values - 0.5}, {}, {})


def test_every_source_has_an_auc_of_its_own(study: Study):
    found = scored(study, {"kodak": 0.0, "flickr": 2.0, "phone": 0.0})
    groups = [g for g in detecting.groups(study.samples, 5) if g.generator is None]
    rows = detecting.against_sources(study, found, WHERE, groups, 5)
    assert [(r.generator, r.contrast, r.value) for r in rows] == [
        ("kodak", "against: all", 1.0),
        ("kodak", "against: mllm", 1.0),
        ("flickr", "against: all", 0.0),
        ("flickr", "against: mllm", 0.0),
    ]  # `phone` has too few photographs
    assert {r.paradigm for r in rows} == {"real"}
    assert {r.n_images for r in rows} == {18}
    assert rows[2].evidence is not None
    assert rows[2].evidence.against == {"label": "real", "source": "flickr"}
    pooled = detecting.figures(study, found, WHERE, groups[0], (), short=True)
    assert [r.contrast for r in pooled] == [None]
    assert len({r.cell for r in [*rows, *pooled]}) == 5


def test_one_source_alone_is_no_contrast(study: Study):
    alone = [s for s in study.samples if s.source == "kodak" or s.label == "fake"]
    study.samples = alone
    assert detecting.against_sources(study, scored(study, {}), WHERE, detecting.groups(alone, 5), 5) == []


def test_ties_are_counted_within_models_and_told_with_ranks_only(study: Study):
    found = scored(study, {"kodak": 1.0, "flickr": 0.0, "phone": 0.0})
    (group, *_) = detecting.groups(study.samples, 100)
    rows = detecting.figures(study, found, WHERE, group, (0.05,))
    told = {r.metric: r.ties for r in rows}
    # In either stratum 3 of the 7 photographs score as every generated image does.
    assert [told[m] for m in ("auc", "ap", "eer")] == [pytest.approx(3 / 7)] * 3
    assert {told[m] for m in ("accuracy", "calibration_error", "detection_rate")} == {None}
    apart = found._replace(scores=found.scores + found.strata * 1000.0)
    labels = np.array([s.label == "fake" for s in apart.samples])
    assert detecting.ties(apart, labels) == pytest.approx(3 / 7)
    mixed = apart._replace(strata=np.zeros_like(apart.strata))
    assert detecting.ties(mixed, labels) == pytest.approx(3 / 14)


def test_a_threshold_that_ties_forbid_is_none_and_says_so(study: Study):
    assert isinstance(threshold(list(np.linspace(0, 1, 200)), 0.05), float)
    assert threshold([], 0.05) == "too_few_calibration_photographs"
    assert threshold([0.1, 0.2], 0.05) == "too_few_calibration_photographs"
    saturated = threshold([0.0] * 100 + [9.0] * 100, 0.05)
    assert saturated == "tied_calibration_photographs"
    found = scored(study, {})._replace(margins={}, undefined={0.05: saturated})
    (group, *_) = detecting.groups(study.samples, 100)
    rate = next(r for r in detecting.figures(study, found, WHERE, group, (0.05,)) if r.metric == "detection_rate")
    assert rate.value is None
    assert rate.n_unscored == {"tied_calibration_photographs": 12}
