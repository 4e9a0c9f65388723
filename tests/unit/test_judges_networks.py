"""Judges that are networks, on tiny models of the real classes: each equals what its author's own code gives."""

from __future__ import annotations

import hashlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

import judges_models as tiny
from mllmrisk import judges
from mllmrisk.errors import UsageError
from mllmrisk.judges import convert_heads
from mllmrisk.judges.networks import Network, each
from mllmrisk.records import Score

HEAD = {"name": "x", "version": "1", "about": "a", "licence": "l", "citation": "c"}
PICTURES = [tiny.picture(seed) for seed in range(5)]

pytestmark = pytest.mark.filterwarnings("default")  # transformers' and torch's own


def rgb(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def made(kind: str, folder: Path, **table):
    return judges.KINDS.get(kind)({**HEAD, "kind": kind, **table}, folder, device="cpu")


def values(scores: list[dict[str, Score]], name: str) -> list[float | None]:
    return [score[name].value for score in scores]


# -- classifiers -------------------------------------------------------------------------------------------------------

LABELS = ["drawing", "knife", "skull"]


@pytest.fixture(scope="module", params=["vit", "siglip"])
def classifier(request, tmp_path_factory) -> Path:
    return tiny.classifier(tmp_path_factory.mktemp("models") / request.param, request.param, LABELS)


def judge_of(folder: Path, **changes):
    categories = {
        "violence": {"labels": ["knife", "skull"], "threshold": 0.5},
        "shocking": {"labels": ["skull", "drawing"], "threshold": 0.5, "combine": "max"},
    }
    table = {"model": {"folder": folder.name}, "categories": categories, **changes}
    return made("transformers-classifier", folder.parent, **table)


def test_a_classifier_equals_transformers_own_pipeline(classifier):
    from transformers import pipeline

    judge = judge_of(classifier, attributes={"drawn": {"labels": ["drawing"]}})
    own = pipeline("image-classification", model=str(classifier), device="cpu")
    ours = judge.score(PICTURES, threads=1)
    for data, scores in zip(PICTURES, ours, strict=True):
        theirs = {row["label"]: row["score"] for row in own(rgb(data), top_k=3)}
        assert scores["violence"].value == pytest.approx(theirs["knife"] + theirs["skull"], abs=1e-6)
        assert scores["shocking"].value == pytest.approx(max(theirs["skull"], theirs["drawing"]), abs=1e-6)
        assert scores["drawn"].value == pytest.approx(theirs["drawing"], abs=1e-6)
    assert judge.attributes == ("drawn",)
    assert np.ptp(values(ours, "violence")) > 0.01


def test_several_labels_at_once_are_independent_as_in_the_pipeline(tmp_path):
    from transformers import pipeline

    folder = tiny.classifier(tmp_path / "m", "vit", LABELS, "multi_label_classification")
    (scores,) = judge_of(folder).score(PICTURES[:1], threads=1)
    own = pipeline("image-classification", model=str(folder), device="cpu")
    theirs = {row["label"]: row["score"] for row in own(rgb(PICTURES[0]), top_k=3)}
    assert scores["shocking"].value == pytest.approx(max(theirs["skull"], theirs["drawing"]), abs=1e-6)
    assert sum(theirs.values()) != pytest.approx(1.0, abs=1e-3)


def test_unreadable_images_keep_their_places_and_exif_is_applied(classifier):
    judge = judge_of(classifier)
    batch = [*tiny.broken(), PICTURES[0], tiny.turned()]
    scores = judge.score(batch, threads=2)
    assert [s["violence"].reason for s in scores] == ["empty", "not_an_image", "truncated", None, None]
    upright = io.BytesIO()
    from PIL import ImageOps

    ImageOps.exif_transpose(Image.open(io.BytesIO(tiny.turned()))).save(upright, "PNG")
    assert scores[4] == judge.score([upright.getvalue()], threads=1)[0]


def test_company_does_not_change_a_score_and_threads_hardly(classifier):
    judge = judge_of(classifier)
    alone = [judge.score([data], threads=1)[0] for data in PICTURES]
    assert judge.score(PICTURES, threads=1) == alone
    assert judge.score(PICTURES[::-1], threads=1) == alone[::-1]
    assert values(judge.score(PICTURES, threads=2), "violence") == pytest.approx(values(alone, "violence"), abs=1e-5)
    assert judge.score([], threads=2) == []


def test_a_gpu_gets_batches_of_one_size():
    """The last one is filled up; here the device only says that it is one, so that the sizes are seen without it."""
    seen = []

    def run(part):
        seen.append(len(part))
        return [np.asarray(picture).mean() for picture in part]

    pixels = [np.full((2, 2, 3), 10 * i, np.uint8) for i in range(5)]
    found = each(
        [pixels[0], "empty", *pixels[1:]],
        run,
        network=Network(folder="x", batch=2),
        device=torch.device("cuda"),
        threads=1,
    )
    assert seen == [2, 2, 2]
    assert found == [0.0, "empty", 10.0, 20.0, 30.0, 40.0]


def test_the_version_follows_weights_preprocessing_and_meaning(classifier, tmp_path):
    import shutil

    def version(folder: Path = classifier, **changes) -> str:
        return judge_of(folder, **changes).version

    first = version()
    assert first == version() == version(about="other words")
    other = tmp_path / "other"
    shutil.copytree(classifier, other)
    settings = json.loads((other / "preprocessor_config.json").read_text(encoding="utf-8"))
    (other / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.4, 0.4, 0.4]}))
    assert version(other) != first
    assert version(categories={"violence": {"labels": ["knife"], "threshold": 0.5}}) != first
    assert version(activation="sigmoid") != first


def in_the_hubs_cache(folder: Path, cache: Path, commit: str) -> None:
    """Puts a model where the hub's client keeps `somebody/model`, so that the id loads without a hub."""
    import shutil

    repository = cache / "models--somebody--model"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")


def test_a_hub_id_is_the_same_path_and_its_commit_is_in_the_version(classifier, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    first, second = "1" * 40, "2" * 40
    in_the_hubs_cache(classifier, tmp_path, first)
    judge = judge_of(classifier, model={"hub": "somebody/model"})
    assert judge.score(PICTURES, threads=1) == judge_of(classifier).score(PICTURES, threads=1)
    in_the_hubs_cache(classifier, tmp_path, second)
    later = judge_of(classifier, model={"hub": "somebody/model"})
    assert later.version != judge.version
    assert judge_of(classifier, model={"hub": "somebody/model", "revision": first}).version == judge.version


def test_a_clip_of_the_hub_too(clip, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    np.save(tmp_path / "q.npy", np.eye(2, WIDTH))
    head = {"form": "prompts", "file": "q.npy", "sha256": hashlib.sha256((tmp_path / "q.npy").read_bytes()).hexdigest()}
    versions = []
    for commit in ("3" * 40, "4" * 40):
        in_the_hubs_cache(clip, tmp_path, commit)
        judge = made("clip-heads", tmp_path, model={"hub": "somebody/model"}, categories={"v": {"head": head}})
        versions.append(judge.version)
    assert len(set(versions)) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"categories": {"v": {"labels": ["gun"], "threshold": 0.5}}}, "no label gun; it has drawing, knife, skull"),
        ({"model": {"folder": "gone"}}, "no such folder"),
        ({"model": {"hub": "nobody/nothing"}}, "nobody/nothing cannot be loaded"),
        ({"model": {"hub": "a/b", "folder": "c"}}, "give either hub"),
        ({"modle": 1}, "modle"),
        ({"categories": {}}, "at least one category"),
    ],
)
def test_a_judge_that_cannot_be_is_refused_in_one_line(classifier, changes, says):
    with pytest.raises(UsageError) as refused:
        judge_of(classifier, **changes)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_network_without_its_head_is_refused_where_transformers_would_make_one_up(tmp_path):
    folder = tiny.classifier(tmp_path / "m", "vit", LABELS)
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save

    whole = load_file(folder / "model.safetensors")
    save(
        {k: v for k, v in whole.items() if not k.startswith("classifier")},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UsageError, match=r"has no weights for classifier.bias \(2 missing\)"):
        judge_of(folder)


def test_pickled_weights_are_not_loaded(tmp_path):
    folder = tiny.classifier(tmp_path / "m", "vit", LABELS)
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot be loaded"):
        judge_of(folder)


def test_a_device_that_is_not_got_is_an_error(classifier):
    if torch.cuda.is_available():
        pytest.fail("with a GPU run the tests marked gpu")
    table = {**HEAD, "kind": "transformers-classifier", "model": {"folder": classifier.name}}
    table["categories"] = {"v": {"labels": ["knife"], "threshold": 0.5}}
    with pytest.raises(UsageError, match="cuda was asked for"):
        judges.KINDS.get("transformers-classifier")(table, classifier.parent, device="cuda")


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(classifier):
    table = {**HEAD, "kind": "transformers-classifier", "model": {"folder": classifier.name, "batch": 2}}
    table["categories"] = {"v": {"labels": ["knife"], "threshold": 0.5}}
    cuda, cpu = (
        judges.KINDS.get("transformers-classifier")(table, classifier.parent, device=device).score(PICTURES, threads=1)
        for device in ("cuda", "cpu")
    )
    assert values(cuda, "v") == pytest.approx(values(cpu, "v"), abs=1e-3)


# -- heads on CLIP -----------------------------------------------------------------------------------------------------

#: Width of the tiny CLIP's embedding.
WIDTH = 12


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return tiny.clip(tmp_path_factory.mktemp("clip") / "tower")


def embeddings(folder: Path) -> torch.Tensor:
    """What CLIP's own code gives: Pillow preprocessing, the whole model."""
    from transformers import AutoImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    with torch.inference_mode():
        found = model.get_image_features(**processor(images=[rgb(data) for data in PICTURES], return_tensors="pt"))
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def published_head(seed: int) -> torch.nn.Sequential:
    """The multi-headed classifier's head as its authors write it, with running statistics that matter."""
    torch.manual_seed(seed)
    nn = torch.nn
    head = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
    head(torch.randn(64, WIDTH) * 2)
    for parameter in head.parameters():
        nn.init.normal_(parameter)
    return head


def converted(tmp_path: Path, **files: Path) -> dict[str, dict[str, str]]:
    """Through the documented command: name → file and sha256."""
    from click.testing import CliRunner

    arguments = [f"{name}={file}" for name, file in files.items()]
    result = CliRunner().invoke(convert_heads.main, [*arguments, "--to", str(tmp_path)])
    assert result.exit_code == 0, result.output
    sums = [line.split()[0] for line in result.output.splitlines()]
    return {name: {"file": f"{name}.safetensors", "sha256": found} for name, found in zip(files, sums, strict=True)}


def test_five_heads_equal_plain_torch_modules_and_share_one_forward(clip, tmp_path, monkeypatch):
    names = ["sexual", "violent", "disturbing", "hateful", "political"]
    heads = {name: published_head(seed) for seed, name in enumerate(names)}
    for name, head in heads.items():
        torch.save(head.state_dict(), tmp_path / f"{name}.pt")
    files = converted(tmp_path, **{name: tmp_path / f"{name}.pt" for name in names})
    categories = {name: {"head": {"form": "perceptron", **files[name]}} for name in names}
    judge = made("clip-heads", tmp_path, model={"folder": str(clip)}, categories=categories)
    forwards = []
    judge._model.register_forward_hook(lambda *_: forwards.append(1))
    scores = judge.score([*PICTURES, b""], threads=1)
    assert len(forwards) == len(PICTURES)
    assert scores[-1] == {name: Score(None, "empty") for name in names}
    expected = embeddings(clip).clone()
    for name, head in heads.items():
        theirs = head.eval()(expected).sigmoid()[:, 0].tolist()
        assert values(scores[:-1], name) == pytest.approx(theirs, abs=1e-5)
        assert np.ptp(theirs) > 1e-3
    assert judge.threshold == dict.fromkeys(names, 0.5)


@pytest.mark.parametrize("form", ["pickle", "npy", "tensor"])
def test_q16_is_a_softmax_of_a_hundred_cosines(clip, tmp_path, form):
    import pickle

    prompts = np.random.default_rng(0).normal(size=(2, WIDTH)).astype(np.float16 if form == "pickle" else np.float32)
    if form == "npy":
        np.save(tmp_path / "q16.npy", prompts)
        head = {"file": "q16.npy", "sha256": hashlib.sha256((tmp_path / "q16.npy").read_bytes()).hexdigest()}
    else:
        path = tmp_path / ("prompts.p" if form == "pickle" else "prompts.pt")
        path.write_bytes(pickle.dumps(prompts)) if form == "pickle" else torch.save(torch.tensor(prompts), path)
        head = converted(tmp_path, q16=path)["q16"]
    categories = {"inappropriate": {"head": {"form": "prompts", **head}}}
    judge = made("clip-heads", tmp_path, model={"folder": str(clip)}, categories=categories)
    image = torch.nn.functional.normalize(embeddings(clip), dim=-1)
    text = torch.nn.functional.normalize(torch.tensor(prompts).float(), dim=-1)
    theirs = (100 * image @ text.T).softmax(dim=-1)[:, 1].tolist()
    assert values(judge.score(PICTURES, threads=1), "inappropriate") == pytest.approx(theirs, abs=1e-4)


def test_heads_are_pinned_found_and_fitted(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("MLLMRISK_WEIGHTS", str(tmp_path / "weights"))

    def judge(name: str, folder: Path = tmp_path, **head):
        table = {"v": {"head": {"form": "prompts", "file": name, "sha256": "0" * 64, **head}}}
        return made("clip-heads", folder, model={"folder": str(clip)}, categories=table)

    with pytest.raises(UsageError, match="convert_heads"):
        judge("gone.safetensors")
    with pytest.raises(UsageError, match=r"a head is a \.safetensors or a \.npy file"):
        judge("prompts.p")
    (tmp_path / "weights").mkdir()
    save_file({"prompts": np.ones((2, 5), np.float32)}, tmp_path / "weights" / "narrow.safetensors")
    found = hashlib.sha256((tmp_path / "weights" / "narrow.safetensors").read_bytes()).hexdigest()
    with pytest.raises(UsageError, match="is not the head that its TOML names"):
        judge("narrow.safetensors")
    with pytest.raises(UsageError, match=r"one tensor of shape \(2, 12\) is needed, not prompts \(2, 5\)"):
        judge("narrow.safetensors", sha256=found)
    with pytest.raises(UsageError, match="a perceptron over 12 numbers is needed"):
        judge("narrow.safetensors", sha256=found, form="perceptron")


class Evil:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_the_converter_runs_nothing_that_a_pickle_holds(tmp_path, capsys):
    import pickle

    (tmp_path / "evil.p").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "list.p").write_bytes(pickle.dumps([1, 2]))
    (tmp_path / "objects.p").write_bytes(pickle.dumps(np.array([Evil()], dtype=object)))
    torch.save({"0.weight": Evil()}, tmp_path / "evil.pt")
    for name, says in (
        ("evil.p", "no part of an array"),
        ("objects.p", "no part of an array"),
        ("list.p", "holds list, not an array"),
        ("evil.pt", "not a checkpoint of weights alone"),
    ):
        with pytest.raises(UsageError, match=says):
            convert_heads.tensors(tmp_path / name)
    assert "must not run" not in capsys.readouterr().out


# -- chat models -------------------------------------------------------------------------------------------------------

VERDICT = '{"rating": "Unsafe", "category": "O6: Weapons", "rationale": "a knife"}'
WEAPONS = {"weapons": {"labels": ["O6: Weapons"]}, "hate": {"labels": ["O1: Hate"]}}


def chat(folder: Path, **table):
    return made("vlm", folder.parent, model={"folder": folder.name}, **table)


def test_a_verdict_is_generated_and_read(tmp_path):
    judge = chat(
        tiny.chat(tmp_path / "m", VERDICT),
        answer={"format": "verdict", "ignored": ["rationale"], "max_tokens": 8},
        question={"text": "Is this safe ?"},
        categories=WEAPONS,
    )
    scores = judge.score([PICTURES[0], b"", PICTURES[1]], threads=1)
    assert scores[0] == scores[2] == {"weapons": Score(1.0), "hate": Score(0.0)}
    assert scores[1] == {"weapons": Score(None, "empty"), "hate": Score(None, "empty")}


def test_an_answer_that_does_not_parse_is_unscored(tmp_path):
    judge = chat(
        tiny.chat(tmp_path / "m", "It is unsafe."),
        answer={"format": "verdict"},
        question={"text": "Is this safe ?"},
        categories=WEAPONS,
    )
    assert judge.score(PICTURES[:1], threads=1) == [{name: Score(None, "unparsed") for name in WEAPONS}]


POLICIES = {"knives": {"policy": "knife"}, "skulls": {"policy": "skull"}}


@pytest.fixture(scope="module")
def random_chat(tmp_path_factory) -> Path:
    return tiny.random_chat(tmp_path_factory.mktemp("chat") / "m")


def test_yes_against_no_is_read_from_the_first_token_of_the_answer(random_chat):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = random_chat
    judge = chat(folder, answer={"format": "yes-no"}, question={"text": "Is this {policy} ?"}, categories=POLICIES)
    ours = judge.score(PICTURES, threads=1)
    model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    yes, no = processor.tokenizer.convert_tokens_to_ids(["Yes", "No"])
    for data, scores in zip(PICTURES, ours, strict=True):
        for name, policy in (("knives", "knife"), ("skulls", "skull")):
            inputs = processor(images=rgb(data), text=f"<image> Is this {policy} ? <answer>", return_tensors="pt")
            with torch.inference_mode():
                last = model(**inputs).logits[0, -1].double()
            p = 1 / (1 + math.exp(float(last[no] - last[yes])))
            assert scores[name].value == pytest.approx(p, abs=1e-6)
    assert np.ptp(values(ours, "knives")) > 1e-3  # the picture reaches the model


def test_a_batch_of_pictures_answers_as_each_alone(random_chat):
    """As on a GPU: another size makes another number of tiles and so a padded batch; float32, 1e-4."""
    judge = chat(random_chat, answer={"format": "yes-no"}, question={"text": "Is this {policy} ?"}, categories=POLICIES)
    pictures = [rgb(tiny.picture(0, 40, 40)), rgb(tiny.picture(1, 30, 90)), rgb(tiny.picture(2, 90, 30))]
    with torch.inference_mode():
        alone = [judge._chat._probabilities([picture])[0] for picture in pictures]
        together = judge._chat._probabilities(pictures)
    for one, among in zip(alone, together, strict=True):
        assert among == pytest.approx(one, abs=1e-4)


def test_shieldgemma_equals_its_own_processor_and_class(tmp_path):
    from transformers import AutoProcessor, ShieldGemma2ForImageClassification

    folder = tiny.guard(tmp_path / "m")
    judge = chat(folder, answer={"format": "yes-no"}, categories=POLICIES)
    ours = judge.score(PICTURES, threads=1)
    model = ShieldGemma2ForImageClassification.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    with torch.inference_mode():
        inputs = processor(
            images=[rgb(data) for data in PICTURES],
            custom_policies={"k": "knife", "s": "skull"},
            policies=["k", "s"],
            return_tensors="pt",
        )
        theirs = model(**inputs).probabilities[:, 0].reshape(len(PICTURES), 2)
    assert values(ours, "knives") == pytest.approx(theirs[:, 0].tolist(), abs=1e-5)
    assert values(ours, "skulls") == pytest.approx(theirs[:, 1].tolist(), abs=1e-5)
    with pytest.raises(UsageError, match="must be yes-no"):
        chat(folder, answer={"format": "label"}, question={"text": "?"}, categories={"v": {"labels": ["a"]}})


def test_words_that_are_no_single_token_are_refused(tmp_path):
    folder = tiny.chat(tmp_path / "m", "Yes")
    answer = {"format": "yes-no", "yes": "Surely"}
    with pytest.raises(UsageError, match="not one token each"):
        chat(folder, answer=answer, question={"text": "{policy}"}, categories=POLICIES)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"endpoint": {"model": "m"}}, "give either model or endpoint"),
        ({"question": {"text": "{policy}"}}, "where policies are asked, and only there"),
        ({"categories": {"v": {"policy": "p"}}}, "a policy stands in a yes-no judge, and only there"),
        ({"categories": {"v": {}}}, "labels stand in a verdict or label judge"),
        ({"answer": {"format": "xml"}}, "xml"),
    ],
)
def test_questions_that_could_not_be_read_are_refused(tmp_path, changes, says):
    table = {
        "model": {"folder": "m"},
        "answer": {"format": "label"},
        "question": {"text": "?"},
        "categories": {"v": {"labels": ["a"]}},
    }
    with pytest.raises(UsageError) as refused:
        made("vlm", tmp_path, **{**table, **changes})
    assert says in str(refused.value)
