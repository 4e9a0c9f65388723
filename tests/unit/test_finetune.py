"""Fine-tuning on a CPU: real images, real classes with tiny random weights, real exports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import made
from mllmrisk import detectors, inference, manifest, metrics
from mllmrisk.detectors.finetuning import backbones, calibrate, data, division, loop, recipe, ship, training
from mllmrisk.detectors.finetuning.data import Examples, Reader
from mllmrisk.detectors.finetuning.recipe import Backbone, Course, Found, Shares
from mllmrisk.errors import MllmriskError, OutOfMemoryError, UsageError
from mllmrisk.experiments import families
from mllmrisk.experiments.study import Study
from mllmrisk.images import Preprocessing
from mllmrisk.records import RunSpec
from mllmrisk.runner import ingest
from mllmrisk.store import Store

SIZE = 32
INPUT = Preprocessing(crop_mode="centre", size=(SIZE, SIZE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TINY_VIT = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": SIZE, "patch_size": 8,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "micro-cnn": {"widths": [8, 16], "scales": [1, 2]},
    "npr": {"blocks": [1, 1], "width": 16},
    "vit": TINY_VIT,
    "siglip": TINY_VIT,
}


def backbone(architecture: str = "micro-cnn", **more: Any) -> Backbone:
    """A backbone that a CPU trains in a second."""
    given = {
        "name": "tiny", "version": "1", "about": "for tests", "architecture": architecture, "input": INPUT,
        "shape": SHAPES[architecture], "course": Course(epochs=4, batch=8, rate=3e-3, patience=9, copies=2),
    }  # fmt: skip
    return Backbone(**{**given, **more})


def found(tiny: Backbone, folder: Path = Path()) -> Found:
    return Found(tiny, folder, "0" * 16)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with loop.threads(1):
        yield


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """48 images of 4 + 4 sources; the generated ones carry the trace of a 2x nearest-neighbour decoder."""
    manifest = made.make_collection(tmp_path_factory.mktemp("finetune"))
    rows = [line.split(",") for line in manifest.read_text().splitlines()[1:]]
    sources = [row[4] for row in rows]
    return Examples(
        [manifest.parent / row[0] for row in rows],
        [row[0] for row in rows],
        np.array([row[1] == "fake" for row in rows]),
        np.unique(sources, return_inverse=True)[1].astype(np.int64),
        np.array([row[2] for row in rows]),
        np.array([1 / sources.count(source) for source in sources]),
    )


def look(position: int, copy: int | None) -> str:
    """A copy is cut elsewhere; the view is the middle."""
    return f"crop:{SIZE}" if copy is None else f"cropat:{SIZE}:0.{copy + 1}:0.{position % 10}"


def trained(
    tiny: Backbone, examples: Examples, *, seed: int = 0, fit: Callable[..., Any] = loop.fit, **run: Any
) -> tuple[backbones.Network, loop.History]:
    """A network after its training, without export."""
    network = backbones.build(tiny, Path(), seed=seed)
    divided = division.divide(examples.groups, examples.labels, examples.kinds, tiny.shares, seed)
    reader = Reader(tiny.input, threads=1)
    device = torch.device("cpu")
    history = fit(network, examples, divided, tiny.course, look, reader, loop.Run(device, seed, **run))
    return network, history


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


# -- division ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(3, 12), st.integers(3, 12), st.booleans())
def test_groups_are_never_divided_and_each_part_has_both_labels(seed: int, reals: int, fakes: int, shared: bool):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, reals + fakes)
    groups = np.repeat(np.arange(reals + fakes), sizes)
    labels = groups >= reals
    if shared:  # a prompt's photograph and its generations are one group
        groups = np.where(labels, (groups - reals) % reals, groups)
    kinds = np.where(labels, np.where(groups % 2, "mllm", "diffusion"), "real")
    made_ = division.divide(groups, labels, kinds, Shares(), seed)
    if len(np.unique(groups[labels])) >= 3 and not shared:
        assert made_.by == "group"
        assert all(len(np.unique(made_.part[groups == group])) == 1 for group in np.unique(groups))
    for name in division.PARTS:
        assert {False, True} == set(labels[made_.of(name)].tolist())


def test_shares_are_kept_where_groups_allow_it():
    groups = np.arange(400) // 2
    labels = groups % 2 == 0
    made_ = division.divide(groups, labels, np.where(labels, "mllm", "real"), Shares(), 3)
    counts = [len(made_.of(name)) for name in division.PARTS]
    assert counts == pytest.approx([240, 60, 100], abs=4)


def test_a_label_of_one_source_is_divided_by_image_and_says_so():
    groups = np.array([0, 1, 2, 3, 4, 5, *[6] * 9])
    labels = groups == 6
    made_ = division.divide(groups, labels, np.where(labels, "mllm", "real"), Shares(), 0)
    assert made_.by == "image (fake)"
    assert len(set(made_.part[labels].tolist())) == 3


def test_two_images_of_a_label_are_too_few():
    groups = np.arange(8)
    with pytest.raises(ValueError, match="at least 3 fake images"):
        division.divide(groups, groups < 2, np.where(groups < 2, "mllm", "real"), Shares(), 0)


# -- data ----------------------------------------------------------------------------------------------------------


def test_an_epoch_has_the_proportions_of_the_weights():
    weights = np.array([4.0, 1.0, 1.0, 1.0, 1.0])
    drawn = [np.bincount(data.drawn(weights, np.random.default_rng(i)), minlength=5) for i in range(200)]
    assert all(2 <= counts[0] <= 3 and counts.sum() == 5 for counts in drawn)
    assert np.mean(drawn, axis=0) == pytest.approx(weights * 5 / 8, abs=0.1)


def test_batches_are_the_same_whatever_was_read_before(examples: Examples):
    def epoch(reader: Reader) -> list[data.Batch]:
        rng = np.random.default_rng(5)
        positions = np.arange(12)
        return list(data.training_batches(examples, positions, look, reader, batch=5, tiles=1, copy=1, rng=rng))

    fresh, used = Reader(INPUT, threads=1), Reader(INPUT, threads=2)
    list(data.plain_batches(examples, np.arange(12), look, used, 4))
    for a, b, c in zip(epoch(fresh), epoch(used), epoch(Reader(INPUT, kept=0)), strict=True):
        assert np.array_equal(a.values, b.values)
        assert np.array_equal(a.values, c.values)
        assert np.array_equal(a.owners, b.owners)
    assert [len(batch.labels) for batch in epoch(fresh)] == [5, 5, 2]


def test_tiles_of_an_image_weigh_as_one_image(examples: Examples):
    tiles = msgspec.structs.replace(INPUT, crop_mode="tiles", stride=SIZE)
    reader = Reader(tiles, threads=1)
    (plain,) = data.plain_batches(examples, np.array([0, 30]), lambda *_: "crop:96", reader, 2)
    assert plain.values.shape == (18, 3, SIZE, SIZE)
    assert plain.weights.sum() == pytest.approx(2)
    rng = np.random.default_rng(0)
    (some,) = data.training_batches(
        examples, np.array([0, 30]), lambda *_: "crop:96", reader, batch=2, tiles=4, copy=0, rng=rng
    )
    assert len(some.values) == 8
    assert set(some.owners.tolist()) <= {0, 30}


def test_pixels_are_scaled_as_the_core_scales_them(examples: Examples):
    from mllmrisk import images

    reader = Reader(INPUT, threads=1)
    (row,) = reader.rows(examples, [3], [look(3, None)])
    assert row is not None
    expected = images.prepare([examples.sources[3]], INPUT, chains=[look(3, None)], threads=1).values
    assert np.allclose(reader.scaled(row), expected, atol=1e-6)


def test_an_image_that_cannot_be_read_is_left_out_with_its_reason(examples: Examples):
    broken = examples._replace(sources=[b"", *examples.sources[1:]])
    reader = Reader(INPUT, threads=1)
    (batch,) = data.plain_batches(broken, np.arange(3), look, reader, 3)
    assert batch.owners.tolist() == [1, 2]
    assert set(reader.unreadable.values()) == {"empty"}


def test_what_goes_wrong_ahead_is_raised_in_its_place():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    got = []
    with pytest.raises(ValueError, match="third"):
        got.extend(data.ahead(items()))
    assert got == [1, 2]


def test_reading_ahead_ends_with_its_reader():
    def endless() -> Iterator[int]:
        n = 0
        while True:
            yield n
            n += 1

    before = threading.active_count()
    reading = data.ahead(endless())
    assert [next(reading) for _ in range(5)] == [0, 1, 2, 3, 4]
    reading.close()
    assert threading.active_count() == before


# -- loop ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("architecture", ["micro-cnn", "npr"])
def test_a_killed_training_goes_on_to_the_same_weights(examples: Examples, tmp_path: Path, architecture: str):
    tiny = backbone(architecture, course=Course(epochs=3, batch=8, rate=3e-3, patience=9, copies=2))

    def kill(done: int, _: int) -> None:
        if done == 1:
            raise Killed

    whole, history = trained(tiny, examples)
    checkpoint = tmp_path / "state.pt"
    with pytest.raises(Killed):
        trained(tiny, examples, checkpoint=checkpoint, identity="a", tell=kill)
    told: list[int] = []
    again, resumed = trained(
        tiny, examples, checkpoint=checkpoint, identity="a", tell=lambda done, _: told.append(done)
    )
    assert told == [2, 3]
    assert resumed == history
    assert same(again.module.state_dict(), whole.module.state_dict())


def test_a_checkpoint_of_another_training_is_not_gone_on_from(examples: Examples, tmp_path: Path):
    tiny = backbone()
    checkpoint = tmp_path / "state.pt"
    trained(tiny, examples, seed=1, checkpoint=checkpoint, identity="a")
    other, _ = trained(tiny, examples, seed=2, checkpoint=checkpoint, identity="b")
    alone, _ = trained(tiny, examples, seed=2)
    assert same(other.module.state_dict(), alone.module.state_dict())


def test_a_file_that_is_no_checkpoint_is_refused(examples: Examples, tmp_path: Path):
    (tmp_path / "state.pt").write_bytes(b"no checkpoint")
    with pytest.raises(UsageError, match="is no checkpoint"):
        trained(backbone(), examples, checkpoint=tmp_path / "state.pt")


def test_the_same_seed_gives_the_same_weights_and_another_others(examples: Examples):
    a, b, c = (trained(backbone(), examples, seed=seed)[0].module.state_dict() for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, c)


def test_training_ends_when_validation_gets_no_better_and_keeps_the_best(examples: Examples):
    course = Course(epochs=40, batch=8, rate=0.3, clip=100.0, patience=2, copies=2)  # far too fast: it diverges
    network, history = trained(backbone(course=course), examples)
    losses = [epoch.validation for epoch in history.epochs]
    assert len(losses) == history.best + 3 < 40
    assert losses[history.best] == min(losses)
    divided = division.divide(examples.groups, examples.labels, examples.kinds, Shares(), 0)
    held = divided.of("validation")
    now = loop.logits(network.module, examples, held, look, Reader(INPUT), torch.device("cpu"), 8)
    assert metrics.auc(list(now.values()), examples.labels[list(now)]) == history.epochs[history.best].auc


def test_a_batch_without_room_is_computed_in_parts(examples: Examples):
    """The device's refusal is made here; that gradients of the parts add up to those of the batch is not."""
    tiny = backbone(shape={**SHAPES["micro-cnn"], "dropout": 0.0})

    def narrow(network: backbones.Network, *rest: Any) -> loop.History:
        inner = network.module.forward

        def forward(values: torch.Tensor) -> torch.Tensor:
            if network.module.training and len(values) > 3:
                raise torch.OutOfMemoryError("no room")
            return inner(values)

        network.module.forward = forward
        return loop.fit(network, *rest)

    _, at_once = trained(tiny, examples)
    _, in_parts = trained(tiny, examples, fit=narrow)
    assert (at_once.parts, in_parts.parts) == (1, 4)
    assert in_parts.epochs[0].fit == pytest.approx(at_once.epochs[0].fit, rel=1e-3)
    network = backbones.build(tiny, Path(), seed=0)
    optimiser = torch.optim.SGD(network.module.parameters())
    (batch,) = data.plain_batches(examples, np.array([0, 9, 30, 33, 40]), look, Reader(INPUT), 5)
    gradients = []
    for parts in (1, 4):
        loop._gradients(network.module, optimiser, batch, parts, torch.device("cpu"))
        gradients.append([parameter.grad.clone() for parameter in network.module.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_a_row_without_room_is_an_error(examples: Examples):
    def none(network: backbones.Network, *rest: Any) -> loop.History:
        def forward(_: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("no room")

        network.module.forward = forward
        return loop.fit(network, *rest)

    with pytest.raises(OutOfMemoryError, match="single row"):
        trained(backbone(), examples, fit=none)


def test_the_rate_rises_and_falls():
    rates = [loop.pace(step, 100, 0.1) for step in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] < 0.01


# -- calibration ---------------------------------------------------------------------------------------------------


def test_platt_finds_slope_and_offset():
    rng = np.random.default_rng(0)
    labels = np.arange(20_000) % 2 == 0
    truth = rng.normal(np.where(labels, 1.0, -1.0), np.sqrt(2))  # its log likelihood ratio is x itself
    found_ = calibrate.fit(truth / 3 - 1, labels, one_row=False)
    assert found_.method == "platt"
    assert found_(truth / 3 - 1) == pytest.approx(truth, abs=0.25)


def test_separable_scores_stay_finite_and_wrong_ones_are_flattened():
    labels = np.array([False] * 20 + [True] * 20)
    sharp = calibrate.fit(np.where(labels, 5.0, -5.0), labels, one_row=True)
    assert 1 < sharp(np.array([5.0]))[0] < 5
    wrong = calibrate.fit(np.linspace(3, -3, 40), labels, one_row=True)
    assert wrong.slopes.tolist() == [calibrate.FLATTEST] * 2


def test_isotonic_is_for_many_images_of_one_row_each():
    rng = np.random.default_rng(1)
    labels = np.arange(2 * calibrate.ISOTONIC) % 2 == 0
    scores = np.where(labels, rng.normal(1, 1, len(labels)), rng.normal(-1, 1, len(labels)))
    bent = np.sign(scores) * scores**2  # no straight line calibrates it
    many = calibrate.fit(bent, labels, one_row=True)
    assert many.method == "isotonic"
    assert calibrate.fit(bent, labels, one_row=False).method == "platt"
    grid = np.linspace(-20, 20, 999)
    assert (np.diff(many(grid)) > 0).all()

    def loss(logits: np.ndarray) -> float:
        return float(np.logaddexp(0, np.where(labels, -logits, logits)).mean())

    assert loss(many(bent)) < loss(calibrate.fit(bent, labels, one_row=False)(bent)) - 0.005


def test_the_graph_calibrates_as_numpy_does():
    from mllmrisk.detectors.finetuning.networks import Calibrated

    bent = calibrate.Calibration(
        "isotonic", np.array([-1.0, 0.5, 2.0]), np.array([-2.0, 0.0, 4.0]), np.array([0.1, 4 / 3, 8 / 3, 0.2])
    )
    x = np.linspace(-4, 4, 41)

    class First(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values[:, 0]

    graph = Calibrated(First(), bent)(torch.from_numpy(x)[:, None].float())
    assert graph[:, 0].numpy() == pytest.approx(bent(x), abs=1e-5)
    assert bent(np.array([-1.0, 0.5, 2.0])) == pytest.approx([-2.0, 0.0, 4.0])


# -- backbones -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe.names())
def test_packaged_backbones_say_where_they_start(name: str):
    packaged = recipe.read(name).backbone
    assert packaged.name == name
    weights = packaged.weights
    assert weights is None or (weights.hub and len(weights.revision or "") == 40 and packaged.licence)


def saved(architecture: str, folder: Path) -> Path:
    """A tiny model as its authors save theirs, with a head of two labels."""
    module = backbones.build(backbone(architecture), Path(), seed=9).module.model
    module.classifier = torch.nn.Linear(16, 2)
    module.config.num_labels = 2
    module.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("architecture", ["siglip", "vit"])
def test_lora_changes_its_additions_and_the_head_alone(examples: Examples, tmp_path: Path, architecture: str):
    saved(architecture, tmp_path / "base")
    tiny = backbone(
        architecture,
        mode="lora",
        weights=recipe.Weights(folder=str(tmp_path / "base")),
        lora=recipe.Lora(targets=["q_proj", "v_proj"], rank=2, dropout=0.1),
    )
    before = backbones.build(tiny, Path(), seed=0).module.state_dict()
    network, _ = trained(tiny, examples)
    after = network.module.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name or "classifier" in name for name in moved)
    assert set(network.trained()) == {name for name in after if "lora_" in name or "classifier" in name}
    x = torch.randn(3, 3, SIZE, SIZE)
    with torch.no_grad():
        adapted = network.module(x)
        plain = network.merged()
        assert torch.allclose(plain(x), adapted, atol=1e-5)
    assert not any("lora_" in name for name in plain.state_dict())


def test_mode_head_trains_the_head_alone(tmp_path: Path):
    saved("vit", tmp_path / "base")
    tiny = backbone("vit", mode="head", weights=recipe.Weights(folder="base"))
    network = backbones.build(tiny, tmp_path, seed=0)
    assert set(network.trained()) == {"model.classifier.weight", "model.classifier.bias"}
    assert network.origin["sha256"]


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    saved("vit", tmp_path / "base")
    other = backbone("vit", weights=recipe.Weights(folder="base"))
    (tmp_path / "base" / "config.json").write_text(
        (tmp_path / "base" / "config.json").read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2')
    )
    with pytest.raises(UsageError, match="has no weights that fit"):
        backbones.build(other, tmp_path, seed=0)


def test_pickled_weights_are_refused(tmp_path: Path):
    saved("vit", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be loaded"):
        backbones.build(backbone("vit", weights=recipe.Weights(folder="base")), tmp_path, seed=0)
    pickled = backbone("npr", weights=recipe.Weights(file="npr.pth"))
    with pytest.raises(UsageError, match="safetensors"):
        backbones.build(pickled, tmp_path, seed=0)


def test_npr_starts_from_a_state_dict(tmp_path: Path):
    from safetensors.torch import save_file

    first = backbones.build(backbone("npr"), Path(), seed=4).module
    save_file(first.state_dict(), tmp_path / "npr.safetensors")
    network = backbones.build(backbone("npr", weights=recipe.Weights(file="npr.safetensors")), tmp_path, seed=5)
    assert same(network.module.state_dict(), first.state_dict())


def test_npr_sees_what_neighbours_differ_by():
    network = backbones.build(backbone("npr"), Path(), seed=0).module.eval()
    flat = torch.randn(1, 3, SIZE // 2, SIZE // 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(network(flat), network(torch.zeros_like(flat)))
    assert not torch.equal(network(torch.randn(1, 3, SIZE, SIZE)), network(torch.zeros_like(flat)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "lora"}, "needs a table"),
        ({"mode": "head"}, "there are none"),
        ({"input": msgspec.structs.replace(INPUT, layout="NHWC")}, "NCHW"),
    ],
)
def test_backbones_that_cannot_be_trained_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        backbone(**change)


def test_a_key_of_the_shape_that_is_none_is_named():
    with pytest.raises(UsageError, match="depths"):
        backbones.build(backbone(shape={"depths": 3}), Path(), seed=0)


# -- export --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["npr", "siglip"])
def test_each_architecture_leaves_as_onnx(architecture: str):
    network = backbones.build(backbone(architecture), Path(), seed=0)
    rows = np.random.default_rng(0).normal(size=(5, 3, SIZE, SIZE)).astype(np.float32)
    straight = calibrate.Calibration("platt", np.zeros(1), np.array([0.5]), np.array([2.0, 2.0]))
    model = ship.to_onnx(network.module.eval(), straight, rows)
    session = inference.open_session(model, what="test", device="cpu").session
    (got,) = session.run(["logit"], {"pixel_values": rows[:3]})
    with torch.no_grad():
        raw = network.module(torch.from_numpy(rows[:3])).numpy()
    assert got[:, 0] == pytest.approx(2 * raw + 0.5, abs=1e-3)


@pytest.fixture(scope="module")
def tuned(examples: Examples) -> training.Tuned:
    course = Course(epochs=12, batch=8, rate=5e-3, copies=3, patience=12)
    return training.train(found(backbone(course=course)), examples, look, seed=0, device="cpu", threads=1)


def test_a_detector_is_trained_from_beginning_to_end(examples: Examples, tuned: training.Tuned):
    assert tuned.inner_auc > 0.9  # the trace is there to be found, at the native size
    parts = tuned.record["parts"]
    assert len(tuned.inner) == parts["calibration"]["real"] + parts["calibration"]["fake"]
    assert sum(part["real"] + part["fake"] for part in parts.values()) == len(examples.labels)
    session = inference.open_session(tuned.model, what="test", device="cpu").session
    reader = Reader(INPUT, threads=1)
    for i, logit in tuned.inner.items():
        (row,) = reader.rows(examples, [i], [look(i, None)])
        assert row is not None
        (got,) = session.run(["logit"], {"pixel_values": reader.scaled(row)})
        assert got.mean() == pytest.approx(logit, abs=1e-3)
    msgspec.json.encode(tuned.record)


def test_an_export_that_computes_something_else_is_refused(tuned: training.Tuned):
    from mllmrisk.detectors.finetuning.networks import Calibrated

    untrained = backbones.build(backbone(), Path(), seed=0).module
    straight = calibrate.Calibration("platt", np.zeros(1), np.zeros(1), np.ones(2))
    rows = torch.randn(3, 3, SIZE, SIZE)
    with pytest.raises(MllmriskError, match="does not compute what torch computes"):
        ship.prove(tuned.model, Calibrated(untrained, straight).eval(), {"pixel_values": rows})


# -- family --------------------------------------------------------------------------------------------------------

MICRO = """
name = "micro"
version = "1"
about = "for tests"
architecture = "micro-cnn"
[shape]
widths = [8]
scales = [2]
[input]
crop_mode = "tiles"
size = [64, 64]
padding = "reflect"
[course]
epochs = 2
rate = 5e-3
copies = 2
"""


def test_a_family_trains_keeps_and_ships_one_detector(collection: Path, tmp_path: Path):
    """What a run scores with, what it restores, and what a stranger runs from the file give the same scores."""
    (tmp_path / "micro.toml").write_text(MICRO)
    family = families.load(f"finetune:{tmp_path / 'micro.toml'}")
    assert family.name == "finetune:micro"
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    with Store.open(tmp_path / "run", spec) as store:
        ingest(store, manifest.read(collection), lambda *_: None)
        study = Study(store, seed=0, resamples=0, threads=1, device="cpu")
        asked = families.Training("recompressed", "all", study.samples, 3, tmp_path / "checkpoints")
        first = family.train(study, asked)
        assert first.data is not None
        assert (tmp_path / "checkpoints" / "state.pt").is_file()
        some = [s for s in study.samples if s.id in first.inner]
        scored = first.scorer(study.arm("recompressed"), some)
        assert {s.id: scored[s.id].value for s in some} == pytest.approx(dict(first.inner), abs=1e-3)
        toml = family.ship(study, asked, first, tmp_path / "mine.onnx")
        paths = [study.path(s) for s in some]
    for file in (toml, tmp_path / "mine.onnx"):
        detector = detectors.load(str(file))
        assert detector.name == "mine"
        assert detector.seen == {str(s.image)[:16] for s in study.samples}
        strangers = detector.score(paths, threads=1)  # the view is its own business
        assert [score.value for score in strangers] == pytest.approx([scored[s.id].value for s in some], abs=1e-6)
    (tmp_path / "broken.png").write_bytes(b"")
    assert detector.score([tmp_path / "broken.png"])[0].reason == "empty"


def test_a_family_without_its_backbone_is_refused():
    with pytest.raises(UsageError, match="needs a backbone"):
        families.load("finetune")
    with pytest.raises(UsageError, match="micro-cnn"):
        families.load("finetune:micro-cn")


def test_images_of_one_label_cannot_train(collection: Path, tmp_path: Path):
    spec = RunSpec(suite="s", suite_digest="1", profile="p", profile_digest="2")
    with Store.open(tmp_path / "run", spec) as store:
        ingest(store, manifest.read(collection), lambda *_: None)
        study = Study(store, seed=0, resamples=0, threads=1, device="cpu")
        real = [s for s in study.samples if s.label == "real"]
        asked = families.Training("recompressed", "all", real, 0, tmp_path / "checkpoints")
        with pytest.raises(ValueError, match="both photographs"):
            families.load("finetune:micro-cnn").train(study, asked)
