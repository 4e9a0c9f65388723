"""Where and in what precision a torch model runs: asked for by name, verified, recorded."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, NamedTuple

from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.inference import first_line, parse_device

Precision = Literal["float32", "bfloat16", "float16"]


class Device(NamedTuple):
    """A device that computes.

    Attributes:
        name: as torch writes it: `cpu`, `cuda:0`.
        model: of the hardware, for the record: `NVIDIA H100 80GB HBM3`.
    """

    name: str
    model: str

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.name.startswith("cuda")


def choose(device: str, what: str) -> Device:
    """The device that was asked for, once it has computed something.

    Args:
        device: `auto` takes CUDA where torch has it, `cuda[:INDEX]` insists on it.
        what: who asks, for messages: `generator 'sdxl'`.

    Raises:
        MissingExtraError: torch is not installed.
        UsageError: no such device here.
    """
    kind, index = parse_device(device)
    torch = optional("torch", what, "gen")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cpu" or (kind == "auto" and there == 0):
        return Device("cpu", platform.processor() or platform.machine())
    if index >= there:
        has = f"torch sees {there} CUDA devices" if there else "torch finds no CUDA device"
        raise UsageError(f"{what}: {device} was asked for, and {has} here; use --device cpu")
    name = f"cuda:{index}"
    try:
        computed = float((torch.ones(2, device=name) * 2).sum())
    except RuntimeError as wrong:
        raise UsageError(f"{what}: {name} does not compute: {first_line(wrong)}") from wrong
    if computed != 4.0:
        raise UsageError(f"{what}: {name} computes wrong results: 2 + 2 = {computed}")
    return Device(name, torch.cuda.get_device_name(index))


def precision(dtype: Literal["auto"] | Precision, on_cuda: Precision, device: Device) -> Precision:
    """`auto` is float32 on a CPU and `on_cuda` on a GPU; anything else is itself."""
    if dtype != "auto":
        return dtype
    return on_cuda if device.cuda else "float32"


def versions(*packages: str) -> dict[str, str]:
    """Versions of what makes the images; a package that is not there is left out.

    The CUDA version is the one that torch was built for.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    torch: Any = optional("torch", "a generator", "gen")
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found
