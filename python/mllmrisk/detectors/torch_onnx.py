"""A torch module as ONNX bytes with a free batch size, and how far the two are apart."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mllmrisk import inference
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.inference import first_line

#: Of every model that is written.
OPSET = 20
#: protobuf cannot hold more than 2 GiB; some room is for the graph itself.
_LARGEST = 2**31 - 2**25
#: Batch sizes at which a graph is compared with its module.
BATCHES = (1, 3)


def convert(
    module: nn.Module, examples: Mapping[str, Tensor], *, outputs: Sequence[str], free: Mapping[str, Sequence[int]]
) -> bytes:
    """Traces a module into ONNX.

    Args:
        module: in evaluation mode, float32, on the CPU; its `forward` has the inputs' names as parameters.
        examples: at least two rows of each input.
        outputs: names for what it returns, in order.
        free: dimensions that may vary, by input: the batch, and height and width of whole images.

    Raises:
        UsageError: the module cannot be traced, or is larger than an ONNX file can be.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    if too_large(module):
        raise UsageError("its weights are too many: an ONNX file that carries its weights holds less than 2 GiB")
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch's and onnxscript's advice to themselves; the result is compared below
        try:
            program = torch.onnx.export(
                module,
                kwargs=dict(examples),
                dynamo=True,
                dynamic_shapes={name: dict.fromkeys(free[name], torch.export.Dim.DYNAMIC) for name in examples},
                input_names=list(examples),
                output_names=list(outputs),
                opset_version=OPSET,
                verbose=False,
            )
            program.save(buffer)
        except ModuleNotFoundError as missing:
            raise MissingExtraError("writing ONNX", "train,finetune") from missing
        except Exception as wrong:  # torch's exporter raises its own and others' errors
            raise UsageError(f"the module cannot be traced into ONNX: {first_line(wrong)}") from wrong
    return buffer.getvalue()


def too_large(module: nn.Module) -> bool:
    """Whether its weights do not fit into one ONNX file."""
    return sum(part.numel() * part.element_size() for part in module.state_dict().values()) > _LARGEST


class _Widened(nn.Module):
    """A weight of 16 bits as one of 32: arithmetic stays as it was."""

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape."""
        return weight.float()


def halve(module: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """Keeps matrices and kernels in float16, in place; they are computed with in float32.

    Returns:
        The largest change of an output on `inputs`, relative to the largest number of that output.
    """
    before = answers(module, inputs)
    for part in list(module.modules()):
        if isinstance(part, nn.Linear | nn.Conv2d):
            weight = part.weight
            weight.data = weight.data.half()
            parametrize.register_parametrization(part, "weight", _Widened(), unsafe=True)
    after = answers(module, inputs)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 0.01)) for a, b in zip(after, before, strict=True))


def answers(module: nn.Module, inputs: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """What the module itself returns, one array per output."""
    with torch.inference_mode():
        found = module(**{name: torch.as_tensor(values) for name, values in inputs.items()})
    return [part.double().numpy() for part in (found if isinstance(found, tuple) else (found,))]


def distance(
    model: bytes, module: nn.Module, inputs: Mapping[str, Tensor], *, outputs: Sequence[str]
) -> tuple[float, float]:
    """The largest difference of an output between ONNX on the CPU and torch, absolute and relative.

    Every row is run at batch 1 and at batch 3 (:data:`BATCHES`). Relative is to the largest number of that output, at
    least 0.01.
    """
    session: Any = inference.open_session(model, what="the exported model", device="cpu").session
    count = max(len(values) for values in inputs.values())
    apart, largest = np.zeros(len(outputs)), np.full(len(outputs), 0.01)
    for batch in BATCHES:
        for start in range(0, count, batch):
            rows = np.arange(start, start + batch)
            part = {name: values[rows % len(values)] for name, values in inputs.items()}
            found = session.run(list(outputs), {name: values.numpy() for name, values in part.items()})
            for i, (ours, theirs) in enumerate(zip(found, answers(module, part), strict=True)):
                difference = np.abs(np.asarray(ours, dtype=np.float64) - theirs)
                apart[i] = max(apart[i], float(np.nan_to_num(difference, nan=np.inf).max()))
                largest[i] = max(largest[i], float(np.abs(theirs).max()))
    return float(apart.max()), float((apart / largest).max())
