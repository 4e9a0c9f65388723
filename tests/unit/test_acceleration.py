"""What makes generators fast changes pixels by stated amounts at most, and a batch is found by real memory."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from mllmrisk import batch_search, config, generators  # noqa: E402
from mllmrisk.cli import generate_command  # noqa: E402
from mllmrisk.errors import OutOfMemoryError, UsageError  # noqa: E402
from mllmrisk.generators import acceleration, diffusers, transformers  # noqa: E402
from mllmrisk.generators.acceleration import Options, Shapes  # noqa: E402
from mllmrisk.generators.base import Made, Request  # noqa: E402
from mllmrisk.generators.torch_device import choose  # noqa: E402
from mllmrisk.records import Outcome  # noqa: E402

REQUESTS = [Request(f"s{i}", "a red ball on a green lawn", 1000 + i) for i in range(4)]
#: Mean difference of levels (of 255) between bfloat16 and float32, stated in docs/gpu.md.
BF16_LEVELS = 1.0
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name: str, device: str = "cpu", **keys):
    """An embedded generator with some keys of its TOML changed."""
    described = generators.describe(name)
    return generators.load(described._replace(parameters=described.parameters | keys), device=device)


@functools.cache
def plain(name: str, device: str) -> np.ndarray:
    """(4, H, W, 3) pixels in float32, nothing compiled, the library's own layout."""
    return pixels(load(name, device, dtype="float32"))


def pixels(generator) -> np.ndarray:
    made = generator.generate(REQUESTS)
    assert [one.outcome for one in made] == [Outcome.OK] * len(REQUESTS), made
    return np.stack([one.image for one in made]).astype(int)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["micro-diffusion", "micro-mllm"])
def test_channels_last_moves_nothing_but_the_last_bit(name, device):
    generator = load(name, device, dtype="float32", channels_last=True)
    (network,) = generator.identity["acceleration"]["channels_last"][-1:]
    parts = generator._pipeline.vae.decoder if name == "micro-diffusion" else generator.family.networks[network]
    weights = [part.weight for part in parts.modules() if isinstance(part, torch.nn.Conv2d)]
    assert any(w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights)
    difference = np.abs(pixels(generator) - plain(name, device))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_gives_images_near_those_of_float32(device):
    """The bound of docs/gpu.md. An MLLM draws other tokens in another precision: other images, of the same prompt."""
    generator = load("micro-diffusion", device, dtype="bfloat16")
    assert generator._pipeline.transformer.dtype is torch.bfloat16
    difference = np.abs(pixels(generator) - plain("micro-diffusion", device))
    assert difference.mean() < BF16_LEVELS
    assert difference.max() > 0  # or it was not computed in bfloat16
    others = plain("micro-diffusion", device)
    assert difference.mean() < 0.2 * np.abs(others - np.roll(others, 1, axis=0)).mean()  # another seed's image


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["micro-diffusion", "micro-mllm"])
def test_compiled_kernels_give_the_same_images(name, device):
    """Slow: torch takes minutes to compile on a CPU."""
    generator = load(name, device, dtype="float32", compile="default")
    assert generator.identity["acceleration"]["compile"] == "default"
    assert len(generator.identity["acceleration"]["compiled"]) == 2
    difference = np.abs(pixels(generator) - plain(name, device))
    assert difference.max() <= 2
    (alone,) = generator.generate(REQUESTS[:1])  # filled up to four: the size that is compiled
    assert np.abs(alone.image.astype(int) - pixels(generator)[0]).max() <= 1


@pytest.mark.slow
def test_what_is_compiled_runs_through_the_compiler():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.SiLU()).eval()
    x = torch.ones(2, 3, 8, 8)
    expected = network(x)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    told = acceleration.settle({"net": network}, Options("default", True), choose("cpu", "x"), "generator 'x'")
    assert told == {"compile": "default", "compiled": ["net"], "channels_last": ["net"]}
    assert torch.allclose(network(x), expected, atol=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the trial's and the network's


@pytest.mark.slow
def test_without_a_compiler_the_generator_is_refused(tmp_path):
    torch._dynamo.reset()
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.raises(UsageError, match=r"generator 'x': torch cannot compile for cpu here"),
    ):
        acceleration.settle({}, Options("default", False), choose("cpu", "x"), "generator 'x'")


def test_nothing_asked_for_is_nothing_done():
    network = torch.nn.Conv2d(3, 4, 3)
    told = acceleration.settle({"net": network}, Options(False, False), choose("cpu", "x"), "x")
    assert told == {"compile": False, "compiled": [], "channels_last": []}
    assert network.weight.is_contiguous()


@pytest.mark.parametrize("kind", [diffusers.Parameters, transformers.Parameters])
@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"compile": True}, "does not say how"),
        ({"compile": "fast"}, "Invalid enum value 'fast'"),
        ({"batch": 0}, "at least 1, not 0; or 'auto'"),
        ({"batch": "most"}, "Invalid enum value 'most'"),
    ],
)
def test_keys_that_mean_nothing_are_refused(kind, keys, says):
    with pytest.raises(UsageError, match=says):
        config.parameters({"model": "x", **keys}, kind, "generator x")
    assert msgspec.convert({"model": "x", "batch": "auto", "compile": "max-autotune"}, kind).batch == "auto"


def test_compile_and_offload_exclude_each_other():
    with pytest.raises(UsageError, match="exclude each other"):
        config.parameters({"model": "x", "compile": "default", "offload": "model"}, diffusers.Parameters, "generator x")


def test_a_compiled_batch_is_filled_up_to_a_size_that_ran():
    sizes = []

    def make(requests):
        sizes.append(len(requests))
        if len(requests) > 8:
            raise OutOfMemoryError("9 do not fit")
        return [Made(Outcome.OK, reason=request.sample) for request in requests]

    shapes = Shapes()
    requests = [Request(f"s{i}", "", i) for i in range(16)]
    assert [made.reason for made in shapes.run(make, requests[:4])] == ["s0", "s1", "s2", "s3"]
    assert [made.reason for made in shapes.run(make, requests[:3])] == ["s0", "s1", "s2"]
    shapes.run(make, requests[:8])
    shapes.run(make, requests[:5])
    with pytest.raises(OutOfMemoryError):
        shapes.run(make, requests)
    shapes.run(make, requests[:6])
    assert sizes == [4, 4, 8, 8, 16, 8]


class Model:
    """A generator whose calls last as told, by a clock of its own."""

    name, paradigm, batch, identity = "model", "mllm", 0, {}

    def __init__(self, seconds, fits=10**9):
        self.seconds, self.fits, self.now, self.calls = seconds, fits, 0.0, []

    def generate(self, requests):
        self.calls.append(len(requests))
        if len(requests) > self.fits:
            raise OutOfMemoryError("full")
        self.now += self.seconds(len(requests))
        return [Made(Outcome.OK) for _ in requests]

    def close(self):
        pass


@pytest.mark.parametrize(
    ("seconds", "fits", "most", "batch", "last"),
    [
        (lambda n: 1.0, 12, 256, 8, None),  # memory ends
        (lambda n: 1.0, 10**9, 32, 32, 32.0),  # the most that may be
        (lambda n: max(1.0, n / 4), 10**9, 256, 4, 4.0),  # the device is full from 4 on
        (lambda n: 0.1 * n, 10**9, 256, 1, 10.0),  # a CPU: nothing is gained
        (lambda n: 1.0, 0, 256, 1, None),  # not even one
    ],
)
def test_a_batch_is_doubled_until_memory_ends_or_nothing_is_gained(seconds, fits, most, batch, last):
    model = Model(seconds, fits)
    found = batch_search.search(model, REQUESTS, most=most, clock=lambda: model.now)
    assert found.batch == batch
    assert found.trials[-1].per_second == (None if last is None else pytest.approx(last))
    assert [trial.batch for trial in found.trials] == [2**i for i in range(len(found.trials))]


def test_failing_quickly_is_no_speed():
    model = Model(lambda n: 1.0)
    model.generate = lambda requests: [Made(Outcome.FAILED if len(requests) > 2 else Outcome.OK) for _ in requests]
    found = batch_search.search(model, REQUESTS, clock=iter(range(100)).__next__)
    assert found == (2, [(1, 1.0), (2, 2.0), (4, 0.0)])


def test_the_first_call_of_a_size_may_compile():
    model = Model(lambda n: 100.0 if model.calls.count(n) == 1 else 1.0)
    found = batch_search.search(model, REQUESTS, most=8, clock=lambda: model.now)
    assert found.batch == 8
    assert model.calls == [1, 1, 2, 2, 4, 4, 8, 8]


FULL = """
import json, resource, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import test_acceleration as t
from pathlib import Path
from mllmrisk import batch_search, generation, generators
from mllmrisk.records import Prompt
generator = t.load("micro-diffusion", width=128, height=128, steps=1, batch="auto")
assert generator.batch == 0
generator.generate(t.REQUESTS[:1])
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + {room} * (1 << 20),) * 2)
found = batch_search.search(generator, t.REQUESTS, most=64, clock=iter([x * 1e-3 for x in range(1000)]).__next__)
common = generators.Common(name="m", version="1", kind="k", paradigm="diffusion", about="x")
orders = [(Prompt(id="p", text="a red ball", prompt_set="p"), 2 * found.batch)]
chunk = generation.wanted(generators.Described(common, {{}}, Path(), ""), orders, 7, 0)
made, _ = generation._chunk(generator, chunk, found.batch)
print(json.dumps([found.batch, found.trials, [one.outcome.value for one in made]]))
"""


def test_the_search_stops_where_real_memory_ends_and_a_run_with_what_it_found_fits():
    """The process may map 150 MiB more, set by the kernel; images per second are as if every call took as long."""
    code = FULL.format(tests=str(Path(__file__).parent), room=150)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    batch, trials, outcomes = json.loads(done.stdout)
    assert trials[-1] == [2 * batch, None]
    assert 1 < batch < 64
    assert outcomes == ["ok"] * (2 * batch)  # a run with it, which halves it where memory is in pieces


def test_the_command_line_shows_the_batch_the_speed_and_the_trace(tmp_path):
    call = ["--suite", "smoke", "--generator", "micro-mllm", "--limit", "2", "--samples", "1", "--device", "cpu"]
    run = CliRunner()
    shown = run.invoke(generate_command.command, [*call, "--find-batch", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["generator"] == "micro-mllm"
    assert found["batch"] in {trial["batch"] for trial in found["trials"]}
    assert found["trials"][0]["per_second"] > 0
    made = run.invoke(generate_command.command, [*call, "--out", str(tmp_path / "run"), "--trace", "--json"])
    assert made.exit_code == 0, made.output
    cost = json.loads(made.stdout)["costs"]["generate micro-mllm"]
    assert 0 < cost["model_seconds"] <= cost["seconds"]
    names = {event["name"] for event in json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]}
    assert {"generate micro-mllm", "model", "store", "wait"} <= names
    again = run.invoke(generate_command.command, [*call, "--out", str(tmp_path / "run")])
    assert f"generate micro-mllm: {cost['units']:,.0f} images, " in again.stdout
