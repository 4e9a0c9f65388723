"""The generic ONNX judge: what a TOML says is what is computed, and no model judges that is not trusted."""

from __future__ import annotations

import hashlib
import io
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mllmrisk import config, images, judges
from mllmrisk.errors import UsageError
from mllmrisk.inference import parse_device, prove
from mllmrisk.judges import JUDGES
from mllmrisk.judges.onnx import OnnxJudge
from mllmrisk.judges.recipe import PICTURES, Input, Jpeg, Recipe, Resize, ellipse, prepare
from mllmrisk.records import Score

#: Mean colour (red, green, blue) of the picture `ellipse`, / 255: what the model below must answer to its probe.
MEANS = ellipse().reshape(-1, 3).mean(0) / 255


def mean_colour_model(scale: float = 1.0) -> bytes:
    """A model whose three outputs are the means of its three input channels: every answer can be computed by hand."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
        helper.make_node("Mul", ["flat", "scale"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor("scale", TensorProto.FLOAT, [], [scale])],
    )
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def write(folder: Path, model: bytes | None = None, **changes: object) -> Path:
    """A judge's TOML and its model; `changes` replace values, named `table__key`."""
    model = mean_colour_model() if model is None else model
    (folder / "model.onnx").write_bytes(model)
    tables: dict[str, dict[str, object]] = {
        "": {"name": "colour", "version": "3", "about": "a", "licence": "CC0", "citation": "none"},
        "model": {"file": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()},
        "input": {"name": "x", "layout": "NCHW", "scale": 1 / 255},
        "input.resize": {"rule": "squash", "size": [64, 64], "kernel": "box"},
        "output": {"name": "y", "labels": ["r", "g", "b"]},
        "categories.red": {"labels": ["r"], "threshold": 0.6},
        "categories.warm": {"labels": ["r", "g"], "threshold": 1.2, "combine": "sum"},
        "probe": {"image": "ellipse", "tolerance": 0.01},
        "probe.expected": {"red": MEANS[0], "warm": MEANS[0] + MEANS[1]},
    }
    for key, value in changes.items():
        table, _, name = key.rpartition("__")
        tables[table.replace("__", ".")][name] = value
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]"] if table else []
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    path = folder / "judge.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def plain(red: int, green: int, blue: int, size: tuple[int, int] = (70, 90)) -> bytes:
    return png(np.full((*size, 3), (red, green, blue), np.uint8))


def random_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# -- a judge from a file ---------------------------------------------------------------------------------------------


def test_a_users_toml_is_a_judge(tmp_path):
    judge = judges.load(str(write(tmp_path)), device="cpu")
    assert (judge.name, judge.categories, judge.threshold) == ("colour", ("red", "warm"), {"red": 0.6, "warm": 1.2})
    assert isinstance(judge, OnnxJudge)
    assert judge.provider == "CPUExecutionProvider"
    (scores,) = judge.score([plain(51, 102, 204)], threads=1)
    assert scores["red"].value == pytest.approx(0.2, abs=1e-5)
    assert scores["warm"].value == pytest.approx(0.6, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"input__channels": "BGR"}, (0.8, 1.2)),
        ({"categories__warm__combine": "max"}, (0.2, 0.4)),
        ({"input__mean": [0.1, 0.2, 0.3], "input__std": [0.5, 2.0, 1.0]}, (0.2, 0.3)),
        ({"output__activation": "sigmoid"}, tuple(np.cumsum([1 / (1 + math.exp(-x)) for x in (0.2, 0.4)]))),
        (
            {"output__activation": "softmax"},
            tuple(np.cumsum(np.exp([0.2, 0.4]) / np.exp([0.2, 0.4, 0.8]).sum())),
        ),
    ],
)
def test_what_the_toml_says_is_computed(tmp_path, changes, expected):
    path = write(tmp_path, probe__tolerance=1e9, **changes)
    (scores,) = judges.load(str(path)).score([plain(51, 102, 204)], threads=1)
    assert (scores["red"].value, scores["warm"].value) == pytest.approx(expected, abs=1e-4)


def test_unreadable_images_are_unscored_with_their_reason_in_their_place(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(80, 80)).save(buffer, "JPEG")
    whole = buffer.getvalue()
    batch = [b"", plain(255, 0, 0), b"no image at all", whole[: len(whole) // 2], whole]
    scores = judges.load(str(write(tmp_path))).score(batch, threads=2)
    assert [s["red"].reason for s in scores] == ["empty", None, "not_an_image", "truncated", None]
    assert scores[1]["red"] == Score(1.0)
    assert [set(s) for s in scores] == [{"red", "warm"}] * 5


def test_neither_threads_nor_company_change_a_score(tmp_path):
    judge = judges.load(str(write(tmp_path)))
    batch = [png(random_pixels(64 + i, 90 - i, seed=i)) for i in range(37)]
    alone = [judge.score([data], threads=1)[0] for data in batch]
    for threads in (1, 2, 5):
        assert judge.score(batch, threads=threads) == alone
    assert judge.score([], threads=3) == []


def test_people_see_the_picture_upright_and_so_does_a_judge(tmp_path):
    """A judge of the middle crop sees the top of a tall picture only if EXIF turns it."""
    pixels = np.zeros((60, 180, 3), np.uint8)
    pixels[:, 60:120, 0] = 255
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    seen = prepare(
        images.decode(buffer.getvalue(), orient=True),
        Input(name="x", layout="NHWC", resize=Resize(size=(180, 60), rule="squash", kernel="box")),
    )
    assert seen.shape == (180, 60, 3)
    assert (seen[60:120, :, 0] == 255).all()
    path = write(tmp_path, input__crop=[60, 60], input__resize__size=[180, 60], probe__tolerance=1e9)
    (scores,) = judges.load(str(path)).score([buffer.getvalue()], threads=1)
    assert scores["red"].value == pytest.approx(1.0)


def test_a_value_that_is_not_finite_is_unscored(tmp_path):
    path = write(tmp_path, mean_colour_model(3e38), input__scale=1.0, probe__tolerance=1.0)
    with pytest.raises(UsageError, match="fails its probe"):
        judges.load(str(path))


# -- trust -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model__sha256": "0" * 64}, "is not the model that its TOML names: its sha256 begins"),
        ({"model__sha256": "xyz"}, "sha256 must be 64"),
        ({"model__file": "gone.onnx"}, "its model cannot be read"),
        ({"model__file": None}, "give either file, or package and resource"),
        ({"model__file": None, "model__package": "no_such_package", "model__resource": "m.onnx"}, "is not installed"),
        ({"input__name": "image"}, "the model has no input 'image'; it has x"),
        ({"output__name": "scores"}, "the model has no output 'scores'; it has y"),
        ({"output__labels": ["r", "g"]}, "output 'y' is (1, 3), not (1, 2)"),
        ({"categories__red__labels": ["scarlet"]}, "category 'red': no such output label: scarlet"),
        ({"categories__red__labels": []}, "category 'red': no such output label: (none given)"),
        ({"input__layout": "NHWC"}, "the model does not run as described"),
        ({"input__channels": "BGR"}, "fails its probe: red of the picture 'ellipse'"),
        ({"input__scale": 1.0}, "fails its probe"),
        ({"input__std": [0.0, 1.0, 1.0]}, "std must not be 0"),
        ({"input__resize__rule": "short"}, "needs a crop"),
        ({"input__resize__kernel": "nearest"}, "nearest"),
        ({"input__sise": 3}, "sise"),
        ({"probe__expected__red": None}, "probe.expected must name every category"),
    ],
)
def test_a_judge_that_is_not_as_described_is_refused_in_one_line(tmp_path, changes, says):
    path = write(tmp_path, **changes)
    with pytest.raises(UsageError) as refused:
        judges.load(str(path))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_model(tmp_path):
    with pytest.raises(UsageError, match="onnxruntime cannot load the model"):
        judges.load(str(write(tmp_path, b"not a model")))


def test_names_and_files_that_do_not_exist():
    with pytest.raises(UsageError, match="Did you mean 'opennsfw'"):
        judges.load("opensfw")
    with pytest.raises(UsageError, match=r"no such file: gone\.toml"):
        judges.load("gone.toml")


def test_the_version_follows_what_decides_a_score(tmp_path):
    def version(**changes: object) -> str:
        return judges.load(str(write(tmp_path, probe__tolerance=1e9, **changes))).version

    assert version().startswith("3-")
    assert version() == version(categories__red__threshold=0.9) == version(about="other words")
    others = [{"input__scale": 0.5}, {"input__channels": "BGR"}, {"output__activation": "sigmoid"}]
    assert len({version(), *(version(**change) for change in others)}) == 4


#: Packaged judges of this kind; the others' TOMLs are checked in test_judges_read.py.
ONNX = [
    name
    for name in config.names("judges")
    if tomllib.loads((config.CONFIGS / "judges" / f"{name}.toml").read_text(encoding="utf-8")).get("kind", "onnx")
    == "onnx"
]


@pytest.mark.parametrize("name", ONNX)
def test_every_packaged_judge_is_registered_and_passes_its_own_probe(name):
    judge = JUDGES.get(name)(device="cpu")
    recipe: Recipe = config.load("judges", name, Recipe).value
    assert judge.name == name == recipe.name
    assert set(judge.categories) == set(judge.threshold)
    for word in (recipe.about, recipe.licence, recipe.citation):
        assert len(word) > 20


def test_the_example_of_the_docs_is_a_recipe():
    text = (Path(__file__).parents[2] / "docs" / "judges.md").read_text(encoding="utf-8")
    example = text.split("### `onnx`")[1].split("```toml\n")[1].split("```")[0].replace("…", "0" * 64)
    recipe = config.parse(example, Recipe, "docs/judges.md")
    assert recipe.input.resize.rule == "short"
    assert recipe.categories["violence"].labels == ["violence", "weapons"]


# -- devices ---------------------------------------------------------------------------------------------------------


def test_a_device_that_is_not_got_is_an_error_not_a_slow_run(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.fail("this test needs the CPU build of onnxruntime; with a GPU run tests marked gpu")
    with pytest.raises(UsageError, match="cuda was asked for and not got: the installed onnxruntime has no CUDA"):
        judges.load(str(write(tmp_path)), device="cuda")
    assert prove("auto") == prove("cpu") == "CPUExecutionProvider"


@pytest.mark.gpu
def test_cuda_runs_the_judge_and_agrees_with_the_cpu():
    batch = [png(random_pixels(300, 200, seed=i)) for i in range(9)]
    cuda, cpu = (judges.load("opennsfw", device=device) for device in ("cuda", "cpu"))
    for a, b in zip(cuda.score(batch, threads=2), cpu.score(batch, threads=2), strict=True):
        assert a["sexual"].value == pytest.approx(b["sexual"].value, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "device"), [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:3", ("cuda", 3))]
)
def test_devices(text, device):
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cpu:1", "", "CUDA"])
def test_no_devices(text):
    with pytest.raises(UsageError, match="no device"):
        parse_device(text)


# -- preparation, against Pillow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["box", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(31, 200), (200, 31), (64, 64), (301, 299)])
def test_squash_equals_pillow(kernel, size):
    pixels = random_pixels(*size)
    seen = prepare(pixels, Input(name="x", layout="NHWC", resize=Resize(size=(48, 40), kernel=kernel)))
    theirs = Image.fromarray(pixels).resize((40, 48), getattr(Image.Resampling, kernel.upper()))
    np.testing.assert_array_equal(seen, np.asarray(theirs, np.float32))


@pytest.mark.parametrize("size", [(60, 91), (91, 60), (64, 64), (500, 333)])
def test_short_side_and_crop_as_in_clip(size):
    """torchvision's Resize(56, bicubic) and CenterCrop(50), written out."""
    pixels = random_pixels(*size)
    height, width = size
    short = min(size)
    wide, tall = (int(56 * width / short), 56) if width > height else (56, int(56 * height / short))
    theirs = np.asarray(Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BICUBIC))
    top, left = round((tall - 50) / 2.0), round((wide - 50) / 2.0)
    resize = Resize(size=(56, 56), rule="short", kernel="bicubic")
    seen = prepare(pixels, Input(name="x", layout="NCHW", resize=resize, crop=(50, 50)))
    np.testing.assert_array_equal(seen, theirs[top : top + 50, left : left + 50].transpose(2, 0, 1))
    assert seen.dtype == np.float32
    assert seen.flags.c_contiguous


@pytest.mark.parametrize("size", [(60, 91), (91, 60), (40, 40), (1000, 3)])
def test_letterbox_keeps_proportions(size):
    pixels = random_pixels(*size)
    seen = prepare(pixels, Input(name="x", layout="NHWC", resize=Resize(size=(40, 40), rule="letterbox", fill=114)))
    ratio = 40 / max(size)
    tall, wide = max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))
    top, left = (40 - tall) // 2, (40 - wide) // 2
    theirs = np.asarray(Image.fromarray(pixels).resize((wide, tall), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(seen[top : top + tall, left : left + wide], theirs)
    outside = np.ones((40, 40), bool)
    outside[top : top + tall, left : left + wide] = False
    assert (seen[outside] == 114).all()


@pytest.mark.parametrize(("quality", "subsampling", "theirs"), [(75, "4:2:0", 2), (95, "4:4:4", 0), (80, "4:2:2", 1)])
def test_the_jpeg_round_trip_is_pillows(quality, subsampling, theirs):
    pixels = random_pixels(70, 90)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=theirs)
    recipe = Input(
        name="x", layout="NHWC", resize=Resize(size=(70, 90)), jpeg=Jpeg(quality=quality, subsampling=subsampling)
    )
    np.testing.assert_array_equal(prepare(pixels, recipe), np.asarray(Image.open(buffer), np.float32))


def test_a_crop_larger_than_the_picture_is_padded():
    pixels = random_pixels(20, 30)
    recipe = Input(name="x", layout="NHWC", resize=Resize(size=(20, 30)), crop=(24, 26))
    seen = prepare(pixels, recipe)
    assert seen.shape == (24, 26, 3)
    np.testing.assert_array_equal(seen[2:22], pixels[:, 2:28])
    assert not seen[:2].any()
    assert not seen[22:].any()


@pytest.mark.parametrize("name", PICTURES)
def test_probe_pictures_are_the_same_everywhere(name):
    """Their digests: a change would turn every probe's known answer."""
    digest = hashlib.sha256(PICTURES[name]().tobytes()).hexdigest()[:16]
    assert digest == {"ellipse": "3cfd1f9254473021", "gradient": "a5dd23072d3ff637"}[name]
