"""Laundering: every perturbation from one decoding of each image, kept and resumed like any other table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mllmrisk import features, runner
from mllmrisk.experiments.laundering import laundered
from mllmrisk.experiments.study import Study
from mllmrisk.manifest import read
from mllmrisk.records import RunSpec
from mllmrisk.store import Store

COLUMNS = ("bits", "npr")
CHAINS = ("jpeg:75", "resize:0.75", "social")


@pytest.fixture
def store(collection: Path, tmp_path: Path) -> Iterator[Store]:
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    given = read(collection)
    with Store.open(tmp_path / "run", spec) as opened:
        runner.ingest(opened, given._replace(entries=given.entries[::5]), lambda *_: None)
        yield opened


def opened(store: Store) -> Study:
    return Study(store, seed=0, resamples=10, threads=1)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(images, chains of each) of every extraction from here on."""
    calls: list[tuple[int, int]] = []
    whole = features.extract_chains

    def counting(images, chains, *more, **named):  # type: ignore[no-untyped-def]
        calls.append((len(images), len(chains[0])))
        return whole(images, chains, *more, **named)

    monkeypatch.setattr(features, "extract_chains", counting)
    return calls


def test_all_arms_are_made_in_one_pass_and_are_what_each_is_alone(store: Store, monkeypatch: pytest.MonkeyPatch):
    study = opened(store)
    arms = [study.arm("native"), *map(laundered, CHAINS)]
    calls = counted(monkeypatch)
    tables = study.feature_tables(arms, COLUMNS)
    assert calls == [(len(study.samples), len(arms))]
    for way in arms:
        alone = features.extract([study.path(s) for s in study.samples], COLUMNS, chains=map(way.chain, study.samples))
        np.testing.assert_array_equal(tables[way.name].values, alone.values)
        assert study.features(way, COLUMNS) is tables[way.name]


def test_a_killed_run_makes_only_what_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch):
    study = opened(store)
    arms = [laundered(chain) for chain in CHAINS]
    whole = study.feature_tables(arms, COLUMNS)
    kind = next(iter(study._tables))[0]
    lost = [s.id for s in study.samples][3:6]
    with store._db:
        store._db.executemany(
            "DELETE FROM vectors WHERE kind = ? AND perturbation = ? AND sample = ?",
            [(kind, arms[0].name, lost[0]), *((kind, way.name, i) for way in arms for i in lost[1:])],
        )
    calls = counted(monkeypatch)
    again = opened(store).feature_tables(arms, COLUMNS)
    assert sorted(calls) == [(1, 1), (2, 3)]
    for name, table in whole.items():
        np.testing.assert_array_equal(again[name].values, table.values)


def test_what_a_perturbation_leaves_too_small_has_its_reason_under_that_arm_alone(store: Store):
    study = opened(store)
    arms = [laundered("jpeg:75"), laundered("crop:40")]
    kept, lost = (study.feature_tables(arms, COLUMNS)[way.name] for way in arms)
    assert len(kept.samples) == len(study.samples)
    assert not kept.reasons
    assert not lost.samples
    assert set(lost.reasons.values()) == {"too_small"}
    assert not store.failures()


def test_a_named_chain_that_shrinks_gets_a_smaller_crop_like_its_steps():
    assert laundered("screenshot").chain(None).startswith("screenshot+crop:205+")
    assert laundered("resize:0.8:bilinear+png").chain(None).endswith(laundered("screenshot").chain(None)[10:])
    assert "+crop:256+" in laundered("social").chain(None)


def test_noise_follows_the_image_and_not_its_place_in_a_batch(store: Store):
    study = opened(store)
    whole = study.feature_tables([laundered("noise:4.0")], COLUMNS)["noise:4.0"]
    few = opened(store)
    few.samples = few.samples[3:5]
    few.store.add_vectors = lambda *_: None  # type: ignore[method-assign]
    few.store.vectors = lambda *_: {}  # type: ignore[method-assign]
    again = few.feature_tables([laundered("noise:4.0")], COLUMNS)["noise:4.0"]
    np.testing.assert_array_equal(again.values, whole.values[3:5])
