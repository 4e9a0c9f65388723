"""The worker scripts: the example conforms; those for research repositories say what is missing where it is."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mllmrisk import config, generators, images
from mllmrisk.cli.main import main
from mllmrisk.errors import OutOfMemoryError, UsageError
from mllmrisk.generators import conformance
from mllmrisk.generators.base import Common
from mllmrisk.generators.command import Command
from mllmrisk.generators.conformance import Finding, examine
from mllmrisk.generators.launch import Parameters
from mllmrisk.generators.openai import OpenAI

ROOT = Path(__file__).parents[2]
WORKERS = ROOT / "workers"
RESEARCH = {"bagel.py": "bagel", "tokenflow.py": "tokenflow", "vila_u.py": "vila-u", "show_o.py": "show-o"}
API = [name for name in config.names("generators") if generators.describe(name).common.kind == "openai"]
HEAVY = {"torch", "numpy", "PIL", "transformers", "accelerate", "omegaconf", "cv2", "vila_u", "llava_t2i"}


def findings(*script: str) -> dict[str, Finding]:
    return {found.name: found for found in examine(" ".join((sys.executable, *script)))}


def script(tmp_path: Path, body: str) -> str:
    """A worker script whose class `Painter` has this body."""
    lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
    path = tmp_path / "worker.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(WORKERS)!r})\nimport mllmrisk_worker as base\n"
        "class Painter:\n"
        "    hello = {'name': 'test/1', 'model': 'm', 'revision': 'r', 'arguments': {'a': 1}, 'batch': 4}\n"
        "    def __init__(self, arguments, device):\n        pass\n"
        "    def plain(self, seed, level=0):\n"
        "        return base.Pixels(8, 8, bytes([seed % 251, level, 0]) * 64)\n"
        f"{lines}\n"
        "base.serve(Painter)\n"
    )
    return str(path)


def test_the_example_conforms(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--worker", f"{sys.executable} {WORKERS / 'echo.py'}"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert told["healthy"] is True
    states = {check["name"]: check["state"] for check in told["checks"]}
    names = ["hello", "identity", "image", "seed", "other seed", "batch", "empty prompt", "unicode", "stdout", "bye"]
    assert states == dict.fromkeys(names, "ok")


def test_a_worker_that_ignores_the_seed_is_broken_and_one_that_is_random_is_told(tmp_path: Path):
    fixed = findings(script(tmp_path, "def draw(self, prompt, seed): return self.plain(7)"))
    assert fixed["seed"].state == "ok"
    assert fixed["other seed"].state == "broken"
    assert fixed["other seed"].cure
    loose = findings(
        script(
            tmp_path, "def draw(self, prompt, seed):\n    import time\n    return self.plain(time.time_ns() // 1000)"
        )
    )
    assert loose["seed"].state == "info"
    assert "cannot be made again" in loose["seed"].detail


def test_a_batch_that_differs_from_singles_is_measured(tmp_path: Path):
    body = "def draw_all(self, prompts, seeds): return [self.plain(s, 3 * (len(seeds) > 1)) for s in seeds]"
    found = findings(script(tmp_path, body))
    assert found["batch"].state == "info"
    assert "up to 3 of 255" in found["batch"].detail


def test_a_worker_that_dies_of_a_prompt_is_broken(tmp_path: Path):
    found = findings(
        script(
            tmp_path,
            "def draw(self, prompt, seed):\n    import os\n    return self.plain(seed) if prompt else os._exit(5)",
        )
    )
    assert found["image"].state == "ok"
    assert found["empty prompt"].state == "broken"
    assert found["unicode"].state == "ok"


def test_a_worker_that_lies_gets_the_cure(tmp_path: Path):
    body = """
def draw(self, prompt, seed): return self.plain(seed)
"""
    path = Path(script(tmp_path, body))
    path.write_text(
        path.read_text().replace("base.serve", "base._pixels = lambda p: base.Pixels(9, 9, b'0' * 243)\nbase.serve")
    )
    ok = findings(str(path))
    assert ok["image"].detail.startswith("9 x 9")
    path.write_text(path.read_text().replace("base.serve", "base.write_png = lambda path, pixels: None\nbase.serve"))
    lying = findings(str(path))
    assert lying["image"].state == "broken"
    assert lying["image"].cure == "write the file before its outcome is sent"


def test_the_base_keeps_prints_off_the_protocol_and_turns_exceptions_into_outcomes(tmp_path: Path):
    body = """
def draw(self, prompt, seed):
    import os
    print("a print")
    os.write(1, b"a print in C\\n")
    if prompt == "no": raise base.DeclinedError("not_this", rule="7")
    if prompt == "hidden": raise base.DeclinedError("own_filter", outcome="filtered")
    if prompt == "bug": raise ValueError("shape\\nmismatch")
    if prompt == "memory": raise RuntimeError("CUDA out of memory. Tried to allocate")
    if prompt == "array": return __import__("numpy").full((2, 5, 3), 9, "uint8")
    if prompt == "picture": return __import__("PIL.Image").Image.new("L", (6, 4), 200)
    if prompt == "floats": return __import__("numpy").zeros((2, 5, 3))
    return self.plain(seed)
"""
    common = Common(name="t", version="1", kind="command", paradigm="mllm", about="t")
    command = Command(common, Parameters(command=[sys.executable, script(tmp_path, body)]), tmp_path)
    try:
        ask = ["no", "hidden", "bug", "array", "picture", "floats", "fine"]
        made = command.generate([generators.base.Request(p, p, 1) for p in ask])
        told = [(m.outcome.value, m.reason, m.facts) for m in made]
        assert told[0] == ("refused", "not_this", {"rule": "7"})
        assert told[1] == ("filtered", "own_filter", None)
        assert told[2] == ("failed", "ValueError", {"error": "shape mismatch"})
        assert told[5][:2] == ("failed", "TypeError")
        assert [images.decode(made[i].image).shape for i in (3, 4, 6)] == [(2, 5, 3), (4, 6, 3), (8, 8, 3)]
        assert images.decode(made[4].image)[0, 0].tolist() == [200, 200, 200]
        assert command.strays == 0
        with pytest.raises(OutOfMemoryError, match="out of memory"):
            command.generate([generators.base.Request("m", "memory", 1)])
    finally:
        command.close()


def test_a_batch_with_a_bad_prompt_costs_that_prompt_only(tmp_path: Path):
    body = """
def draw_all(self, prompts, seeds):
    if "bad" in prompts: raise ValueError("bad")
    return [self.plain(seed) for seed in seeds]
"""
    common = Common(name="t", version="1", kind="command", paradigm="mllm", about="t")
    command = Command(common, Parameters(command=[sys.executable, script(tmp_path, body)]), tmp_path)
    try:
        made = command.generate([generators.base.Request(p, p, 1) for p in ("a", "bad", "b")])
        assert [m.outcome.value for m in made] == ["ok", "failed", "ok"]
    finally:
        command.close()


def test_a_worker_ends_when_its_parent_is_gone(tmp_path: Path):
    """Also in the middle of an image: nobody would take it."""
    body = "def draw(self, prompt, seed):\n    import time\n    time.sleep(60)"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, script(tmp_path, body)], stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"type":"hello","protocol":1,"folder":"/","device":"cpu","arguments":{}}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["type"] == "hello"
    process.stdin.write(b'{"type":"generate","requests":[{"id":"1","prompt":"a","seed":1,"path":"/x.png"}]}\n')
    process.stdin.close()
    process.stdin = None
    assert process.wait(10) == 3
    process.communicate()


@pytest.mark.parametrize("name", sorted(path.name for path in WORKERS.glob("*.py")))
def test_worker_scripts_need_an_old_python_and_nothing_else_to_start(name: str):
    tree = ast.parse((WORKERS / name).read_text(encoding="utf-8"), feature_version=(3, 8))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {(a.name if isinstance(n, ast.Import) else n.module or "").split(".")[0] for n in top for a in n.names}
    assert not roots & HEAVY
    assert roots <= set(sys.stdlib_module_names) | {"mllmrisk_worker"}


@pytest.mark.parametrize("name", sorted(RESEARCH))
def test_without_its_repository_a_research_worker_says_what_to_do(name: str, tmp_path: Path):
    """The TOML that comes with the package, on a folder that is no checkout, and then for a CPU."""
    described = generators.describe(RESEARCH[name])
    table = {**described.parameters, "python": sys.executable, "cwd": str(tmp_path)}
    table["arguments"] = {key: str(tmp_path / "weights") for key in table.get("arguments", {})}
    with pytest.raises(UsageError, match=r"no .+ in .+: clone https://github\.com/.+ environment of its own") as wrong:
        generators.load(described._replace(parameters=table))
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("name", sorted(RESEARCH.values()))
def test_a_packaged_worker_names_the_variable_that_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable in [key for key in os.environ if key.endswith(("_HOME", "_PYTHON"))]:
        if variable.startswith(("BAGEL", "VILAU", "TOKENFLOW", "SHOWO")):
            monkeypatch.delenv(variable)
    with pytest.raises(UsageError, match=r"set the environment variable [A-Z]+_HOME, which its TOML names"):
        generators.load(generators.describe(name))


def test_research_workers_refuse_a_cpu(tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "modeling_showo.py").touch()
    common = Common(name="t", version="1", kind="command", paradigm="mllm", about="t")
    parameters = Parameters(command=[sys.executable, str(WORKERS / "show_o.py")], cwd=str(tmp_path))
    with pytest.raises(UsageError, match="runs on an NVIDIA GPU only"):
        Command(common, parameters, tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widht": 5}, "no argument 'widht'; it has height, refuse, stripe, width"),
        ({"width": "5"}, "argument 'width' is a int, not '5'"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str, tmp_path: Path):
    common = Common(name="t", version="1", kind="command", paradigm="mllm", about="t")
    parameters = Parameters(command=[sys.executable, str(WORKERS / "echo.py")], arguments=arguments)
    with pytest.raises(UsageError, match=message):
        Command(common, parameters, tmp_path)


@pytest.mark.parametrize("name", API)
def test_packaged_api_generators_load_and_tell_where_a_price_comes_from(name: str, monkeypatch: pytest.MonkeyPatch):
    described = generators.describe(name)
    monkeypatch.setenv(described.parameters.get("key_env") or "OPENAI_API_KEY", "sk-test-nothing")
    generator = generators.load(described)
    assert isinstance(generator, OpenAI)
    generator.close()
    if described.common.usd is not None:
        assert "20" in described.common.basis or "while it was sold" in described.common.basis


def test_what_is_no_worker_is_a_usage_error():
    with pytest.raises(UsageError, match="'openai', not 'command'"):
        conformance.worker("gpt-image-2")
    with pytest.raises(UsageError, match="no such file"):
        conformance.worker("nowhere/x.toml")
    with pytest.raises(UsageError, match="--worker"):
        conformance.worker(" ")


def test_the_session_in_the_docs_is_what_the_example_says(tmp_path: Path):
    lines = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8").splitlines()
    sent = [line[2:].replace("/tmp/w", str(tmp_path)) for line in lines if line.startswith('> {"type"')]
    told = [json.loads(line[2:].replace("/tmp/w", str(tmp_path))) for line in lines if line.startswith("< {")]
    assert len(sent) == 3
    done = subprocess.run(
        [sys.executable, str(WORKERS / "echo.py")],
        input="\n".join(sent) + "\n",
        text=True,
        capture_output=True,
        check=True,
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    told[0]["versions"] = said[0]["versions"]
    assert said == told
    assert images.decode(tmp_path / "1.png").shape == (32, 32, 3)


@pytest.mark.parametrize(("page", "kind"), [("workers.md", "command"), ("api-generators.md", "openai")])
def test_the_toml_in_the_docs_is_one_that_loads(page: str, kind: str, tmp_path: Path):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mine.toml").write_text(text)
    described = generators.describe(str(tmp_path / "mine.toml"))
    assert described.common.kind == kind
    accepts = {"command": Parameters, "openai": OpenAI.accepts}[kind]
    config.parameters(described.parameters, accepts, page)
    undocumented = {name for name in accepts.__struct_fields__ if name not in described.parameters} - {"max_bytes"}
    assert not undocumented
