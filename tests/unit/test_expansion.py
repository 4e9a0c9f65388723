"""Expansion of captions: a real HTTP server, a real language model, files, the world's grammar; the cache between."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from judges_service import Answer, Service, error, said, serving
from mllmrisk import config, prompts
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.prompts import expansion
from mllmrisk.prompts.expansion import cache
from mllmrisk.prompts.expansion.base import Expander, Identity, Wanted
from mllmrisk.prompts.expansion.levels import Failure, Made, captions_of, cleaned, expand, fault
from mllmrisk.records import Prompt

SECRET = "sk-nobody-may-read-this"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A user's folder of prompts of the test's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MLLMRISK_PROMPTS", str(folder))
    monkeypatch.setenv("EXPANDING_KEY", SECRET)
    return folder


def captions(*texts: str) -> list[Prompt]:
    return [
        Prompt(id=f"mine/k{i}", text=text, prompt_set="mine", extra={"page": str(i)}) for i, text in enumerate(texts)
    ]


def written(folder: Path, text: str) -> Path:
    path = folder / "expander.toml"
    path.write_text(f'name = "mine"\nversion = "1"\nabout = "x"\n{text}', encoding="utf-8")
    return path


def asking(folder: Path, service: Service, *, text: str = "Say it longer: {text}", extra: str = "") -> Expander:
    endpoint = (
        f'model = "m-1"\nbase_url = "{service.base_url}"\nkey_env = "EXPANDING_KEY"\nparallel = 1\nattempts = 1\n'
    )
    toml = f'kind = "openai"\n{extra}[endpoint]\n{endpoint}[instruction]\nsystem = "Be plain."\ntext = "{text}"\n'
    return expansion.load(expansion.describe(str(written(folder, toml))))


def run(found: list[Prompt], expander: Expander, **more: int) -> Made:
    return expand(found, expander, **{"levels": 2, "seed": 0, **more})


def texts(made: Made) -> dict[str, str]:
    return {row["id"]: row["text"] for row in made.rows}


def test_a_caption_becomes_three_levels_each_from_the_one_before(tmp_path):
    with serving(said('"A red ball\n lies there."'), said("A red ball lies there, in wet grass.")) as service:
        made = run(captions("a red ball"), asking(tmp_path, service))
    assert texts(made) == {
        "mine/k0/v0": "a red ball",
        "mine/k0/v1": "A red ball lies there.",
        "mine/k0/v2": "A red ball lies there, in wet grass.",
    }
    first, second = (asked.body for asked in service.asked)
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][1]["content"] == "Say it longer: a red ball"
    assert second["messages"][1]["content"] == "Say it longer: A red ball lies there."
    assert (first["seed"], first["temperature"], first["model"]) == (0, 0, "m-1")
    assert service.asked[0].headers["authorization"] == f"Bearer {SECRET}"
    _, _, last = made.rows
    assert (last["level"], last["concept"], last["prompt_set"], last["key"]) == ("v2", "mine/k0", "mine", "k0-v2")
    assert (last["model"], last["seed"], last["page"]) == ("m-1", 0, "0")
    assert "Say it longer" in last["instruction"]
    assert last["expanded_from"] == "mine/k0/v1"
    assert made.words == {"v0": 3.0, "v1": 5.0, "v2": 8.0}


def test_what_was_answered_is_never_asked_again_and_another_question_is(tmp_path, home):
    with serving(said("a much longer first text"), said("a much longer first text, and longer")) as service:
        first = run(captions("a ball"), asking(tmp_path, service))
        again = run(captions("a ball"), asking(tmp_path, service))
        assert len(service.asked) == 2, "the second call came from the cache"
        assert (again.asked, again.remembered) == (0, 2)
        assert again.rows == first.rows
        run(captions("a ball"), asking(tmp_path, service), seed=1, levels=1)
        assert service.asked[-1].body["seed"] == 1
        run(captions("a ball"), asking(tmp_path, service, text="Say more: {text}"), levels=1)
        assert len(service.asked) == 4, "another seed and another instruction are other questions"
        run(captions("a ball"), asking(tmp_path, service, extra='licence = "free"\n'))
        assert len(service.asked) == 4, "what decides nothing changes nothing"
    kept = "".join(path.read_text() for path in home.rglob("*.jsonl"))
    assert "a much longer first text" in kept
    assert SECRET not in kept + json.dumps(first.rows)


def test_equal_captions_are_asked_once(tmp_path):
    with serving(said("one ball lies in the grass")) as service:
        made = run(captions("a ball", "a ball", "a  ball"), asking(tmp_path, service), levels=1)
    assert len(service.asked) == 2, "a text with another white space is another text"
    assert texts(made)["mine/k1/v1"] == "one ball lies in the grass"


def test_a_call_that_was_cut_goes_on_from_its_last_whole_line(tmp_path, home):
    with serving(said("a ball that is red"), said("a tree that is tall"), error(401)) as service:
        expander = asking(tmp_path, service)
        with pytest.raises(UsageError, match="refuses the request"):
            run(captions("a ball", "a tree", "a house"), expander, levels=1)
    (kept,) = home.rglob("*.jsonl")
    with kept.open("a", encoding="utf-8") as file:
        file.write('{"key": "0123", "te')
    with serving(said("a house that is old")) as service:
        other = asking(tmp_path, service)
        other.identity = expander.identity  # the server's port is new, the service is the same
        made = run(captions("a ball", "a tree", "a house"), other, levels=1)
        assert [asked.body["messages"][1]["content"] for asked in service.asked] == ["Say it longer: a house"]
        assert made.remembered == 2
        assert run(captions("a ball", "a tree", "a house"), other, levels=1).remembered == 3
    assert not made.failures


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (said(""), "empty"),
        (said(None), "empty"),
        (said(' "" '), "empty"),
        (said("a ball"), "shorter"),
        (said('"A  red  ball by day"'.replace("A", "a")), "unchanged"),
        (said("a red ball by day and by ni", finish="length"), "cut"),
        (said("I cannot help with this request, sorry.", refusal="no"), "refused"),
        (said("a red ball by day, filtered", finish="content_filter"), "refused"),
        (error(500), "server_error"),
        (error(429), "rate_limited"),
        (Answer({"choices": []}), "malformed"),
    ],
)
def test_an_answer_that_is_no_richer_text_is_a_failure_and_never_kept(tmp_path, home, answer, reason):
    with serving(said("a tree that is tall"), answer, said("a red ball by day, in wet grass")) as service:
        expander = asking(tmp_path, service)
        found = captions("a tree", "a red ball by day")
        made = run(found, expander, levels=1)
        assert made.failures == [Failure("mine/k1", "v1", reason)]
        assert set(texts(made)) == {"mine/k0/v0", "mine/k0/v1", "mine/k1/v0"}
        again = run(found, expander, levels=1)
        assert not again.failures
        assert len(service.asked) == 3, "what failed is asked again, and nothing else"


def test_a_failure_at_v1_is_not_expanded_further(tmp_path):
    with serving(said("")) as service:
        made = run(captions("a ball"), asking(tmp_path, service))
    assert [failure.level for failure in made.failures] == ["v1"]
    assert len(service.asked) == 1


def test_a_wrong_toml_is_refused_before_anything_is_asked(tmp_path, monkeypatch):
    with serving(said("x")) as service:
        with pytest.raises(UsageError, match="an instruction holds"):
            asking(tmp_path, service, text="Say it longer")
        toml = f'kind = "openai"\n[endpoint]\nmodel = "m"\nbase_url = "{service.base_url}"\nkey_env = ""\n'
        toml += 'parameters = { seed = 3 }\n[instruction]\ntext = "{text}"\n'
        described = expansion.describe(str(written(tmp_path, toml)))
        with pytest.raises(UsageError, match="cannot set 'seed'"):
            expansion.load(described)
        monkeypatch.delenv("EXPANDING_KEY")
        with pytest.raises(UsageError, match="EXPANDING_KEY"):
            asking(tmp_path, service)
        assert service.asked == []
    with pytest.raises(UsageError, match="Did you mean 'grammar'"):
        expansion.describe("gramar")
    path = written(tmp_path, 'kind = "grammar"\n')
    path.write_text(path.read_text().replace('"mine"', '"../mine"'))
    with pytest.raises(UsageError, match="letters, digits"):
        expansion.describe(str(path))


@pytest.mark.parametrize("name", config.names("expanders"))
def test_every_packaged_expander_is_read(name, monkeypatch):
    described = expansion.describe(name)
    assert described.common.name == name
    assert described.common.kind in expansion.KINDS.names()
    kind = expansion.KINDS.get(described.common.kind)
    config.parameters(described.parameters, kind.accepts, name)


def test_an_expander_that_lacks_its_key_or_file_says_so(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        expansion.load(expansion.describe("gpt-4o"))
    with pytest.raises(UsageError, match="a row per caption, with the columns id, v1, v2"):
        expansion.load(expansion.describe("own-texts"))


# -- a language model in this process ------------------------------------------------------------------------------

CHAIN = ("answer", "a", "large", "red", "ball", "in", "the", "green", "grass", "<end>")


def language_model(folder: Path, sharpness: float = 4.0) -> Path:
    """A real causal model whose weights say one word after the other: with nothing but its embeddings at work, the
    logit of the next word of `CHAIN` is `sharpness`, that of any other 0."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", *CHAIN]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<end>", model_max_length=64
    )
    size = 16
    shape = LlamaConfig(
        vocab_size=size, hidden_size=size, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=words.index("<end>"), pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(shape)
    with torch.no_grad():
        layer = model.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for word, after in itertools.pairwise(CHAIN):
            model.lm_head.weight[words.index(after), words.index(word)] = sharpness / size**0.5
    model.generation_config = GenerationConfig(eos_token_id=words.index("<end>"), pad_token_id=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def local(folder: Path, more: str = "") -> Expander:
    toml = (
        f'kind = "transformers"\nfolder = "model"\ndevice = "cpu"\n{more}[instruction]\ntext = "say {{text}} answer"\n'
    )
    return expansion.load(expansion.describe(str(written(folder, toml))))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    language_model(folder / "model")
    return folder


def test_a_local_model_answers_with_its_likeliest_words_to_the_end(model):
    made = run(captions("a ball"), local(model))
    assert texts(made)["mine/k0/v1"] == "a large red ball in the green grass"
    assert made.failures == [Failure("mine/k0", "v2", "unchanged")]
    assert made.rows[1]["model"].startswith("model:")
    assert run(captions("a ball"), local(model), levels=1).remembered == 1


def test_a_local_answer_that_is_cut_counts_as_none(model):
    made = run(captions("a ball"), local(model, "max_new_tokens = 4\n"))
    assert made.failures == [Failure("mine/k0", "v1", "cut")]


def test_draws_follow_the_seed_and_the_text_alone(model):
    import torch

    drawn = local(model, "sample = true\ntemperature = 3.0\nmax_new_tokens = 40\n")

    def said_by(seed: int, *asked: str) -> list[str | None]:
        found: dict[int, str | None] = {}
        wanted = [Wanted(prompt, prompt.text, "v1") for prompt in captions(*asked)]
        drawn.expand(wanted, seed=seed, tell=lambda place, answer: found.update({place: answer.text}))
        return [found[i] for i in range(len(asked))]

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    alone = said_by(0, "a ball")
    assert torch.equal(torch.random.get_rng_state(), before), "the process's own draws are left alone"
    assert said_by(0, "a tree", "a ball")[1:] == alone
    assert len({*alone, *said_by(1, "a ball"), *said_by(2, "a ball"), *said_by(0, "a tree")}) > 1


def test_a_local_model_that_is_not_whole_is_refused(model, tmp_path):
    import shutil

    with pytest.raises(UsageError, match="no such folder"):
        local(tmp_path)
    shutil.copytree(model / "model", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be loaded"):
        local(tmp_path)


# -- texts of one's own, and the grammar ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_own_texts_are_found_by_the_captions_id(tmp_path, name):
    rows = [
        {"id": "k0", "v1": "a red ball here", "v2": "a red ball here, and grass"},
        {"id": "mine/k1", "v1": "a tall tree here", "v2": ""},
    ]
    if name.endswith(".csv"):
        lines = ["id,v1,v2", *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows))
    expander = expansion.load(
        expansion.describe(str(written(tmp_path, f'kind = "file"\nfile = "{name}"\nauthor = "me"\n')))
    )
    made = run(captions("a red ball", "a tree", "a house"), expander)
    assert texts(made)["mine/k0/v2"] == "a red ball here, and grass"
    assert texts(made)["mine/k1/v1"] == "a tall tree here"
    assert made.failures == [Failure("mine/k2", "v1", "not_in_the_file"), Failure("mine/k1", "v2", "empty")]
    assert made.rows[1]["model"] == "me"


def test_the_grammar_makes_of_the_worlds_captions_what_the_embedded_set_has():
    benign = prompts.read(prompts.describe("benign"))
    grammar = expansion.load(expansion.describe("grammar"))
    made = run(captions_of(benign, "benign"), grammar)
    assert [row["text"] for row in made.rows] == [prompt.text for prompt in benign]
    assert {row["subject"] for row in made.rows} == {prompt.extra["subject"] for prompt in benign}
    assert not made.failures
    with pytest.raises(UsageError, match="nothing to add after v2"):
        run(captions_of(benign, "benign"), grammar, levels=3)


def test_the_grammar_refuses_what_is_not_of_its_world():
    grammar = expansion.load(expansion.describe("grammar"))
    with pytest.raises(UsageError, match="mine/k1 is no caption of the drawn world"):
        run(captions("in a field, a red ball", "a man rides a wave"), grammar)


# -- small parts ---------------------------------------------------------------------------------------------------


def test_answers_are_cleaned_of_what_models_put_around_them():
    assert cleaned(' "a ball,\nred" ') == "a ball, red"
    assert cleaned("“a ball”") == "a ball"
    assert cleaned('"a ball" and "a tree"') == '"a ball" and "a tree"'
    assert cleaned('"') == '"'
    assert fault("x" * 10_001, "x") == "too_long"
    assert fault("a ball in grass", "a ball") is None


def test_the_key_depends_on_everything_that_decides():
    identity = Identity("d", "m", "i")
    keys = {
        cache.key("a", identity, 0),
        cache.key("b", identity, 0),
        cache.key("a", identity, 1),
        *(cache.key("a", identity._replace(**{part: "x"}), 0) for part in identity._fields),
    }
    assert len(keys) == 6


def test_only_captions_are_expanded():
    found = captions("a", "b")
    levelled = [Prompt(id="mine/x", text="x", prompt_set="mine", level="v1"), *found]
    assert captions_of(levelled, "mine") == found
    with pytest.raises(UsageError, match="no caption to expand"):
        captions_of(levelled[:1], "mine")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with serving(said("x")) as service, pytest.raises(MissingExtraError, match=r"mllmrisk\[api\]"):
        asking(tmp_path, service)
