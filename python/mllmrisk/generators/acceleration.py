"""What makes a torch model faster without another result by intention: compiled kernels, and channels in the last axis.

Both move pixels in the last bit, so that both are part of a generator's identity. torch is imported inside functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Made, Request
from mllmrisk.generators.torch_device import Device
from mllmrisk.inference import first_line

#: torch's own names. Those without `no-cudagraphs`, but for `default`, replay CUDA graphs.
Mode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class Options(NamedTuple):
    """What a TOML asks for.

    Attributes:
        compile: mode of `torch.compile`, or False.
        channels_last: whether convolutions are laid out with channels last.
    """

    compile: bool | Mode
    channels_last: bool


def check(compile_: object, batch: int | str) -> None:
    """Refuses what a TOML cannot mean.

    Raises:
        ValueError: shown as the TOML's error.
    """
    if compile_ is True:
        raise ValueError("compile = true does not say how: 'default', 'max-autotune', ...; or false")
    if isinstance(batch, int) and batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}; or 'auto'")


def settle(networks: Mapping[str, Any], options: Options, device: Device, what: str) -> dict[str, Any]:
    """Lays out and compiles networks in place.

    Compiled code is made at the first call with a shape, for minutes where it is tuned; that there is a compiler at
    all is found out here.

    Args:
        networks: torch modules by name, on their device and in evaluation mode: those where a generator's time goes.
        options: what is asked for.
        device: theirs.
        what: whose they are, for messages.

    Returns:
        For the identity: the mode, and which networks it and the layout concern.

    Raises:
        UsageError: torch cannot compile for this device here.
    """
    import torch

    laid_out = []
    if options.channels_last:
        for name, network in networks.items():
            if any(isinstance(part, torch.nn.Conv2d) for part in network.modules()):
                network.to(memory_format=torch.channels_last)
                laid_out.append(name)
    if options.compile:
        _prove(device, what)
        for network in networks.values():
            network.compile(mode=options.compile)
    return {
        "compile": options.compile,
        "compiled": list(networks) if options.compile else [],
        "channels_last": laid_out,
    }


def _prove(device: Device, what: str) -> None:
    """Compiles and runs `2 x + 1`: without a compiler every image would fail, and only then."""
    import torch

    try:
        found = torch.compile(_line)(torch.ones(4, device=device.name))
    except Exception as wrong:  # of dynamo, inductor, triton or the C++ compiler: no common base
        raise UsageError(f"{what}: torch cannot compile for {device.name} here: {first_line(wrong)}") from wrong
    if found.tolist() != [3.0] * 4:
        raise UsageError(f"{what}: compiled code computes wrong results on {device.name}")


def _line(x: Any) -> Any:
    return 2 * x + 1


class Shapes:
    """Batch sizes that a compiled model has run with: a smaller batch is filled up to one of these.

    What fills it is the last request again, and is thrown away; another size would be compiled anew.
    """

    def __init__(self) -> None:
        """None yet."""
        self._known: set[int] = set()

    def run(self, make: Callable[[Sequence[Request]], list[Made]], requests: Sequence[Request]) -> list[Made]:
        """What `make` gives for the requests alone; raises what it raises, and then fills up no more to that size."""
        asked = len(requests)
        size = min((known for known in self._known if known >= asked), default=asked)
        try:
            made = make([*requests, *[requests[-1]] * (size - asked)])
        except BaseException:
            self._known = {known for known in self._known if known < asked}
            raise
        self._known.add(size)
        return made[:asked]
