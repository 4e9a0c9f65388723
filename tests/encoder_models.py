"""A tiny ONNX encoder, for the tests of encoders and probes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: What every encoder's TOML says.
HEAD = {"name": "x", "about": "a", "licence": "l", "citation": "c"}


def tower(path: Path, batch: int | str = "n", out: str = "vectors") -> dict[str, str]:
    """An ONNX encoder whose quantisation takes one scale from the whole batch, as dynamic quantisation does."""
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(3 * 32 * 32, 6)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["rounded"]),
        helper.make_node("MatMul", ["rounded", "weights"], ["vectors"]),
        helper.make_node("Neg", ["vectors"], ["other"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tower",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 6]) for name in ("vectors", "other")],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "output": out}
