"""Tiny networks as ONNX detectors, with their answers by NumPy: the path of published weights in milliseconds."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mllmrisk.detectors import card
from mllmrisk.detectors import onnx as detectors_onnx
from mllmrisk.records import Score

CHANNELS = 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def weights(columns: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Of a 3×3 convolution and a linear layer on its means."""
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(0, 0.6, (CHANNELS, 3, 3, 3)).astype(np.float32),
        "linear": rng.normal(0, 1.5, (CHANNELS, columns)).astype(np.float32),
        "bias": rng.normal(0, 0.5, columns).astype(np.float32),
    }


def network(
    columns: int = 1,
    *,
    seed: int = 0,
    batch: int | str = "n",
    output: str = "pooled",
    layout: str = "NCHW",
    names: tuple[str, str] = ("pixel_values", "logits"),
) -> bytes:
    """Convolution and ReLU, then what `output` says.

    `pooled`: mean and linear layer, (n, columns); `map`: a logit per pixel, (n, 1, h, w); `embedding`: the means,
    (n, CHANNELS).
    """
    parts = weights(columns, seed)
    image = [batch, 3, "h", "w"] if layout == "NCHW" else [batch, "h", "w", 3]
    first = "planes" if layout == "NHWC" else names[0]
    nodes = [] if layout == "NCHW" else [helper.make_node("Transpose", [names[0]], ["planes"], perm=[0, 3, 1, 2])]
    nodes += [
        helper.make_node("Conv", [first, "kernel"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["positive"]),
    ]
    if output == "map":
        parts["kernel1"] = parts.pop("linear").T[:, :, None, None].copy()
        nodes.append(helper.make_node("Conv", ["positive", "kernel1", "bias"], [names[1]]))
        shape: list[Any] = [batch, 1, "h", "w"]
    else:
        nodes += [
            helper.make_node("GlobalAveragePool", ["positive"], ["means"]),
            helper.make_node("Flatten", ["means"], [names[1] if output == "embedding" else "flat"]),
        ]
        shape = [batch, CHANNELS if output == "embedding" else columns]
        if output == "pooled":
            nodes.append(helper.make_node("Gemm", ["flat", "linear", "bias"], [names[1]]))
        else:
            del parts["linear"], parts["bias"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in parts.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model.SerializeToString()


def means(planes: np.ndarray, seed: int = 0, columns: int = 1) -> np.ndarray:
    """(CHANNELS,) what the network's pooling gives for one input (3, h, w), by shifts and sums."""
    padded = np.pad(planes.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    height, width = planes.shape[1:]
    kernel = weights(columns, seed)["kernel"].astype(np.float64)
    total = np.zeros((CHANNELS, height, width))
    for dy in range(3):
        for dx in range(3):
            total += np.einsum("oc,chw->ohw", kernel[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width])
    return np.maximum(total, 0).mean(axis=(1, 2))


def logits(planes: np.ndarray, columns: int = 1, seed: int = 0) -> np.ndarray:
    """(columns,) the network's answer for one input (3, h, w)."""
    parts = weights(columns, seed)
    return means(planes, seed, columns) @ parts["linear"].astype(np.float64) + parts["bias"]


def planes(pixels: np.ndarray, size: int = 32) -> np.ndarray:
    """(3, size, size) squashed by Pillow's bilinear kernel and normalised, as :func:`recipe` asks for."""
    small = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR), np.float64) / 255
    return ((small - MEAN) / STD).transpose(2, 0, 1)


def recipe(name: str = "tiny", **tables: dict[str, Any]) -> dict[str, Any]:
    """The TOML of a tiny detector as a table; keyword arguments change keys of its tables."""
    table: dict[str, Any] = {
        "name": name,
        "version": "1",
        "about": "a tiny network",
        "licence": "CC0",
        "citation": "none",
        "trained_on": "nothing, random weights",
        "input": {
            "name": "pixel_values",
            "crop_mode": "squash",
            "size": [32, 32],
            "interpolation": "bilinear",
            "mean": list(MEAN),
            "std": list(STD),
        },
        "output": {"name": "logits", "kind": "logit1"},
        "threshold": {"value": 0.25, "means": "a quarter of a logit"},
    }
    for key, changes in tables.items():
        table[key] = {**table.get(key, {}), **changes}
        table[key] = {name: value for name, value in table[key].items() if value is not None}
    return table


def write(folder: Path, model: bytes, table: dict[str, Any], *, answered: bool = True, **card_of: Any) -> Path:
    """A detector on disk as the exporters write one: `NAME.onnx` with its card and `NAME.toml`; the TOML's path."""
    if answered:
        table = {**table, "probe": detectors_onnx.known_answers(model, table, tolerance=1e-3)}
    data = card.write(model, table, training=card_of.pop("training", {}), **card_of)
    return card.save(folder / f"{table['name']}.onnx", data, table)


def pixels(seed: int, height: int = 60, width: int = 84) -> np.ndarray:
    """Smooth random colours: resizing leaves something to see."""
    small = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def png(image: np.ndarray) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Outside:
    """What an outside package registers: no TOML, no argument, no `decision`."""

    def __init__(self) -> None:
        self.name, self.version, self.seen = "theirs", "1", frozenset[str]()
        self.thresholds: dict[float, float] = {}

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """The length of the file."""
        return [Score(float(len(image if isinstance(image, bytes) else image.read_bytes()))) for image in images]
