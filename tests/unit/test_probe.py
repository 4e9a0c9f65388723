"""The family `probe`: heads, the cache of embeddings, and the file that a stranger runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import judges_models as tiny
from encoder_models import HEAD, tower
from mllmrisk import detectors, images, manifest
from mllmrisk.detectors import encoders, fitting, probing
from mllmrisk.detectors.fitting import BOOSTED, PERCEPTRON, Rows, fit
from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.experiments import families
from mllmrisk.experiments.crossfit import Plan, crossfit
from mllmrisk.experiments.families import Training
from mllmrisk.experiments.study import Study
from mllmrisk.records import RunSpec
from mllmrisk.runner import ingest
from mllmrisk.store import Store

pytestmark = pytest.mark.filterwarnings("default")  # torch's exporter's own

PICTURES = [tiny.picture(seed, 60, 70) for seed in range(5)]


def rows_of(values: np.ndarray, labels: np.ndarray) -> Rows:
    n = len(values)
    each = np.arange(n, dtype=np.int64)
    return Rows(values.astype(np.float32), labels, each // 4, each, np.ones(n), np.ones(n, dtype=bool))


@pytest.fixture(scope="module")
def toml(tmp_path_factory) -> Path:
    """An ONNX encoder whose rows must go alone."""
    folder = tmp_path_factory.mktemp("encoder")
    model = tower(folder / "t.onnx")
    path = folder / "tower.toml"
    path.write_text(
        "\n".join(f"{key} = {json.dumps(value)}" for key, value in {**HEAD, "name": "tower"}.items())
        + f'\n[model]\nfile = "t.onnx"\nsha256 = "{model["sha256"]}"\noutput = "vectors"\n'
        + '[input]\nbatch = 1\ncrop_mode = "centre"\nsize = [32, 32]\nscale = 0.003921568627450980\n',
        encoding="utf-8",
    )
    return path


def fitted_on(encoder, share: float):
    """A head of random labels, and how its scores come about without ONNX."""
    rng = np.random.default_rng(2)
    centre = encoder.embed(PICTURES).values
    values = centre.mean(axis=0) + centre.std(axis=0) * rng.normal(size=(80, encoder.dimension))
    labels = values[:, 0] > np.median(values[:, 0]) + 0.1 * centre[:, 0].std() * rng.normal(size=80)
    fitted = fit(rows_of(values, labels), seed=0, choice=PERCEPTRON)
    curved = PERCEPTRON.curved(rows_of(values, labels), np.ones(80, dtype=bool), 0)
    return fitted._replace(share=share, curved=curved if share else None)


def head_of(encoder, fitted) -> probing.Head:
    belongs = probing.Belongs(encoder=encoder.name, version=encoder.version, dimension=encoder.dimension)
    return probing.Head(probing.to_onnx(fitted, belongs))


# -- heads -------------------------------------------------------------------------------------------------------------


def test_a_perceptron_comes_in_where_it_pays():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 4))
    straight = fit(rows_of(values, values[:, 0] + rng.normal(0, 0.7, 400) > 0), seed=0, choice=PERCEPTRON)
    assert (straight.share, straight.perceptron, straight.trees) == (0.0, None, None)
    bent = fit(rows_of(values, values[:, 0] * values[:, 1] > 0), seed=0, choice=PERCEPTRON)
    assert bent.share == 1.0
    assert bent.perceptron is not None
    assert bent.inner_auc > 0.9
    assert "share_of_perceptron" in bent.told()
    again = fit(rows_of(values, values[:, 0] * values[:, 1] > 0), seed=0, choice=PERCEPTRON)
    assert np.array_equal(again.logits(values), bent.logits(values))


def test_features_are_fitted_with_trees_as_ever():
    values = np.random.default_rng(0).normal(size=(200, 5))
    labels = values[:, 0] * values[:, 1] > 0
    plain, named = fit(rows_of(values, labels), seed=1), fit(rows_of(values, labels), seed=1, choice=BOOSTED)
    assert plain.share > 0
    assert plain.perceptron is None
    assert np.array_equal(plain.inner, named.inner)
    with pytest.raises(ValueError, match="no trees"):
        probing.to_onnx(plain, probing.Belongs(encoder="e", version="1", dimension=5))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_head_and_grown_file_give_the_scores_of_the_classifier(toml, share):
    encoder = encoders.load(str(toml))
    fitted = fitted_on(encoder, share)
    head = head_of(encoder, fitted)
    vectors = encoder.embed(PICTURES).values
    expected = fitted.logits(vectors)
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(head.logits(vectors), expected, rtol=1e-5, atol=1e-5)
    whole = probing.grown(encoder, head)
    onnx.checker.check_model(onnx.load_from_string(whole), full_check=True)
    assert np.array_equal(_run(whole, encoder), head.logits(vectors))


def test_a_network_of_transformers_grows_a_head(tmp_path):
    folder = tiny.clip(tmp_path / "clip")
    table = {
        **HEAD, "kind": "transformers", "model": {"folder": folder.name}, "normalise": True,
        "input": {"crop_mode": "short", "size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3},
    }  # fmt: skip
    encoder = encoders.KINDS.get("transformers")(table, tmp_path, device="cpu")
    head = head_of(encoder, fitted_on(encoder, 0.5))
    whole = probing.grown(encoder, head)
    vectors = encoder.embed(PICTURES).values
    np.testing.assert_allclose(_run(whole, encoder), head.logits(vectors), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(_run(whole, encoder, at_once=True), head.logits(vectors), rtol=1e-5, atol=1e-4)
    for word in (str(Path.cwd()), "site-packages", "stack_trace"):
        assert word.encode() not in whole


def _run(model: bytes, encoder, *, at_once: bool = False) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pixels = images.prepare(PICTURES, encoder.about.input.preprocessing()).values
    parts = [pixels] if at_once else [pixels[i : i + 1] for i in range(len(pixels))]
    return np.concatenate([session.run(["logit"], {"pixel_values": part})[0] for part in parts])[:, 0]


def test_a_head_stays_with_its_encoder(toml):
    encoder = encoders.load(str(toml))
    other = probing.Belongs(encoder=encoder.name, version="another", dimension=encoder.dimension)
    head = probing.Head(probing.to_onnx(fitted_on(encoder, 0.0), other))
    with pytest.raises(UsageError, match="fitted on tower@another"):
        probing.grown(encoder, head)
    with pytest.raises(UsageError, match="not the head of a probe"):
        probing.Head((toml.parent / "t.onnx").read_bytes())


# -- the family --------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(collection, tmp_path):
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    with Store.open(tmp_path / "run", spec) as store:
        ingest(store, manifest.read(collection), lambda *_: None)
        yield Study(store, seed=0, resamples=50, threads=2, device="cpu")


class Counting:
    """An encoder that counts, and may be killed."""

    def __init__(self, encoder, most: int | None = None) -> None:
        self._encoder, self._most, self.images = encoder, most, 0
        self.name, self.version = encoder.name, encoder.version

    def embed(self, images, *, chains=None, threads=None):
        if self._most is not None and self.images + len(images) > self._most:
            raise KeyboardInterrupt
        self.images += len(images)
        return self._encoder.embed(images, chains=chains, threads=threads)


def test_what_was_embedded_before_a_kill_is_not_embedded_again(study, toml):
    way = study.arm("recompressed")
    encoder = encoders.load(str(toml))
    killed = Counting(encoder, most=32)
    with pytest.raises(KeyboardInterrupt):
        study.embeddings(way, killed)
    going_on = Counting(encoder)
    table = Study(study.store, seed=0, resamples=50, threads=1).embeddings(way, going_on)
    assert (killed.images, going_on.images, len(table.samples)) == (32, 16, 48)
    direct = encoder.embed([study.path(s) for s in study.samples], chains=[way.chain(s) for s in study.samples])
    assert np.array_equal(table.values, direct.values)
    again = Counting(encoder)
    Study(study.store, seed=0, resamples=50).embeddings(way, again)
    assert again.images == 0
    other = Counting(encoder)
    other.version = "another"
    Study(study.store, seed=0, resamples=50).embeddings(way, other)
    assert other.images == 48


def test_a_probe_is_cross_fitted_and_goes_on_from_its_heads(study, toml):
    family = families.load(f"probe:{toml}")
    assert family.name == "probe:tower"
    assert set(family.needs()) == {"train", "cpu"}
    plan = Plan("recompressed", "all", lambda _: True, repeats=1, folds=3, rates=(0.05,))
    way = study.arm("recompressed")
    scored = crossfit(study, family, plan, [way])["recompressed"]
    assert len(scored.samples) == 48
    kept, record = study.store.model("probe:tower/recompressed/all/0/0")
    assert kept.stat().st_size < 20_000  # the head alone
    assert record["encoder"]["name"] == "tower"
    assert record["encoder"]["version"] == family.encoder("cpu").version
    again = families.load(f"probe:{toml}").restore(study, kept)(way, scored.samples[:5])
    fold0 = [i for i, s in enumerate(scored.samples) if scored.strata[i] == 0]
    for i in fold0[:5]:
        assert family.restore(study, kept)(way, [scored.samples[i]])[scored.samples[i].id].value == scored.scores[i]
    assert all(score.value is not None for score in again.values())


@pytest.mark.parametrize("view", ["recompressed", "native"])
def test_the_carried_file_scores_as_the_family_does(study, toml, tmp_path, view):
    family = families.load(f"probe:{toml}")
    asked = Training(view, "all", study.samples, 0, tmp_path / "checkpoints")
    trained = family.train(study, asked)
    written = family.ship(study, asked, trained, tmp_path / "carried" / "probe.onnx")
    own = trained.scorer(study.arm(view), study.samples)
    paths = [study.path(s) for s in study.samples]
    alone = tmp_path / "stranger"
    alone.mkdir()
    shutil.copy(written.with_suffix(".onnx"), alone / "probe.onnx")  # without its TOML
    for file in (written, alone / "probe.onnx"):
        detector = detectors.load(str(file))
        assert detector.name == "probe-tower"
        assert detector.seen == {(s.image or "")[:16] for s in study.samples}
        scores = detector.score(paths, threads=1)
        for sample, score in zip(study.samples, scores, strict=True):
            assert score.value == pytest.approx(own[sample.id].value, abs=1e-4)
    table = written.read_text(encoding="utf-8")
    assert f'chain = "{"crop:256+jpeg:90:420" if view == "recompressed" else "native"}"' in table
    photographs = sum(s.label == "real" for s in study.samples)
    assert f"{photographs} photographs" in table
    assert set(detector.thresholds) <= {0.1, 0.05, 0.01}


def test_a_file_that_scores_otherwise_is_not_kept(study, toml, tmp_path, monkeypatch):
    family = families.load(f"probe:{toml}")
    asked = Training("native", "all", study.samples, 0, tmp_path / "checkpoints")
    trained = family.train(study, asked)
    grown = probing.grown

    def wrong(encoder, head):
        model = onnx.load_from_string(grown(encoder, head))
        (offset,) = (c for c in model.graph.initializer if c.name.endswith("offset"))
        offset.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(offset) + 0.01, offset.name))
        return model.SerializeToString()

    monkeypatch.setattr(probing, "grown", wrong)
    with pytest.raises(MllmriskError, match="the written file scores"):
        family.ship(study, asked, trained, tmp_path / "probe.onnx")
    assert not list(tmp_path.glob("probe.*"))


def test_a_probe_needs_an_encoder():
    with pytest.raises(UsageError, match="name the encoder"):
        families.load("probe")
    with pytest.raises(UsageError, match="micro-clip"):
        families.load("probe:micro-klip")
    assert "gen" in families.load("probe:micro-clip").needs()
    assert fitting.PERCEPTRON.shares[0] == 0.0
