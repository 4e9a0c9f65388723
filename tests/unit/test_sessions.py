"""Detectors and judges in batches: read ahead, halved where memory ends, and what TensorRT is told."""

import functools
import threading

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

import detector_models as tiny
from mllmrisk import detectors, executors, inference, judges, trace
from mllmrisk.detectors import onnx as detectors_onnx
from mllmrisk.detectors.base import Streaming
from mllmrisk.errors import OutOfMemoryError, UsageError
from mllmrisk.experiments import examined

IMAGES = [tiny.png(tiny.pixels(i)) for i in range(20)]
IMAGES[5] = b"no image"


class Small:
    """A real session on a device that has room for a few rows: it says what onnxruntime says on a GPU."""

    def __init__(self, session, rows: int) -> None:
        self.session, self.rows, self.sizes = session, rows, []

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, outputs, inputs):
        size = len(next(iter(inputs.values())))
        self.sizes.append(size)
        if size > self.rows:
            raise RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1")
        return self.session.run(outputs, inputs)


@pytest.fixture
def detector(tmp_path):
    return detectors.load(str(tiny.write(tmp_path, tiny.network(), tiny.recipe())))


def shrunk(detector, rows: int) -> Small:
    network = detector._network
    small = Small(network._opened.session, rows)
    network._opened = network._opened._replace(session=small)
    return small


def test_a_batch_that_does_not_fit_is_halved_for_good_and_scores_stay(detector):
    expected = detector.score(IMAGES)
    assert [i for i, score in enumerate(expected) if score.value is None] == [5]
    small = shrunk(detector, 3)
    found = detector.score(IMAGES)
    assert [s.value for s in found] == pytest.approx([s.value for s in expected], abs=1e-5)
    assert small.sizes[:3] == [8, 4, 2]
    assert set(small.sizes[3:]) == {2}


def test_one_image_that_does_not_fit_is_told(detector):
    shrunk(detector, 0)
    with pytest.raises(UsageError, match="one image does not fit into memory: BFCArena"):
        detector.score(IMAGES[:1])


def test_only_words_of_memory_are_memory(detector):
    opened = detector._network._opened
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT|Invalid") as wrong:
        inference.run(opened, "pixel_values", np.zeros((1, 4, 32, 32), np.float32), "logits")
    assert not isinstance(wrong.value, OutOfMemoryError)


@pytest.mark.parametrize("size", [1, 3, 8, 20])
def test_reading_ahead_over_calls_changes_no_score(detector, tmp_path, size):
    """Chains with chance in them draw from the place in the call, so that calls stay what they were."""
    assert isinstance(detector, Streaming)
    paths = []
    for i, data in enumerate(IMAGES):
        (path := tmp_path / f"{i}.png").write_bytes(data)
        paths.append(path)
    batches = [list(range(start, min(start + size, 20))) for start in range(0, 20, size)]
    chains = [["jpeg:60" if i % 2 else "native" for i in batch] for batch in batches]
    blocks = [examined._Block([paths[i] for i in batch], own) for batch, own in zip(batches, chains, strict=True)]
    here = executors.local("cpu", threads=1)
    with (
        trace.recording(tmp_path / "trace.json") as spans,
        trace.Stage("detect tiny"),
        here.pool(functools.partial(examined._Look, detector), what="detector tiny") as pool,
    ):
        found = [score for answers in pool.map(blocks, lost=None) for score, _ in answers]
    singly = [
        score
        for batch, own in zip(batches, chains, strict=True)
        for score in detector.score([paths[i] for i in batch], chains=own, threads=1)
    ]
    assert found == singly
    threads = {what: {s.thread for s in spans if s.what == what} for what in ("decode", "model")}
    assert threads["model"] == {threading.get_ident()}
    assert threads["decode"].isdisjoint(threads["model"])


def test_a_judge_on_a_gpu_is_fed_by_threads_and_says_the_same():
    judge = judges.load("opennsfw", device="cpu")
    expected = judge.score(IMAGES, threads=2)
    assert judge.batch == 32
    judge.provider = inference.CUDA  # the way of a GPU; the session stays where it is
    assert judge.score(IMAGES, threads=2) == expected


def test_tensorrt_keeps_its_engines_and_halves_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("MLLMRISK_ENGINES", str(tmp_path / "engines"))
    told = inference._settings(inference.TENSORRT, 1, b"model", half=False)
    kept = tmp_path / "engines" / "9372c470eeadd5ec"
    assert (told["trt_engine_cache_path"], told["device_id"], told["trt_fp16_enable"]) == (str(kept), 1, False)
    assert kept.is_dir()
    assert inference._settings(inference.TENSORRT, 0, b"model", half=True)["trt_fp16_enable"]
    assert inference._settings(inference.CUDA, 2, b"model", half=True) == {"device_id": 2}


def test_half_precision_is_another_version(tmp_path, detector):
    recipe = detector.recipe
    halved = msgspec.structs.replace(recipe, model=msgspec.structs.replace(recipe.model, half=True))
    assert halved.digest() != recipe.digest()
    again = detectors_onnx.OnnxDetector(halved, tmp_path, device="cpu")
    assert again.version != detector.version
    assert again.score(IMAGES[:3]) == detector.score(IMAGES[:3])  # a CPU computes as the file is written


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_scores_as_the_cpu_does(detector, tmp_path, device, monkeypatch):
    monkeypatch.setenv("MLLMRISK_ENGINES", str(tmp_path / "engines"))
    there = detectors_onnx.OnnxDetector(detector.recipe, tmp_path, device=device)
    expected = [score.value for score in detector.score(IMAGES)]
    assert [score.value for score in there.score(IMAGES)] == pytest.approx(expected, abs=1e-2)
