"""`export-detector`: what was published goes in, a detector comes out that answers as its author's code does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import judges_models as tiny
import published_twins as twins
import spai_twin
from made import photograph
from mllmrisk import config, detectors
from mllmrisk.cli.main import main
from mllmrisk.detectors import export, published
from mllmrisk.detectors.architectures import ARCHITECTURES, CLASSIFIERS, clip_tower, timm_vit, weights
from mllmrisk.errors import UsageError

pytestmark = pytest.mark.filterwarnings("default")  # transformers' and torch's own

TWINS = {
    "aide": twins.aide_net,
    "c2p-clip": twins.c2p_clip,
    "clipdet": twins.clipdet,
    "community-forensics": twins.community_forensics,
    "dda": twins.dda,
    "drct-clip": twins.drct_clip,
    "drct-convnext": twins.drct_convnext,
    "npr": twins.npr_net,
    "spai": spai_twin.spai_net,
    "univfd": twins.univfd,
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Images of several shapes and formats, one smaller than some inputs."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, (height, width) in enumerate([(120, 90), (200, 301), (48, 64), (333, 111), (256, 256)]):
        image = Image.fromarray(photograph(height, width, seed=i))
        image.save(folder / f"{i}.{'jpg' if i % 2 else 'png'}", quality=92)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def rgb(folder: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in files(folder)]


def made(name: str, folder: Path, **options) -> tuple[twins.Twin, export.Exported]:
    """A twin's file, exported under a name of its own."""
    twin = TWINS[name](folder)
    given = {"sizes": twin.sizes, "name": f"small-{name}", "out": folder / "out", **options}
    encoder = str(twin.encoder) if twin.encoder else None
    return twin, published.export_published(name, twin.weights, encoder=encoder, **given)


def scores(detector: detectors.Detector, folder: Path) -> np.ndarray:
    found = detector.score(files(folder), threads=1)
    assert [score.reason for score in found] == [None] * len(found)
    return np.array([score.value for score in found])


def test_every_architecture_has_a_packaged_description_and_a_twin():
    described = set(config.names("detectors"))
    assert {*ARCHITECTURES.names(), *CLASSIFIERS} <= described
    assert set(TWINS) == set(ARCHITECTURES.names())


QUICK = ["univfd"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in TWINS if n not in QUICK)])
def test_a_published_file_gives_its_authors_scores(name, tmp_path, pictures):
    twin, exported = made(name, tmp_path)
    detector = detectors.load(str(exported.toml))
    wanted, found = twin.score(rgb(pictures)), scores(detector, pictures)
    assert np.ptp(wanted) > 0.05
    assert found == pytest.approx(wanted, abs=1e-3 * max(1.0, np.abs(wanted).max()))
    assert exported.relative < 1e-4
    assert not exported.given
    assert [probe["image"] for probe in tomllib.loads(exported.toml.read_text())["probe"]] == list(exported.answers)
    assert len(set(exported.answers.values())) == 2


# -- any classifier of transformers, through the command ---------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A ViT whose first label is the fake one, as some published ones have it."""
    return tiny.classifier(tmp_path_factory.mktemp("classifier") / "vit", "vit", ["AI-generated", "Human"])


@pytest.fixture(scope="module")
def exported(classifier, pictures, tmp_path_factory) -> tuple[Path, dict]:
    home = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLLMRISK_WEIGHTS", str(home))
        told = _told(["transformers", "--weights", str(classifier), "--name", "mine", "--images", str(pictures)])
    return home, told


def _told(arguments: list[str], code: int = 0) -> dict:
    """What the command prints as JSON."""
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as left:
        main(["export-detector", *arguments, "--json"])
    assert left.value.code == code
    return json.loads(said.getvalue())


def test_a_classifier_is_found_by_its_name_and_answers_as_transformers(exported, classifier, pictures, monkeypatch):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    home, told = exported
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(home))
    model = AutoModelForImageClassification.from_pretrained(classifier)
    processor = AutoImageProcessor.from_pretrained(classifier)
    with torch.no_grad():
        raw = model(**processor(images=rgb(pictures), return_tensors="pt")).logits.double()
    wanted = (raw[:, 0] - raw[:, 1]).numpy()
    # its processor resizes by torchvision, which differs from Pillow by a level here and there
    assert scores(detectors.load("mine"), pictures) == pytest.approx(wanted, abs=max(0.02, 2e-2 * np.abs(wanted).max()))
    assert told["given"] is True
    assert told["images"] == len(files(pictures)) + 1  # and a mirror image of an odd size
    assert told["levels"] <= export.LEVELS


def test_what_is_there_is_replaced_only_when_told(exported, classifier, monkeypatch, capsys):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(exported[0]))
    with pytest.raises(SystemExit) as left:
        main(["export-detector", "transformers", "--weights", str(classifier), "--name", "mine"])
    assert left.value.code == 2
    assert "--force" in capsys.readouterr().err


def test_the_onnx_file_alone_is_the_detector(exported, pictures, tmp_path):
    alone = tmp_path / "elsewhere.onnx"
    alone.write_bytes(Path(exported[1]["onnx"]).read_bytes())
    beside = detectors.load(exported[1]["toml"])
    assert scores(detectors.load(str(alone)), pictures).tolist() == scores(beside, pictures).tolist()


@pytest.mark.parametrize("labels", [["LABEL_0", "LABEL_1"], ["not real", "real"], ["ai", "deepfake"]])
def test_labels_that_do_not_say_which_is_fake_are_refused(tmp_path, labels):
    folder = tiny.classifier(tmp_path / "vit", "vit", labels)
    with pytest.raises(UsageError, match="--fake-index"):
        published.export_transformers(folder, "mine", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_classifier_whose_preprocessing_cannot_be_written_is_refused(tmp_path):
    folder = tiny.classifier(tmp_path / "vit", "vit", ["real", "fake"])
    said = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "do_resize": False}))
    with pytest.raises(UsageError, match="does not resize"):
        published.export_transformers(folder, "mine", out=tmp_path / "out")


@pytest.mark.slow
def test_a_published_classifier_is_fed_as_its_own_processor_says(tmp_path, pictures):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = tiny.classifier(tmp_path / "siglip", "siglip", ["Real", "AI"])
    exported = published.export_published("aiornot-siglip2", folder, name="small", out=tmp_path / "out")
    processor = AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        pixels = processor(images=rgb(pictures), return_tensors="pt")
        raw = AutoModelForImageClassification.from_pretrained(folder)(**pixels).logits.double()
    wanted = (raw[:, 1] - raw[:, 0]).numpy()
    found = scores(detectors.load(str(exported.toml)), pictures)
    assert found == pytest.approx(wanted, abs=max(0.02, 2e-2 * np.abs(wanted).max()))
    assert tomllib.loads(exported.toml.read_text())["input"]["size"] == [32, 32]


def test_a_published_classifier_with_its_labels_turned_round_is_refused(tmp_path):
    folder = tiny.classifier(tmp_path / "siglip", "siglip", ["AI", "Real"])
    with pytest.raises(UsageError, match="other weights, or another order"):
        published.export_published("aiornot-siglip2", folder, name="small", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def npr(tmp_path) -> tuple[twins.Twin, dict[str, torch.Tensor]]:
    twin = twins.npr_net(tmp_path)
    return twin, dict(weights.read(twin.weights))


def refused(twin: twins.Twin, path: Path, match: str, **options) -> None:
    options = {"name": "small", "out": path.parent / "out", "sizes": twin.sizes, **options}
    with pytest.raises(UsageError, match=match):
        published.export_published("npr", path, **options)
    assert not (path.parent / "out").exists()


def test_a_missing_and_an_unexpected_name_are_told(npr, tmp_path):
    twin, state = npr
    save_file(
        {("fc.bias" if name == "fc1.bias" else name): part for name, part in state.items()}, tmp_path / "x.safetensors"
    )
    refused(twin, tmp_path / "x.safetensors", r"no fc1\.bias; unexpected fc\.bias")


def test_a_wrong_shape_is_told(npr, tmp_path):
    twin, state = npr
    save_file({**state, "fc1.weight": torch.ones(2, 512)}, tmp_path / "x.safetensors")
    refused(twin, tmp_path / "x.safetensors", r"fc1\.weight has shape \(2, 512\), the network \(1, 512\)")


def test_a_pickled_module_is_refused_unloaded(npr, tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    refused(npr[0], tmp_path / "whole.pth", r"state_dict\(\), NEW")


def test_a_file_that_is_no_checkpoint_is_refused(npr, tmp_path):
    (tmp_path / "x.pth").write_bytes(b"<html>404</html>")
    (tmp_path / "x.safetensors").write_bytes(b"<html>404</html>")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    refused(npr[0], tmp_path / "x.pth", "no checkpoint")
    refused(npr[0], tmp_path / "x.safetensors", "not a safetensors file")
    refused(npr[0], tmp_path / "list.pth", "holds list")
    refused(npr[0], tmp_path / "gone.pth", "no weights file")


def test_other_weights_do_not_take_a_published_name(tmp_path):
    twin = twins.univfd(tmp_path)
    with pytest.raises(UsageError, match=r"not the published file .* --name"):
        published.export_published("univfd", twin.weights, encoder=str(twin.encoder), out=tmp_path / "out")


def test_an_encoder_is_asked_for_where_weights_are_a_head_and_nowhere_else(npr, tmp_path):
    twin = twins.univfd(tmp_path)
    with pytest.raises(UsageError, match="--encoder openai/clip-vit-large-patch14"):
        published.export_published("univfd", twin.weights, name="x", out=tmp_path / "out")
    refused(npr[0], npr[0].weights, "no encoder", encoder="anything")


def test_an_unknown_architecture_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'univfd'"):
        published.export_published("univdf", tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden"])
def test_a_name_cannot_leave_the_weights_folder(tmp_path, name):
    with pytest.raises(UsageError, match="name of a detector"):
        published.export_transformers(tmp_path, name)


# -- a module of one's own ---------------------------------------------------------------------------------------------

RECIPE = {
    "name": "own",
    "version": "1",
    "about": "a test",
    "licence": "its owner's",
    "citation": "none",
    "trained_on": "nothing",
    "input": {"name": "x", "crop_mode": "squash", "size": [16, 16], "interpolation": "bilinear"},
    "output": {"kind": "logit1"},
    "threshold": {"means": "probability 0.5"},
}


class Contrast(nn.Module):
    """Steps between neighbours: what a wrong kernel or a wrong crop would change."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :, 1:] - x[:, :, :-1]).square().sum(dim=(1, 2, 3)).unsqueeze(1) - 1


class Forgetful(Contrast):
    """Traced, it keeps the batch that it was traced with in mind."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + torch.rand(1)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> export.Exported:
    return export.export(Contrast(), RECIPE, tmp_path_factory.mktemp("own") / "own.onnx")


def test_a_module_of_ones_own_needs_a_recipe_only(own, pictures):
    values = scores(detectors.load(str(own.toml)), pictures)
    small = [np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR), float) / 255 for picture in rgb(pictures)]
    assert values == pytest.approx([np.square(np.diff(p, axis=0)).sum() - 1 for p in small], rel=1e-5)


def test_a_graph_that_differs_from_its_module_is_not_written(tmp_path):
    with pytest.raises(UsageError, match=r"ONNX and torch are .* apart"):
        export.export(Forgetful(), RECIPE, tmp_path / "own.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_is_not_the_authors_preprocessing_is_refused(tmp_path):
    def author(shown):
        small = [np.asarray(Image.fromarray(picture).resize((16, 16), Image.Resampling.BOX)) for picture in shown]
        return {"x": np.stack(small).transpose(0, 3, 1, 2).astype(np.float32) / 255}

    with pytest.raises(UsageError, match="levels from its author's"):
        export.export(Contrast(), RECIPE, tmp_path / "own.onnx", author=author)


def test_a_network_too_large_for_one_file_keeps_16_bits_of_its_weights(tmp_path, pictures, monkeypatch):
    from mllmrisk.detectors import torch_onnx

    network = twins.lively(nn.Sequential(nn.Conv2d(3, 400, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400 * 196, 1)))
    wanted = network(torch.zeros(1, 3, 16, 16)).item()
    named = nn.Module()
    named.inner, named.forward = network, lambda x: network(x)
    size = sum(part.numel() * 4 for part in network.parameters())
    monkeypatch.setattr(torch_onnx, "_LARGEST", size // 2 + 4000)
    made_ = export.export(named, RECIPE, tmp_path / "own.onnx")
    assert 0 < made_.halved < export.HALVED
    assert made_.onnx.stat().st_size < 0.6 * size
    assert made_.relative < 1e-4
    assert network(torch.zeros(1, 3, 16, 16)).item() == pytest.approx(wanted, rel=1e-2)
    monkeypatch.setattr(torch_onnx, "_LARGEST", 1000)
    with pytest.raises(UsageError, match="too many"):
        export.export(named, RECIPE, tmp_path / "other.onnx")


# -- parts of published weights ----------------------------------------------------------------------------------------


def test_three_spellings_of_a_clip_are_one_tower():
    model = twins._clip(1)
    from_transformers = clip_tower.tower_state(model.state_dict(), twins.TOWER)
    from_openai = clip_tower.tower_state(twins._openai(model), twins.TOWER)
    assert from_transformers.keys() == from_openai.keys() == clip_tower.VisionTower(twins.TOWER).state_dict().keys()
    assert all(torch.equal(part, from_openai[name]) for name, part in from_transformers.items())


def test_positions_are_resampled_where_dinov2_puts_them():
    old, side, rng = 9, 6, np.random.default_rng(0)
    line = rng.normal(size=old)  # every row is alike, so that only columns mix
    positions = torch.tensor(np.concatenate([[0.0], np.tile(line, old)])[None, :, None], dtype=torch.float32)
    found = timm_vit.resampled(positions, side)[0, 1:, 0].reshape(side, side)
    for i in range(1, side - 1):
        place = (i + 0.5) * old / (side + 0.1) - 0.5
        near = np.arange(int(place) - 1, int(place) + 3)
        assert float(found[2, i]) == pytest.approx(float((line[near] * keys(place - near)).sum()), abs=1e-5)


def keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """The cubic convolution kernel (Keys 1981) with torch's parameter."""
    d = np.abs(distance)
    inside = (a + 2) * d**3 - (a + 3) * d**2 + 1
    return np.where(d <= 1, inside, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)


def test_both_sizes_of_community_forensics_are_known_by_their_positions():
    made_ = ARCHITECTURES.get("community-forensics")
    for side in (224, 384):
        tokens = (side // 16) ** 2 + 1
        assert made_.resized({"vit.pos_embed": torch.zeros(1, tokens, 384)}, made_.config).image == side
