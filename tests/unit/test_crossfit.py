"""Cross-fitting over real pixels: who is trained on what, which models are shared, what stops it."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mllmrisk import runner
from mllmrisk.errors import UsageError
from mllmrisk.experiments import families
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.leak import Leak, Parameters
from mllmrisk.experiments.retrain import Parameters as RetrainParameters
from mllmrisk.experiments.retrain import Retrain
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.tabular import Tabular
from mllmrisk.manifest import read
from mllmrisk.records import RunSpec, Sample
from mllmrisk.store import Store


def opened(store: Store, manifest: Path, **more: object) -> Study:
    runner.ingest(store, read(manifest), lambda *_: None)
    return Study(store, seed=0, resamples=100, threads=2, device="cpu", **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "run", RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")) as made:
        yield made


class Seen(Tabular):
    """A family that says what it was trained on."""

    def __init__(self) -> None:
        super().__init__("seen", lambda study, way: study.thumbnails(way))
        self.trainings: list[set[str]] = []

    def train(self, study: Study, asked: families.Training) -> families.Trained:
        self.trainings.append({s.id for s in asked.seen})
        return super().train(study, asked)


def diffusion(sample: Sample) -> bool:
    return sample.paradigm == "diffusion"


def test_no_image_is_scored_by_a_model_that_saw_its_group_or_another_paradigm(store: Store, collection: Path) -> None:
    study, family = opened(store, collection), Seen()
    asked = Plan("native", "diffusion", diffusion, 1, 3, (0.05,))
    crossfit(study, family, asked, [study.arm("native")])
    by_id = {s.id: s for s in study.samples}
    group = dict(zip(by_id, study.groups.ids, strict=True))
    fold_of = study.folds(3, 0)
    assert len(family.trainings) == 3
    for fold, seen in enumerate(family.trainings):
        assert {by_id[i].paradigm for i in seen} == {"real", "diffusion"}
        held_out = {group[i] for i, f in fold_of.items() if f == fold}
        assert not held_out & {group[i] for i in seen}


def test_equal_trainings_share_one_model_and_its_calibration(store: Store, collection: Path) -> None:
    study, family = opened(store, collection), families.load("forensic")
    plans = [Plan("native", name, diffusion, 1, 2, (0.1,)) for name in ("diffusion", "the one diffusion generator")]
    one, other = (crossfit(study, family, plan, [study.arm("native")])["native"] for plan in plans)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert set(one.margins) == set(other.margins)
    assert len(list((store.root / "models").glob("*.onnx"))) == 2, "a model per fold, whatever it is called"
    assert not any((store.root / "checkpoints").glob("*"))


def copied(collection: Path, folder: Path) -> Path:
    """The collection, and a copy of one of its photographs under another source."""
    with collection.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        shutil.copy(collection.parent / row["path"], folder / row["path"])
    twin = {**rows[0], "path": "twin.jpg", "source": "source real 3"}
    shutil.copy(collection.parent / rows[0]["path"], folder / "twin.jpg")
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, twin])
    return manifest


def test_near_duplicates_stop_a_retraining_and_stand_on_one_side_elsewhere(
    store: Store, collection: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    study = opened(store, copied(collection, tmp_path / "images"))
    with pytest.raises(UsageError, match=r"1 pair\(s\) of near-duplicates.*\n.*real_0_0.jpg.*twin.jpg"):
        Retrain(RetrainParameters(detectors=("forensic",))).check(study)
    group = dict(zip((s.path for s in study.samples), study.groups.ids, strict=True))
    assert group["real_0_0.jpg"] == group["twin.jpg"] == group["real_3_0.jpg"]
    assert "1 pair(s)" in study.notes[0]
    joined = Study(store, seed=0, resamples=100, threads=2, near_duplicates="join")
    Retrain(RetrainParameters(detectors=("forensic",))).check(joined)
    told = Study(store, seed=0, resamples=100, threads=2, near_duplicates="tell")
    group = dict(zip((s.path for s in told.samples), told.groups.ids, strict=True))
    assert group["real_0_0.jpg"] != group["twin.jpg"]
    assert "left in their groups" in told.notes[0]


def test_content_is_also_looked_at_through_the_encoder_of_a_probe(store: Store, collection: Path) -> None:
    study = opened(store, collection)
    asked = Parameters(views=("native",), probes=("content",), detectors=("forensic", "probe:micro-clip"), repeats=1)
    rows = [row for row in Leak(asked).estimates(study) if row.metric == "auc" and row.paradigm is None]
    assert {row.detector for row in rows} == {"content", "content:micro-clip"}
    assert [(row.detector, row.method, row.n_unscored) for row in rows if row.value is None] == []
    assert {row.n_images for row in rows} == {len(study.samples)}
