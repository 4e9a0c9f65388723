"""A trained network as an ONNX file with its recipe: exported, proved against torch, asked for its known answers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from mllmrisk import inference
from mllmrisk.detectors.finetuning.calibrate import Calibration
from mllmrisk.detectors.finetuning.networks import Calibrated
from mllmrisk.detectors.finetuning.recipe import Backbone
from mllmrisk.errors import MllmriskError
from mllmrisk.extras import optional

#: Names of the graph's input and output.
INPUT, OUTPUT = "pixel_values", "logit"
#: How far onnxruntime may be from torch, absolute and relative; float32 sums in another order differ by less.
TOLERANCE = 1e-3
#: How far another machine's answer to a known question may be.
_PROBE_TOLERANCE = 0.02
#: The pictures of the known-answer pair.
_PROBES = ("ellipse", "grain")
_OPSET = 20


def to_onnx(module: Any, calibration: Calibration, rows: NDArray[np.float32]) -> bytes:
    """The network and its calibration as an ONNX model: `pixel_values` (batch, 3, h, w) to `logit` (batch, 1).

    Args:
        module: the trained network, on the CPU.
        calibration: fitted on its logits.
        rows: at least two rows of real images; the model is proved on them, all at once and one alone.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
        MllmriskError: onnxruntime does not compute what torch computes.
    """
    for package in ("onnx", "onnxscript"):
        optional(package, "exporting a trained network", "finetune")
    whole = Calibrated(module, calibration).eval()
    example = torch.from_numpy(rows[:2])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            whole,
            (example,),
            dynamo=True,
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=_OPSET,
            verbose=False,
        )
        data: bytes = program.model_proto.SerializeToString()
        expected = whole(torch.from_numpy(rows)).numpy()
    _prove(data, rows, expected)
    return data


def _prove(data: bytes, rows: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    session = inference.open_session(data, what="the exported network", device="cpu").session
    for part in (slice(None), slice(0, 1)):
        (got,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(rows[part])})
        if got.shape != expected[part].shape or not np.allclose(got, expected[part], TOLERANCE, TOLERANCE):
            far = float(np.abs(got - expected[part]).max()) if got.shape == expected[part].shape else float("nan")
            raise MllmriskError(f"the exported network does not compute what torch computes: off by {far:g}")


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter writes its steps and advice to stdout, to a log and as warnings; errors are still raised."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of torch, onnxscript and onnx, a dozen kinds that change by version
            yield
    finally:
        log.setLevel(level)
