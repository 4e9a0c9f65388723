"""The weights that come with the package load with the plain classes and do what their cards say."""

import json
from pathlib import Path

import numpy as np
import pytest

import mllmrisk
from mllmrisk.world import COLOURS, PLACES, SUBJECTS, Scene, caption, draw, scenes

WEIGHTS = Path(mllmrisk.__file__).parent / "weights"
GENERATORS = ("micro-diffusion", "micro-mllm")
MODELS = (*GENERATORS, "micro-clip", "micro-judge")
MARGIN = 0.15
"""What a sample of 48 may fall short of the card's rate by chance: two standard errors at a rate of 0.5."""

pytestmark = pytest.mark.filterwarnings("ignore")  # torch, diffusers and transformers warn of their own future


@pytest.fixture(scope="module")
def judge():
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(WEIGHTS / "micro-judge/micro-judge.onnx", providers=["CPUExecutionProvider"])

    def read(pictures):
        pixels = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 255
        return session.run(["subject", "colour", "place"], {"pixels": pixels})

    return read


def size(*names: str) -> int:
    return sum(path.stat().st_size for name in names for path in (WEIGHTS / name).rglob("*") if path.is_file())


def test_the_weights_are_small():
    assert size(*GENERATORS) <= 12_000_000
    assert size("micro-judge") <= 1_000_000
    assert size("micro-clip") <= 2_000_000


def test_nothing_is_pickled():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".onnx", ".npy", ".json", ".txt", ".md", ".jinja"}
    for path in files:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_card_with_its_measurements(name):
    card = (WEIGHTS / name / "README.md").read_text(encoding="utf-8")
    assert "miniature" in card
    assert "%" in card
    assert "minutes" in card


def test_the_judge_reads_new_pictures(judge):
    every = list(scenes())
    pictures = np.stack([draw(scene, np.random.default_rng([99, n])) for n, scene in enumerate(every)])
    for scores, table, said in zip(
        judge(pictures),
        (SUBJECTS, COLOURS, PLACES),
        zip(*((scene.subject, scene.colour, scene.place) for scene in every), strict=True),
        strict=True,
    ):
        assert scores.sum(1) == pytest.approx(1, abs=1e-4)
        names = list(table)
        assert np.mean([names[n] == word for n, word in zip(scores.argmax(1), said, strict=True)]) >= 0.98


def make(name: str, texts: list[str]) -> np.ndarray:
    from mllmrisk.micro import measure

    return measure.loaded(name, WEIGHTS / name)(texts)


@pytest.mark.parametrize("name", GENERATORS)
def test_literal_captions_become_pictures_of_what_they_say(name, judge):
    pytest.importorskip("torch")
    names = list(SUBJECTS)
    rng = np.random.default_rng(41)
    asked = [
        Scene(names[n % len(names)], list(COLOURS)[int(rng.integers(5))], list(PLACES)[int(rng.integers(4))])
        for n in range(48)
    ]
    pictures = make(name, [caption(scene, "literal", rng) for scene in asked])
    assert pictures.shape == (48, 96, 96, 3)
    assert pictures.dtype == np.uint8
    rows = json.loads((WEIGHTS / name / "figures.json").read_text(encoding="utf-8"))["rows"]
    (row,) = [row for row in rows if (row["kind"], row["split"]) == ("literal", "train")]
    subject, colour, place = judge(pictures)
    for scores, table, words, found in zip(
        (subject, colour, place),
        (SUBJECTS, COLOURS, PLACES),
        zip(*((scene.subject, scene.colour, scene.place) for scene in asked), strict=True),
        row["found"],
        strict=True,
    ):
        right = np.mean([list(table)[n] == word for n, word in zip(scores.argmax(1), words, strict=True)])
        assert right >= found / row["asked"] - MARGIN


def test_the_two_generators_have_decoders_of_their_own():
    pytest.importorskip("torch")
    from safetensors import safe_open

    names = {}
    for name, file in (("micro-diffusion", "vae/diffusion_pytorch_model"), ("micro-mllm", "model")):
        with safe_open(WEIGHTS / name / f"{file}.safetensors", "np") as tensors:
            names[name] = {
                key: tensors.get_tensor(key).dtype
                for key in tensors.keys()  # noqa: SIM118 (not a dict)
                if "decoder" in key
            }
    assert all(dtype == np.float16 for found in names.values() for dtype in found.values())
    assert len(names["micro-mllm"]) != len(names["micro-diffusion"]) > 0


def test_clip_tells_captions_apart():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.CLIPModel.from_pretrained(WEIGHTS / "micro-clip", dtype=torch.float32)
    processor = transformers.CLIPProcessor.from_pretrained(WEIGHTS / "micro-clip")
    every = list(scenes())[::5]
    pictures = [draw(scene, np.random.default_rng([98, n])) for n, scene in enumerate(every)]
    texts = [caption(scene, "literal", np.random.default_rng([97, n])) for n, scene in enumerate(every)]
    inputs = processor(text=texts, images=pictures, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        best = model(**inputs).logits_per_image.argmax(1)
    assert (best == torch.arange(len(every))).float().mean() >= 0.8
