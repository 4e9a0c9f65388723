"""A torch module as ONNX bytes with a free batch size, and how far the two are apart."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mllmrisk import inference
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.inference import first_line

#: Of every model that is written.
OPSET = 20
#: protobuf cannot hold more than 2 GiB; some room is for the graph itself.
_LARGEST = 2**31 - 2**25
#: Batch sizes at which a graph is compared with its module.
BATCHES = (1, 3)


def convert(module: nn.Module, examples: Mapping[str, Tensor], *, output: str, free: tuple[int, ...] = (0,)) -> bytes:
    """Traces a module into ONNX.

    Args:
        module: in evaluation mode, float32, on the CPU; its `forward` has the inputs' names as parameters.
        examples: at least two rows of each input.
        output: name of the one output.
        free: dimensions of every input that may vary: the batch, and height and width of whole images.

    Raises:
        UsageError: the module cannot be traced, or is larger than an ONNX file can be.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    size = sum(part.numel() * part.element_size() for part in module.state_dict().values())
    if size > _LARGEST:
        raise UsageError(
            f"its weights are {size / 2**30:.1f} GiB; an ONNX file that carries its weights holds less than 2 GiB"
        )
    names = {0: "batch", 2: "height", 3: "width"}
    dimensions = {axis: torch.export.Dim(names.get(axis, f"axis{axis}")) for axis in free}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch's and onnxscript's advice to themselves; the result is compared below
        try:
            program = torch.onnx.export(
                module,
                kwargs=dict(examples),
                dynamo=True,
                dynamic_shapes=dict.fromkeys(examples, dimensions),
                input_names=list(examples),
                output_names=[output],
                opset_version=OPSET,
                verbose=False,
            )
            program.save(buffer)
        except ModuleNotFoundError as missing:
            raise MissingExtraError("writing ONNX", "train,finetune") from missing
        except Exception as wrong:  # torch's exporter raises its own and others' errors
            raise UsageError(f"the module cannot be traced into ONNX: {first_line(wrong)}") from wrong
    return buffer.getvalue()


def logits(module: nn.Module, inputs: Mapping[str, Tensor], batch: int = 8) -> NDArray[np.float64]:
    """(n, columns) outputs of the module itself."""
    count = len(next(iter(inputs.values())))
    with torch.inference_mode():
        parts = [
            module(**{name: values[start : start + batch] for name, values in inputs.items()}).reshape(
                min(batch, count - start), -1
            )
            for start in range(0, count, batch)
        ]
    return torch.cat(parts).double().numpy()


def distance(model: bytes, module: nn.Module, inputs: Mapping[str, Tensor], *, output: str) -> tuple[float, float]:
    """The largest difference of a logit between ONNX on the CPU and torch, absolute and relative.

    Every row is run at batch 1 and at batch 3 (:data:`BATCHES`). Relative is to the largest logit, at least 0.01.
    """
    session: Any = inference.open_session(model, what="the exported model", device="cpu").session
    wanted = logits(module, inputs)
    arrays = {name: values.numpy() for name, values in inputs.items()}
    count, apart = len(wanted), 0.0
    for batch in BATCHES:
        for start in range(0, count, batch):
            rows = [i % count for i in range(start, start + batch)]
            (found,) = session.run([output], {name: values[rows] for name, values in arrays.items()})
            difference = np.abs(np.asarray(found, dtype=np.float64).reshape(batch, -1) - wanted[rows])
            apart = max(apart, float(np.nan_to_num(difference, nan=np.inf).max()))
    return apart, apart / max(float(np.abs(wanted).max()), 0.01)
