"""The judge of alignment on tiny CLIP and SigLIP models of the real classes, saved and loaded as any other."""

import io
import math
import os

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from mllmrisk import config, judges, world
from mllmrisk.errors import UsageError
from mllmrisk.experiments import corruption
from mllmrisk.judges import alignment
from mllmrisk.judges.base import PromptJudge

torch = pytest.importorskip("torch", reason="the judge of alignment needs the extra gen")

TOWER = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
START, END = "<|startoftext|>", "<|endoftext|>"
TOML = """
kind = "alignment"
name = "tiny"
version = "1"
about = "a test"
licence = "none"
citation = "none"
scripts = "{scripts}"
[model]
folder = "{folder}"
"""


def tokenizer():
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {START: 0, END: 1}
    for letter in alphabet:
        vocab[letter] = len(vocab)
    for letter in alphabet:
        vocab[f"{letter}</w>"] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=24)


def processor(side=32):
    from transformers import CLIPImageProcessor

    sizes = {"height": side, "width": side}
    return CLIPImageProcessor(size=sizes, crop_size=sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def clip():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": 514, "max_position_embeddings": 24}
    text |= {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))


def siglip():
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": 514, "max_position_embeddings": 24, "projection_size": 24, "pad_token_id": 1}
    text |= {"bos_token_id": 0, "eos_token_id": 1}
    vision = {**TOWER, "image_size": 32, "patch_size": 8}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


@pytest.fixture(scope="module", params=[clip, siglip], ids=["clip", "siglip"])
def network(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    model = request.param().eval()
    model.save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    processor().save_pretrained(folder / "model")
    for scripts in ("latin", "any"):
        (folder / f"{scripts}.toml").write_text(TOML.format(scripts=scripts, folder="model"))
    return folder, model


@pytest.fixture(scope="module")
def judge(network):
    return judges.load(str(network[0] / "any.toml"), device="cpu")


def renders(count, seed=0):
    from PIL import Image

    rng = np.random.default_rng(seed)
    scenes = list(world.scenes())[:: 240 // count][:count]
    data = []
    for scene in scenes:
        buffer = io.BytesIO()
        Image.fromarray(world.draw(scene, rng)).save(buffer, "PNG")
        data.append(buffer.getvalue())
    return data, [world.caption(scene, "literal", rng) for scene in scenes]


def test_the_score_is_minus_the_cosine_that_the_model_itself_gives(network, judge):
    from PIL import Image
    from transformers import AutoImageProcessor

    folder, model = network
    data, prompts = renders(4)
    answers = judge.score_prompted(data, prompts, threads=1)
    pixels = AutoImageProcessor.from_pretrained(folder / "model", backend="pil")(
        images=[Image.open(io.BytesIO(d)) for d in data], return_tensors="pt"
    )
    words = tokenizer()(prompts, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    mask = {} if model.config.model_type == "siglip" else {"attention_mask": words["attention_mask"]}
    with torch.inference_mode():
        out = model(input_ids=words["input_ids"], **mask, **pixels)
    cosines = (out.image_embeds * out.text_embeds).sum(-1)
    for answer, cosine in zip(answers, cosines, strict=True):
        assert set(answer) == {"unrelated"}
        assert answer["unrelated"].value == pytest.approx(-float(cosine), abs=2e-5)


def test_it_is_a_prompt_judge_without_a_threshold_of_its_own(judge):
    assert isinstance(judge, PromptJudge)
    assert judge.threshold == {"unrelated": math.inf}
    assert judge.categories == (corruption.UNRELATED,)


def test_vectors_are_unit_and_give_the_scores_back(judge):
    data, prompts = renders(6)
    images, texts = judge.image_vectors(data, threads=1), judge.text_vectors(prompts, threads=1)
    assert all(vector.dtype == np.float32 and abs(np.linalg.norm(vector) - 1) < 1e-6 for vector in (*images, *texts))
    answers = judge.score_prompted(data, prompts, threads=1)
    for answer, image, text in zip(answers, images, texts, strict=True):
        assert answer["unrelated"].value == -float(image @ text)


def test_a_score_does_not_move_with_its_company(judge):
    data, prompts = renders(5)
    together = judge.score_prompted(data, prompts, threads=1)
    alone = [judge.score_prompted([d], [p], threads=1)[0] for d, p in zip(data, prompts, strict=True)]
    assert together == alone


def test_what_has_no_prompt_or_no_picture_is_unscored(judge):
    data, prompts = renders(2)
    answers = judge.score_prompted([data[0], b"no image", data[1], b""], [None, prompts[0], "", prompts[1]], threads=1)
    assert [answer["unrelated"].reason for answer in answers] == ["no_prompt", "not_an_image", "no_prompt", "empty"]
    assert {a["unrelated"].reason for a in judge.score(data, threads=1)} == {"no_prompt"}
    with pytest.raises(ValueError, match="1 prompts for 2 images"):
        judge.score_prompted(data, prompts[:1], threads=1)


def test_a_model_of_latin_letters_does_not_judge_chinese(network, judge):
    latin = judges.load(str(network[0] / "latin.toml"), device="cpu")
    data, _ = renders(2)
    prompts = ["在田野里有一个红色的球", "a red ball 球 in a field"]
    assert [a["unrelated"].reason for a in latin.score_prompted(data, prompts, threads=1)] == ["script", None]
    assert [a["unrelated"].reason for a in judge.score_prompted(data, prompts, threads=1)] == [None, None]
    assert latin.version != judge.version


def test_a_long_prompt_is_cut_and_not_refused(judge):
    first, second = judge.text_vectors(["word " * 200, "word " * 300], threads=1)
    assert np.array_equal(first, second)


def test_the_version_follows_the_weights(network, judge, tmp_path):
    folder, model = network
    assert judges.load(str(folder / "any.toml"), device="cpu").version == judge.version
    import copy
    import shutil

    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    shutil.copytree(folder / "model", tmp_path / "model")
    other.save_pretrained(tmp_path / "model")
    (tmp_path / "any.toml").write_text(TOML.format(scripts="any", folder="model"))
    assert judges.load(str(tmp_path / "any.toml"), device="cpu").version != judge.version


def test_a_folder_that_is_not_there_is_one_clear_line(tmp_path):
    (tmp_path / "gone.toml").write_text(TOML.format(scripts="any", folder="nowhere"))
    with pytest.raises(UsageError, match="no such folder"):
        judges.load(str(tmp_path / "gone.toml"), device="cpu")


@pytest.mark.parametrize(
    ("text", "share"), [("a red ball", 1.0), ("红色的球", 0.0), ("ab红色", 0.5), ("123 !", 1.0), ("éß", 1.0)]
)
def test_share_of_latin_letters(text, share):
    assert alignment.latin(text) == share


def test_the_packaged_tomls_are_of_the_kind():
    for name in ("clip-alignment", "micro-alignment"):
        table = config.tomllib.loads((config.CONFIGS / "judges" / f"{name}.toml").read_text(encoding="utf-8"))
        recipe = config.converted(table, alignment.Recipe)
        assert recipe.name == name
        assert (recipe.model.hub is None) == (name == "micro-alignment")
