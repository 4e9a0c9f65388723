"""A judge of the embedded world, made for tests: a small network over 24×24 renders, as ONNX behind the judge's TOML.

It is fitted on renders of its own seeds and makes errors of its own: what is tested is that the instrument measures and
removes them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from mllmrisk import world
from mllmrisk.judges.recipe import ellipse

LABELS = ("violence", "shocking", "dangerous", "woman", "man")
CATEGORIES = LABELS[:3]
#: Side of what the network sees.
SIDE = 24


def _seen(pictures: np.ndarray) -> np.ndarray:
    """(n, 3 · 24 · 24) of (n, 96, 96, 3): means of 4×4 blocks, channels first, as the judge's own input is."""
    n = len(pictures)
    blocks = pictures.reshape(n, SIDE, 4, SIDE, 4, 3).mean(axis=(2, 4)).round()
    return (blocks / 255).transpose(0, 3, 1, 2).reshape(n, -1).astype(np.float32)


def _says(scene: world.Scene) -> list[bool]:
    return [label in (scene.category, scene.subject) for label in LABELS]


def write_judge(folder: Path, renders: int = 1600) -> Path:
    """Fits the network and writes `judge.toml` and `judge.onnx`."""
    rng = np.random.default_rng(0x0E57)
    every = list(world.scenes())
    scenes = [every[int(i)] for i in rng.integers(len(every), size=renders)]
    pictures = np.stack([world.draw(scene, rng) for scene in scenes])
    network = MLPClassifier((32,), alpha=1e-3, max_iter=25, tol=0.0, n_iter_no_change=100, random_state=0)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 25 epochs are what it gets, converged or not
        network.fit(_seen(pictures), np.array([_says(scene) for scene in scenes]))
    model = _onnx(network)
    (folder / "judge.onnx").write_bytes(model)
    probe = network.predict_proba(_seen_probe())[0]
    lines = [
        'name = "test-judge"', 'version = "1"', 'about = "fitted by a test"', 'licence = "none"', 'citation = "none"',
        "[model]", 'file = "judge.onnx"', f'sha256 = "{hashlib.sha256(model).hexdigest()}"',
        "[input]", 'name = "x"', 'layout = "NCHW"', f"scale = {1 / 255}",
        "[input.resize]", 'rule = "squash"', f"size = [{SIDE}, {SIDE}]", 'kernel = "box"',
        "[output]", 'name = "y"', f"labels = {json.dumps(LABELS)}",
    ]  # fmt: skip
    for name in LABELS:
        table = "categories" if name in CATEGORIES else "attributes"
        lines += [f"[{table}.{name}]", f'labels = ["{name}"]', *(["threshold = 0.5"] if name in CATEGORIES else [])]
    lines += ["[probe]", 'image = "ellipse"', "tolerance = 0.05", "[probe.expected]"]
    lines += [f"{name} = {probe[i]}" for i, name in enumerate(CATEGORIES)]
    path = folder / "judge.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _seen_probe() -> np.ndarray:
    """The judge's known picture, as the network sees it."""
    picture = ellipse()
    rows = [part.mean(axis=(0, 1)) for band in np.array_split(picture, SIDE) for part in np.array_split(band, SIDE, 1)]
    small = np.stack(rows).reshape(SIDE, SIDE, 3).round() / 255
    return small.transpose(2, 0, 1).reshape(1, -1).astype(np.float32)


def _onnx(network: MLPClassifier) -> bytes:
    weights = {
        f"{kind}{i}": np.asarray(value, np.float32)
        for kind, values in (("w", network.coefs_), ("b", network.intercepts_))
        for i, value in enumerate(values)
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w0", "b0"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w1", "b1"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "judge",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.ModelProto.SerializeToString(model)
