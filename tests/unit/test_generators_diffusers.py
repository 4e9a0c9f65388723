"""Real pipelines of diffusers with tiny weights, through the code that loads a hub id."""

import functools
import json
import sys
import tomllib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from diffusers import StableDiffusion3Pipeline  # noqa: E402

import tiny_models  # noqa: E402
from mllmrisk import config, generators  # noqa: E402
from mllmrisk.errors import GeneratorError, MissingExtraError, OutOfMemoryError, UsageError  # noqa: E402
from mllmrisk.generators import pretrained  # noqa: E402
from mllmrisk.generators.base import Made, Request  # noqa: E402
from mllmrisk.generators.diffusers import Diffusers, Parameters  # noqa: E402
from mllmrisk.generators.guarded import batch_or_singles, guarded  # noqa: E402
from mllmrisk.generators.torch_device import choose  # noqa: E402
from mllmrisk.records import Outcome  # noqa: E402

PROMPTS = ("a small ball in the forest", "a large house", "cup", "a small fish in the river, a tree, a car")
EIGHT = [Request(f"s{i}", PROMPTS[i % 4], 1000 + i) for i in range(8)]

#: Keys that make each tiny pipeline quick.
KEYS = {
    "sd1": {},
    "sdxl": {},
    "sd3": {"extra": {"max_sequence_length": 16}},
    "pixart": {"extra": {"clean_caption": False, "use_resolution_binning": False, "max_sequence_length": 16}},
    "flux": {"guidance": 3.5, "extra": {"max_sequence_length": 16}},
    "qwen_image": {"negative_prompt": " ", "extra": {"true_cfg_scale": 4.0}},
}
CLASSES = {
    "sd1": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "pixart": "PixArtSigmaPipeline",
    "flux": "FluxPipeline",
    "qwen_image": "QwenImagePipeline",
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Every tiny pipeline, saved."""
    top = tmp_path_factory.mktemp("pipelines")
    with pretrained.quiet():
        return {name: getattr(tiny_models, name)(top / name) for name in KEYS}


@pytest.fixture(scope="module")
def ready(folders):
    """Loaded pipelines on the CPU, for tests that leave them as they are."""
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
    table = {"steps": 2, "width": 32, "height": 32, "model": str(model)} | keys
    common = generators.Common(
        name="tiny", version="1", kind="diffusers", paradigm="diffusion", about="Tiny random weights."
    )
    parameters = config.parameters(table, Diffusers.accepts, "generator tiny")
    return Diffusers(common, parameters, model.parent if hasattr(model, "parent") else None, device=device)


def pixels(made):
    assert [one.outcome for one in made] == [Outcome.OK] * len(made), made
    return np.stack([one.image for one in made]).astype(int)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_batch_of_eight_is_eight_singles(folders, ready, name, device, capfd):
    generator = ready(name) if device == "cpu" else load(folders[name], device=device, dtype="float32", **KEYS[name])
    together = pixels(generator.generate(EIGHT))
    alone = np.concatenate([pixels(generator.generate([request])) for request in EIGHT])
    assert together.shape == (8, 32, 32, 3)
    difference = np.abs(together - alone)
    # float32 sums in another order: the stated tolerance of docs/generators.md
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002
    reversed_order = pixels(generator.generate(EIGHT[::-1]))[::-1]
    assert np.abs(reversed_order - together).max() <= 1
    assert np.abs(together[0] - together[4]).mean() > 5  # the same prompt from another seed is another image
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_prompt_matters_and_dropout_is_off(ready, name):
    generator = ready(name)
    one, same, other = (generator.generate([Request("s", text, 7)]) for text in ("a ball", "a ball", "a large tree"))
    assert np.array_equal(pixels(one), pixels(same))
    assert not np.array_equal(pixels(one), pixels(other))
    parts = generator._pipeline.components.values()
    assert not any(part.training for part in parts if hasattr(part, "training"))


def test_nothing_global_is_read_or_moved(ready):
    generator = ready("sd1")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = pixels(generator.generate(EIGHT[:2]))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert np.array_equal(pixels(generator.generate(EIGHT[:2])), first)


@pytest.mark.parametrize("name", sorted(KEYS))
def test_the_record_says_how_to_make_them_again(folders, ready, name):
    generator = ready(name)
    identity = generator.identity
    assert json.loads(json.dumps(identity)) == identity
    assert str(folders[name].parent) not in json.dumps(identity)
    assert identity["class"] == CLASSES[name]
    assert identity["model"] == name
    assert identity["digest"] == pretrained.folder_digest(folders[name])
    assert (identity["dtype"], identity["device"]) == ("float32", "cpu")
    assert {"torch", "diffusers", "transformers", "python"} <= set(identity["versions"])
    effective = identity["effective"]
    assert effective["arguments"]["num_inference_steps"] == 2
    guidance = "true_cfg_scale" if name == "qwen_image" else "guidance_scale"
    assert effective["arguments"][guidance] > 0  # also where the TOML is silent
    assert effective["scheduler"]["class"] == type(generator._pipeline.scheduler).__name__
    assert effective["scheduler"]["num_train_timesteps"] == 1000
    assert effective["safety_checker"] is False
    assert identity["passed"]["steps"] == 2


def test_the_digest_is_of_the_weights_and_not_of_their_shapes(folders, tmp_path):
    import shutil

    copy = shutil.copytree(folders["sd1"], tmp_path / "sd1")
    assert pretrained.folder_digest(copy) == pretrained.folder_digest(folders["sd1"])
    weights = next(copy.glob("unet/*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert pretrained.folder_digest(copy) != pretrained.folder_digest(folders["sd1"])


def test_a_hub_id_loads_by_the_same_path_with_its_commit(folders, ready, tmp_path, monkeypatch):
    import huggingface_hub.constants as hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    tiny_models.as_hub(folders["sd3"], tmp_path, "somebody/tiny-sd3", commit)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    generator = load("somebody/tiny-sd3", **KEYS["sd3"])
    assert generator.identity["model"] == "somebody/tiny-sd3"
    assert (generator.identity["revision"], generator.identity["commit"]) == ("main", commit)
    local = ready("sd3")
    assert np.array_equal(pixels(generator.generate(EIGHT[:1])), pixels(local.generate(EIGHT[:1])))
    with pytest.raises(UsageError, match="generator 'tiny' cannot be loaded"):
        load("somebody/else")


def test_flagged_images_are_filtered_and_the_checker_is_off_unless_asked_for(folders, tmp_path):
    with pretrained.quiet():
        strict = tiny_models.sd1(tmp_path / "strict", checker=True)
        lenient = tiny_models.sd1(tmp_path / "lenient", checker=False)
    made = load(strict, safety_checker=True).generate(EIGHT[:2])
    assert [(one.outcome, one.reason, one.image) for one in made] == [(Outcome.FILTERED, "safety_checker", None)] * 2
    passing = load(lenient, safety_checker=True)
    assert passing.identity["effective"]["safety_checker"] is True
    off = load(strict)
    assert off.identity["effective"]["safety_checker"] is False
    assert off.identity["loading"]["safety_checker"] is None
    assert np.array_equal(pixels(passing.generate(EIGHT[:2])), pixels(off.generate(EIGHT[:2])))
    with pytest.raises(UsageError, match="comes without one"):
        load(folders["sdxl"], safety_checker=True)


def test_components_can_be_left_out(folders, ready, tmp_path):
    without = load(folders["sd3"], drop=["text_encoder_3", "tokenizer_3"], **KEYS["sd3"])
    assert "text_encoder_3" not in without.identity["components"]
    assert not np.array_equal(pixels(without.generate(EIGHT[:1])), pixels(ready("sd3").generate(EIGHT[:1])))
    with pretrained.quiet():
        StableDiffusion3Pipeline.from_pretrained(folders["sd3"], text_encoder_3=None, tokenizer_3=None).save_pretrained(
            saved := tmp_path / "no-t5"
        )
    again = load(saved, drop=["text_encoder_3", "tokenizer_3"], **KEYS["sd3"])
    assert np.array_equal(pixels(again.generate(EIGHT[:1])), pixels(without.generate(EIGHT[:1])))
    with pytest.raises(UsageError, match="Did you mean 'text_encoder_3'"):
        load(folders["sd3"], drop=["text_encoder3"])


def test_a_negative_prompt_counts_in_every_row(folders, ready):
    plain = ready("sd1")
    steered = load(folders["sd1"], negative_prompt="a large tree")
    together = pixels(steered.generate(EIGHT[:3]))
    alone = np.concatenate([pixels(steered.generate([request])) for request in EIGHT[:3]])
    assert np.abs(together - alone).max() <= 1
    assert not np.array_equal(together, pixels(plain.generate(EIGHT[:3])))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"extra": {"guidence_rescale": 0.7}}, "takes no 'guidence_rescale'. Did you mean 'guidance_rescale'"),
        ({"extra": {"num_inference_steps": 3}}, "given twice"),
        ({"extra": {"generator": 3}}, "'generator' is set for every call"),
        ({"offload": "model"}, "offload = 'model' needs a GPU"),
        ({"step": 3}, "no key 'step'. Did you mean 'steps'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_wrong_keys_are_named(folders, keys, says):
    with pytest.raises(UsageError) as wrong:
        load(folders["sd1"], **keys)
    assert says in str(wrong.value)


def test_guidance_that_would_be_ignored_is_refused(folders, tmp_path):
    with pretrained.quiet():
        schnell = tiny_models.flux(tmp_path / "schnell", distilled=False)
    with pytest.raises(UsageError, match="ignores guidance"):
        load(schnell, guidance=3.5)
    with pytest.raises(UsageError, match="no effect without a negative_prompt"):
        load(folders["flux"], extra={"true_cfg_scale": 4.0})
    small = {"max_sequence_length": 16}
    plain = load(schnell, extra=small)
    guided = load(schnell, negative_prompt=" ", extra=small | {"true_cfg_scale": 4.0})
    together = pixels(guided.generate(EIGHT[:3]))
    assert not np.array_equal(together, pixels(plain.generate(EIGHT[:3])))
    assert np.abs(together[2] - pixels(guided.generate(EIGHT[2:3]))[0]).max() <= 1


def test_pickled_weights_and_missing_models_are_refused(tmp_path):
    with pretrained.quiet():
        pickled = tiny_models.sd1(tmp_path / "pickled", pickled=True)
    with pytest.raises(UsageError, match="safetensors"):
        load(pickled)
    with pytest.raises(UsageError, match="no such folder"):
        load(tmp_path / "nothing")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text('{"_class_name": "NoSuchPipeline"}')
    with pytest.raises(UsageError, match="no pipeline 'NoSuchPipeline'"):
        load(tmp_path / "odd")


def test_a_decoder_that_overflows_is_no_black_image(folders):
    generator = load(folders["sd1"])
    with torch.no_grad():
        generator._pipeline.vae.decoder.conv_out.bias.fill_(torch.nan)
    made = generator.generate(EIGHT[:2])
    assert [(one.outcome, one.reason) for one in made] == [(Outcome.FAILED, "not_finite")] * 2


def test_a_prompt_longer_than_its_encoder_reads_says_so(ready):
    long = "a small ball in the forest and " * 20
    (short_made, long_made) = ready("sd1").generate([EIGHT[0], Request("s", long, 1)])
    assert short_made.facts is None
    count = len(ready("sd1")._pipeline.tokenizer(long).input_ids)
    assert long_made.facts == {"truncated": f"tokenizer {count}>77"}


def test_closing_twice_is_harmless_and_closed_is_said(folders):
    generator = load(folders["sd1"])
    generator.close()
    generator.close()
    with pytest.raises(GeneratorError, match="closed"):
        generator.generate(EIGHT[:1])


def test_no_requests_are_no_images(ready):
    assert ready("sd1").generate([]) == []


def test_memory_that_is_not_there_is_an_error_of_its_own():
    with pytest.raises(OutOfMemoryError, match="memory"):
        guarded(lambda: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(OutOfMemoryError):
        batch_or_singles(lambda requests: [Made(Outcome.OK, torch.empty(2**60).numpy())], EIGHT[:1])
    with pytest.raises(UsageError, match="generator 'x' does not fit into memory"):
        pretrained.loaded("generator 'x'", lambda: guarded(lambda: torch.empty(2**60)))
    with pytest.raises(RuntimeError, match="size"):
        guarded(lambda: torch.ones(2) @ torch.ones(3))


@pytest.mark.gpu
def test_a_full_gpu_is_told_and_freed():
    held = torch.cuda.memory_allocated()
    with pytest.raises(OutOfMemoryError):
        guarded(lambda: [torch.empty(2**34, dtype=torch.uint8, device="cuda") for _ in range(1000)])
    assert torch.cuda.memory_allocated() == held


def test_what_fails_for_one_prompt_fails_alone():
    def make(requests):
        if any("cup" in request.prompt for request in requests):
            raise ValueError("no cups\nat all")
        return [Made(Outcome.OK, np.zeros((1, 1, 3), np.uint8)) for _ in requests]

    made = batch_or_singles(make, EIGHT)
    assert [one.outcome for one in made] == [Outcome.FAILED if "cup" in r.prompt else Outcome.OK for r in EIGHT]
    assert made[2].reason == "error"
    assert made[2].facts == {"error": "ValueError: no cups"}


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="cuda:99 was asked for"):
        choose("cuda:99", "generator 'x'")
    with pytest.raises(UsageError, match="no device 'tpu'"):
        choose("tpu", "generator 'x'")
    assert choose("cpu", "generator 'x'").name == "cpu"
    assert choose("auto", "generator 'x'").cuda == torch.cuda.is_available()


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[gen\]'"):
        choose("auto", "generator 'x'")


def test_a_users_file_with_a_folder_beside_it(folders, ready):
    file = folders["sd1"].parent / "mine.toml"
    head = 'name = "mine"\nversion = "2"\nkind = "diffusers"\nparadigm = "diffusion"\nabout = "Mine."\n'
    file.write_text(head + 'model = "./sd1"\nsteps = 2\nwidth = 32\nheight = 32\n[extra]\neta = 0.0\n')
    generator = generators.load(generators.describe(str(file)), device="cpu")
    assert (generator.name, generator.paradigm, generator.batch) == ("mine", "diffusion", 4)
    assert np.array_equal(pixels(generator.generate(EIGHT[:1])), pixels(ready("sd1").generate(EIGHT[:1])))


def test_precision_is_as_loaded(folders):
    generator = load(folders["sd1"], dtype="bfloat16")
    assert generator._pipeline.unet.dtype is torch.bfloat16
    assert generator.identity["dtype"] == "bfloat16"
    assert pixels(generator.generate(EIGHT[:1])).std() > 10
    assert load(folders["sd1"], cuda_dtype="float16").identity["dtype"] == "float32"


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_changes_nothing(folders, offload):
    keys = {"device": "cuda", "dtype": "float32"}
    plain, offloaded = load(folders["sd3"], **keys), load(folders["sd3"], offload=offload, **keys)
    assert np.abs(pixels(plain.generate(EIGHT)) - pixels(offloaded.generate(EIGHT))).max() <= 1


@pytest.mark.gpu
def test_the_noise_does_not_depend_on_the_device(folders):
    here, there = load(folders["sd3"]), load(folders["sd3"], device="cuda", dtype="float32")
    assert np.abs(pixels(here.generate(EIGHT)) - pixels(there.generate(EIGHT))).mean() < 2


def test_every_key_of_the_parameters_is_in_the_guide():
    text = (tiny_models.Path(__file__).parents[2] / "docs" / "generators.md").read_text(encoding="utf-8")
    for name in Parameters.__struct_fields__:
        assert f"`{name}`" in text, name


def test_packaged_files_of_this_kind_state_what_they_ran_with():
    for name in config.names("generators"):
        table = tomllib.loads((config.CONFIGS / "generators" / f"{name}.toml").read_text(encoding="utf-8"))
        if table["kind"] == "diffusers":
            missing = {"steps", "width", "height", "basis", "licence", "mib"} - set(table)
            assert not missing, (name, missing)
