"""Janus and Emu3 with tiny weights, through the code that loads a hub id, against transformers' own calls."""

import functools
import json
import tomllib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from scipy import stats  # noqa: E402
from transformers import GenerationConfig, GenerationMixin  # noqa: E402
from transformers.generation import ClassifierFreeGuidanceLogitsProcessor  # noqa: E402

import tiny_models  # noqa: E402
from mllmrisk import config, generators  # noqa: E402
from mllmrisk.errors import GeneratorError, UsageError  # noqa: E402
from mllmrisk.generators import pretrained  # noqa: E402
from mllmrisk.generators.base import Request  # noqa: E402
from mllmrisk.generators.sampling import Sampler, guided  # noqa: E402
from mllmrisk.generators.transformers import Parameters, Transformers  # noqa: E402
from mllmrisk.records import Outcome  # noqa: E402

FOUR = [
    Request("a", "a small ball in the forest", 11),
    Request("b", "a large house in the street and a car and a tree and a small fish in the river", 12),
    Request("c", "cup", 13),
    Request("d", "a small ball in the forest", 14),
]
KEYS = {"janus": {}, "janus-plain": {}, "emu3": {"area": 32 * 32}}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every tiny model, saved."""
    top = tmp_path_factory.mktemp("models")
    with pretrained.quiet():
        return {
            "janus": tiny_models.janus(top / "janus"),
            "janus-plain": tiny_models.janus(top / "janus-plain", chat=False),
            "emu3": tiny_models.emu3(top / "emu3"),
        }


@pytest.fixture(scope="module")
def ready(folders):
    """Loaded models on the CPU, for tests that leave them as they are."""
    return functools.cache(lambda name: load(folders[name], **KEYS[name]))


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, and no more than one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(model, *, device="cpu", **keys):
    """By the way of a user's TOML."""
    common = generators.Common(name="tiny", version="1", kind="transformers", paradigm="mllm", about="Tiny.")
    parameters = config.parameters({"model": str(model)} | keys, Transformers.accepts, "generator tiny")
    return Transformers(common, parameters, model.parent if hasattr(model, "parent") else None, device=device)


def tokens(generator, requests):
    with pretrained.quiet(), torch.no_grad():
        ids, failed = generator.family.tokens(requests)
    assert failed == [False] * len(requests)
    return ids.cpu()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_batch_of_four_is_four_singles_to_the_token(folders, ready, name, device, capfd):
    generator = ready(name) if device == "cpu" else load(folders[name], device=device, dtype="float32", **KEYS[name])
    together = tokens(generator, FOUR)
    alone = torch.cat([tokens(generator, [request]) for request in FOUR])
    assert torch.equal(together, alone)
    assert torch.equal(tokens(generator, FOUR[::-1]).flip(0), together)
    assert not torch.equal(together[0], together[3])  # one prompt, two seeds
    assert len(together.unique()) > 10
    made = generator.generate(FOUR)
    assert [one.outcome for one in made] == [Outcome.OK] * 4
    assert {one.image.shape for one in made} == {(32, 32, 3)}
    singly = np.stack([generator.generate([request])[0].image for request in FOUR]).astype(int)
    assert np.abs(np.stack([one.image for one in made]) - singly).max() <= 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_draw_does_not_depend_on_the_device(folders, ready, name):
    here, there = ready(name), load(folders[name], device="cuda", dtype="float32", **KEYS[name])
    assert (tokens(here, FOUR) == tokens(there, FOUR)).double().mean() > 0.9


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_prompt_and_the_guidance_matter_and_nothing_global_does(folders, ready, name):
    generator = ready(name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tokens(generator, FOUR)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(tokens(generator, FOUR), first)
    other = [request._replace(prompt="a flower in the night") for request in FOUR]
    assert not torch.equal(tokens(generator, other), first)
    unguided = load(folders[name], guidance=1.0, **KEYS[name])
    assert unguided.family.effective["guidance"] == 1.0
    assert not torch.equal(tokens(unguided, FOUR), first)


def test_janus_at_its_likeliest_is_transformers_greedy_call(folders):
    """The library's own loop with its own guidance, as its documentation has it."""
    generator = load(folders["janus"], top_k=1)
    model, processor = generator.family._model, generator.family._processor
    texts = [f"You: {request.prompt}\nIt:" for request in FOUR]
    inputs = processor(text=texts, generation_mode="image", padding=True, return_tensors="pt")
    with pretrained.quiet():
        theirs = model.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=5.0)
    assert torch.equal(tokens(generator, FOUR), theirs)


def test_emu3_at_its_likeliest_is_transformers_documented_call(folders):
    """With the documented `prefix_allowed_tokens_fn`, one call per prompt."""
    generator = load(folders["emu3"], top_k=1, negative_prompt="large", area=48 * 48)
    model, processor = generator.family._model, generator.family._processor
    tokenizer = processor.tokenizer
    row_end = tokenizer.convert_tokens_to_ids("<|extra_200|>")
    keys = {"return_tensors": "pt", "return_for_image_generation": True, "ratio": "1:1", "image_area": 48 * 48}
    for request, ours in zip(FOUR, tokens(generator, FOUR), strict=True):
        inputs = processor(text=[request.prompt], **keys)
        negative = processor(text=["large"], **keys)
        height, width = inputs.pop("image_sizes")[0]
        assert (height, width) == (6, 6)

        def allowed(_, ids, height=height, width=width):
            start = (ids == tokenizer.image_wrapper_token_id).nonzero()[0][0]
            offset = len(ids) - int(start)
            if offset % (width + 1) == 0:
                return (row_end,)
            ends = (tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id)
            past = offset - (width + 1) * height
            return (ends[past - 1],) if past > 0 else model.vocabulary_mapping.image_tokens

        with pretrained.quiet():
            theirs = model.generate(
                **inputs,
                max_new_tokens=100,
                do_sample=False,
                guidance_scale=3.0,
                prefix_allowed_tokens_fn=allowed,
                negative_prompt_ids=negative.input_ids,
                negative_prompt_attention_mask=negative.attention_mask,
            )
        assert torch.equal(ours, theirs[0, inputs.input_ids.shape[1] :])


def test_guidance_is_transformers_own():
    scores = torch.randn(6, 40, generator=torch.Generator().manual_seed(3))
    theirs = ClassifierFreeGuidanceLogitsProcessor(4.0)(torch.zeros(3, 5), scores)
    assert torch.equal(guided(scores, 4.0), theirs)
    torch.testing.assert_close(guided(scores, 1.0), scores[:3])
    assert torch.equal(guided(scores, 0.0), scores[3:])


@pytest.mark.parametrize(
    "keys", [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 9, "top_p": 0.9}]
)
def test_the_draw_has_the_distribution_of_transformers_sampling(keys):
    """6,000 rows with 6,000 seeds, against the probabilities that `generate` would sample from."""
    rows = 6_000
    logits = 2 * torch.randn(1, 24, generator=torch.Generator().manual_seed(4))
    settings = GenerationConfig(do_sample=True, **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} | keys))
    theirs = GenerationMixin._get_logits_processor(GenerationMixin(), settings, device="cpu")
    expected = theirs(torch.zeros(1, 1, dtype=torch.long), logits).softmax(-1)[0].double().numpy()
    sampler = Sampler([torch.Generator().manual_seed(seed) for seed in range(rows)], **keys)
    drawn = sampler(torch.zeros(rows, 1, dtype=torch.long), logits.expand(rows, -1))
    assert torch.equal(drawn.isfinite().sum(1), torch.ones(rows, dtype=torch.long))
    counts = np.bincount(drawn.argmax(1).numpy(), minlength=24)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    expected = expected[possible] / expected[possible].sum() * rows
    assert stats.chisquare(counts[possible], expected).pvalue > 1e-3


def test_only_allowed_tokens_are_drawn_step_by_step():
    columns = [torch.tensor([3, 7]), torch.tensor([5])]
    sampler = Sampler([torch.Generator().manual_seed(s) for s in range(50)], allowed=lambda step: columns[step])
    scores = torch.zeros(50, 9)
    scores[:, 0] = 100.0
    assert set(sampler(None, scores).argmax(1).tolist()) == {3, 7}
    assert set(sampler(None, scores).argmax(1).tolist()) == {5}


def test_a_row_of_broken_logits_fails_alone():
    scores = torch.randn(3, 9, generator=torch.Generator().manual_seed(5))
    good = Sampler([torch.Generator().manual_seed(s) for s in range(3)])
    expected = good(None, scores).argmax(1)
    spoilt = scores.clone()
    spoilt[1, 4] = torch.nan
    sampler = Sampler([torch.Generator().manual_seed(s) for s in range(3)])
    drawn = sampler(None, spoilt).argmax(1)
    assert sampler.failed == [False, True, False]
    assert drawn[[0, 2]].tolist() == expected[[0, 2]].tolist()
    sampler(None, scores)
    assert sampler.failed == [False, True, False]


@pytest.mark.parametrize("name", ["janus", "emu3"])
def test_a_model_that_overflows_makes_no_image(folders, name):
    generator = load(folders[name], **KEYS[name])
    head = generator.family._model.model.generation_head.vision_head if name == "janus" else None
    with torch.no_grad():
        (head or generator.family._model.lm_head).weight.fill_(torch.nan)
    made = generator.generate(FOUR[:2])
    assert [(one.outcome, one.reason, one.image) for one in made] == [(Outcome.FAILED, "not_finite", None)] * 2


@pytest.mark.parametrize("name", ["janus", "emu3"])
def test_pixels_are_transformers_own(ready, name):
    generator = ready(name)
    family = generator.family
    ids = tokens(generator, FOUR)
    with torch.no_grad():
        ours = np.stack(family.pixels(ids))
    with pretrained.quiet(), torch.no_grad():
        if name == "janus":
            decoded = family._model.decode_image_tokens(ids)
            # "PIL.Image.Image" and "np" raise in 5.24: the reason for converting pixels ourselves
            tensors = family._processor.postprocess(list(decoded.float()), return_tensors="pt")["pixel_values"]
            theirs = tensors.permute(0, 2, 3, 1).numpy()
        else:
            decoded = family._model.decode_image_tokens(image_tokens=ids, height=4, width=4)
            kept = family._processor.postprocess(list(decoded.float()), return_tensors="PIL.Image.Image")
            theirs = np.stack([np.asarray(picture) for picture in kept["pixel_values"]])
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1  # both cut fractions off, after sums in another order
    assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_record_says_how_to_make_them_again(folders, ready, name):
    generator = ready(name)
    identity = generator.identity
    assert json.loads(json.dumps(identity)) == identity
    assert str(folders[name].parent) not in json.dumps(identity)
    assert identity["class"] == f"{name.split('-')[0].capitalize()}ForConditionalGeneration"
    assert identity["digest"] == pretrained.folder_digest(folders[name])
    assert (identity["dtype"], identity["device"]) == ("float32", "cpu")
    assert {"torch", "transformers", "python"} <= set(identity["versions"])
    effective = identity["effective"]
    assert effective["guidance"] == (3.0 if name == "emu3" else 5.0)  # the model's own, not given here
    assert (effective["temperature"], effective["top_k"], effective["top_p"]) == (1.0, None, None)
    assert effective["tokens"] == 16
    if name != "emu3":
        assert effective["chat"] is (name == "janus")


def test_a_hub_id_loads_by_the_same_path_with_its_commit(folders, ready, tmp_path, monkeypatch):
    import huggingface_hub.constants as hub

    commit = "fedcba9876543210fedcba9876543210fedcba98"
    tiny_models.as_hub(folders["janus"], tmp_path, "somebody/tiny-janus", commit)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    generator = load("somebody/tiny-janus")
    assert (generator.identity["model"], generator.identity["commit"]) == ("somebody/tiny-janus", commit)
    assert torch.equal(tokens(generator, FOUR), tokens(ready("janus"), FOUR))
    with pytest.raises(UsageError, match="generator 'tiny' cannot be loaded"):
        load("somebody/else")


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("janus", {"area": 4096}, "'area' has no effect on a model of the type 'janus'"),
        ("janus", {"negative_prompt": "x"}, "'negative_prompt' has no effect"),
        ("janus-plain", {"chat": True}, "no chat template"),
        ("emu3", {"chat": True}, "'chat' has no effect on a model of the type 'emu3'"),
        ("emu3", {"area": 4}, "less than one token"),
        ("janus", {"temperature": 0.0}, "temperature must be above 0"),
        ("janus", {"top_k": 0}, "top_k must be at least 1"),
        ("janus", {"topk": 5}, "no key 'topk'. Did you mean 'top_k'"),
    ],
)
def test_wrong_keys_are_named(folders, name, keys, says):
    with pytest.raises(UsageError) as wrong:
        load(folders[name], **keys)
    assert says in str(wrong.value)


@pytest.mark.parametrize(
    ("model_type", "says"),
    [("llama", "no image is written by a model of the type 'llama'"), ("multi_modality", "deepseek")],
)
def test_a_model_that_writes_no_image_here_is_refused(tmp_path, model_type, says):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UsageError, match=says):
        load(tmp_path / "model")


def test_closing_twice_is_harmless_and_closed_is_said(folders):
    generator = load(folders["janus"])
    generator.close()
    generator.close()
    with pytest.raises(GeneratorError, match="closed"):
        generator.generate(FOUR)


def test_every_key_of_the_parameters_is_in_the_guide():
    text = (tiny_models.Path(__file__).parents[2] / "docs" / "generators.md").read_text(encoding="utf-8")
    for name in Parameters.__struct_fields__:
        assert f"`{name}`" in text, name


def test_packaged_files_of_this_kind_draw_as_their_authors_do():
    found = 0
    for name in config.names("generators"):
        table = tomllib.loads((config.CONFIGS / "generators" / f"{name}.toml").read_text(encoding="utf-8"))
        if table["kind"] == "transformers":
            assert {"guidance", "temperature", "basis", "licence", "mib"} <= set(table), name
            found += 1
    assert found >= 4
