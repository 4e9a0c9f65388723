"""The ONNX file of a detector gives what scikit-learn gives, and what its card says is what it needs."""

import msgspec
import numpy as np
import pytest

from mllmrisk import features
from mllmrisk.detectors.fitting import Rows, _fit_trees, fit
from mllmrisk.detectors.forensic import Card, Forensic, to_onnx
from mllmrisk.errors import UsageError

#: A detector may read any features; a few keep the tests quick.
COLUMNS = ("srm3", "npr", "bits")


def rows(seed: int, shift: float = 1.0) -> Rows:
    """Groups of correlated rows with an effect in a few columns, on wildly different scales."""
    rng = np.random.default_rng(seed)
    width = len(features.names(COLUMNS))
    labels = np.repeat(np.arange(24) % 2 == 1, 10)
    groups = np.repeat(np.arange(24), 10)
    values = rng.normal(size=(240, width)) + rng.normal(size=(24, width))[groups] * 0.5
    values[:, :5] += shift * labels[:, None]
    values *= 10.0 ** rng.integers(-3, 4, width)
    values[:, 7] = 3.25  # a constant column
    return Rows(values.astype(np.float32), labels, groups, np.arange(240), np.ones(240), np.ones(240, dtype=bool))


def card(**more: object) -> Card:
    known = {
        "kind": "forensic",
        "features": list(features.names(COLUMNS)),
        "chains": ["native"],
        "view": "native",
        "thresholds": {"0.05": 1.0},
        "training": {},
    }
    return Card(**{**known, **more})


@pytest.mark.parametrize("seed", [0, 1])
def test_the_file_gives_what_the_fitted_model_gives(seed: int):
    given = rows(seed)
    fitted = fit(given, seed=seed)
    # Force each part of the blend to matter, whatever the inner validation chose.
    trees = _fit_trees(given, np.ones(240, dtype=bool), seed)
    for share in (0.0, 0.4, 1.0):
        blended = fitted._replace(share=share, curved=trees if share else None)
        loaded = Forensic(to_onnx(blended, card()))
        rng = np.random.default_rng(99)
        unseen = (given.values * rng.uniform(0.5, 1.5, given.values.shape)).astype(np.float32)
        for values in (given.values, unseen):
            expected = blended.logits(values)
            assert np.abs(loaded.logits(values) - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


def test_inner_scores_come_from_models_that_had_not_seen_the_group():
    """Labels without any effect: inner scores of honest cross-fitting carry no information about them."""
    aucs = [fit(rows(seed, shift=0.0), seed=seed).inner_auc for seed in range(4)]
    assert np.mean(aucs) < 0.65


def test_an_effect_is_found_and_calibrated():
    fitted = fit(rows(3, shift=1.5), seed=0)
    assert fitted.inner_auc > 0.9
    given = rows(4, shift=1.5)
    probability = 1 / (1 + np.exp(-fit(given, seed=0).inner))
    assert abs(probability.mean() - given.labels.mean()) < 0.08


def test_one_label_alone_is_refused():
    given = rows(0)
    with pytest.raises(ValueError, match="both"):
        fit(given._replace(labels=np.ones(240, dtype=bool)), seed=0)


def test_a_foreign_model_and_a_broken_file_are_refused_in_words(tmp_path):
    import onnx

    foreign = onnx.load_from_string(to_onnx(fit(rows(0), seed=0), card()))
    del foreign.metadata_props[:]
    path = tmp_path / "foreign.onnx"
    path.write_bytes(foreign.SerializeToString())
    with pytest.raises(UsageError, match="not one that `mllmrisk train` wrote"):
        Forensic(path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UsageError, match="broken"):
        Forensic(broken)
    with pytest.raises(UsageError, match="no detector file"):
        Forensic(tmp_path / "absent.onnx")


def test_a_detector_that_needs_another_version_says_so():
    names = [*features.names(COLUMNS)[:-1], "no_such.feature"]
    with pytest.raises(UsageError, match=r"no_such\.feature"):
        Forensic(to_onnx(fit(rows(0), seed=0), card(features=names)))


def test_the_card_comes_back_whole():
    made = card(training={"real": 3, "fake": 4, "inner_auc": 0.75})
    loaded = Forensic(to_onnx(fit(rows(0), seed=0), made))
    assert msgspec.to_builtins(loaded.card) == msgspec.to_builtins(made)
    assert loaded.thresholds == {0.05: 1.0}
