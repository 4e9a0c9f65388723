"""A trained network as an ONNX file with its recipe: exported, proved against torch, asked for its known answers."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from mllmrisk.detectors import torch_onnx
from mllmrisk.detectors.finetuning.calibrate import Calibration
from mllmrisk.detectors.finetuning.networks import Calibrated
from mllmrisk.detectors.finetuning.recipe import Backbone
from mllmrisk.errors import MllmriskError

#: Names of the graph's input and output.
INPUT, OUTPUT = "pixel_values", "logit"
#: How far onnxruntime may be from torch, absolute or relative to the largest logit: sums in another order differ less.
TOLERANCE = 1e-3
#: How far another machine's answer to a known question may be.
_PROBE_TOLERANCE = 0.02
#: The pictures of the known-answer pair.
_PROBES = ("ellipse", "grain")


def to_onnx(module: Any, calibration: Calibration, rows: NDArray[np.float32]) -> bytes:
    """The network and its calibration as an ONNX model: `pixel_values` (batch, 3, h, w) to `logit` (batch, 1).

    Args:
        module: the trained network, on the CPU.
        calibration: fitted on its logits.
        rows: at least two rows of real images; the model is proved on them.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        UsageError: the network cannot be traced, or is larger than an ONNX file can be.
        MllmriskError: onnxruntime does not compute what torch computes.
    """
    whole = Calibrated(module, calibration).eval()
    inputs = {INPUT: torch.from_numpy(rows)}
    data = torch_onnx.convert(whole, {INPUT: inputs[INPUT][:2]}, outputs=[OUTPUT], free={INPUT: [0]})
    prove(data, whole, inputs)
    return data


def prove(data: bytes, whole: Any, inputs: dict[str, Any]) -> None:
    """Compares the exported network with torch's, row by row, at two sizes of a batch.

    Raises:
        MllmriskError: onnxruntime does not compute what torch computes.
    """
    apart, relative = torch_onnx.distance(data, whole, inputs, outputs=[OUTPUT])
    if min(apart, relative) > TOLERANCE:
        raise MllmriskError(f"the exported network does not compute what torch computes: off by {apart:g}")


def table(
    backbone: Backbone, data: bytes, *, chain: str, trained_on: str, thresholds: dict[str, float]
) -> dict[str, Any]:
    """The detector's recipe, as its TOML has it.

    Args:
        backbone: what was trained.
        data: the ONNX model, which is asked for its known answers.
        chain: the view of the training: the perturbation chain before the input.
        trained_on: in words, with the format of the files.
        thresholds: logit from which an image is called fake, by false-alarm rate.
    """
    from mllmrisk.detectors.onnx import known_answers

    how = msgspec.to_builtins(backbone.input)
    made = {
        "name": f"finetune-{backbone.name}",
        "kind": "onnx",
        "version": backbone.version,
        "about": f"Fine-tuned by mllmrisk ({backbone.mode}): {backbone.about}",
        "licence": backbone.licence or "its owner's",
        "restrictions": backbone.restrictions,
        "citation": backbone.citation or "docs/finetune.md",
        "trained_on": trained_on,
        "chain": chain,
        "input": {"name": INPUT, **{key: value for key, value in how.items() if value is not None}},
        "output": {"name": OUTPUT, "kind": "logit1"},
        "threshold": {"value": 0.0, "means": "probability 0.5 where real and generated are equally frequent"},
        "thresholds": thresholds,
    }
    return {**made, "probe": known_answers(data, made, _PROBES, tolerance=_PROBE_TOLERANCE)}
