"""A fitted head on the embeddings of a frozen encoder: kept alone in a run, grown onto its encoder to be carried away.

A head is an ONNX model of a few kilobytes, `embedding` (n, d) float32 → `logit` (n, 1) float32, that says which encoder
it belongs to. :func:`grown` makes one self-contained ONNX model of both: pixels → logit. Only operators that every
operator set since 8 has are used, so that a head grows onto any encoder's graph as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import inference
from mllmrisk.detectors import card
from mllmrisk.detectors.encoders.base import Encoder
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted

#: Between the scores of a run and those of the carried file, in logits: more is another model.
TOLERANCE = 1e-4

#: Names of what a head adds to an encoder's graph begin with this.
_OWN = "mllmrisk_head/"
_EMBEDDING, _LOGIT = "embedding", "logit"
#: The largest ONNX file that holds its own weights (protobuf's limit), with room for the card.
_LARGEST = 2_000_000_000


class Belongs(msgspec.Struct, frozen=True, kw_only=True):
    """What a head's file says of itself.

    Attributes:
        encoder, version, dimension: of the encoder whose vectors it was fitted on.
        training: the training record.
    """

    encoder: str
    version: str
    dimension: int
    training: dict[str, Any] = {}
    kind: str = "probe-head"
    schema: int = 1


class Head:
    """A head that was kept, run by onnxruntime.

    Attributes:
        belongs: to which encoder.
    """

    def __init__(self, kept: Path | bytes) -> None:
        """Loads a head.

        Raises:
            UsageError: no such file, or it is no head.
            MissingExtraError: onnxruntime is not installed.
        """
        data = kept if isinstance(kept, bytes) else kept.read_bytes()
        table = card.read(data) or {}
        if table.get("kind") != "probe-head":
            raise UsageError(f"{kept if isinstance(kept, Path) else 'these bytes'}: not the head of a probe")
        self.belongs = msgspec.convert(table, Belongs)
        self.data = data
        self._session = inference.open_session(data, what="the head of a probe", device="cpu").session

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) logits of (n, d) embeddings."""
        rows = np.ascontiguousarray(values, dtype=np.float32)
        (logits,) = self._session.run([_LOGIT], {_EMBEDDING: rows})
        return np.asarray(logits, dtype=np.float64).reshape(-1)

    def check(self, encoder: Encoder) -> None:
        """Refuses vectors that it was not fitted on.

        Raises:
            UsageError: it belongs to another encoder, or to another version of this one.
        """
        if (self.belongs.encoder, self.belongs.version) != (encoder.name, encoder.version):
            raise UsageError(
                f"this head was fitted on {self.belongs.encoder}@{self.belongs.version}, "
                f"not on {encoder.name}@{encoder.version}"
            )


def to_onnx(fitted: Fitted, belongs: Belongs) -> bytes:
    """A classifier of embeddings as a head.

    Raises:
        MissingExtraError: onnx is not installed.
        ValueError: its curved part is none that a head can have.
    """
    onnx = optional("onnx", "writing a probe", "train")
    helper = onnx.helper
    nodes, constants = _nodes(fitted, _EMBEDDING)
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(_EMBEDDING, onnx.TensorProto.FLOAT, ["n", belongs.dimension])],
        [helper.make_tensor_value_info(_LOGIT, onnx.TensorProto.FLOAT, ["n", 1])],
        constants,
    )
    model = helper.make_model(
        graph, producer_name="mllmrisk", ir_version=8, opset_imports=[helper.make_opsetid("", 13)]
    )
    helper.set_model_props(model, {card.METADATA: msgspec.json.encode(belongs).decode()})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def grown(encoder: Encoder, head: Head) -> bytes:
    """Encoder and head as one ONNX model: prepared pixels → `logit` (n, 1).

    Raises:
        MissingExtraError: a package that writes it is not installed.
        UsageError: the head belongs to another encoder, or the model is too large for one file.
    """
    head.check(encoder)
    onnx = optional("onnx", "writing a probe", "train")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    model, _, output = encoder.graph()
    graph, own = model.graph, onnx.load_from_string(head.data).graph
    source = output
    if encoder.about.normalise:
        source = f"{_OWN}unit"
        ones = np.ones((encoder.dimension, 1), np.float32)
        graph.initializer.append(numpy_helper.from_array(ones, f"{_OWN}ones"))
        graph.node.extend(
            [
                helper.make_node("Mul", [output, output], [f"{_OWN}squares"]),
                helper.make_node("MatMul", [f"{_OWN}squares", f"{_OWN}ones"], [f"{_OWN}square"]),
                helper.make_node("Sqrt", [f"{_OWN}square"], [f"{_OWN}length"]),
                helper.make_node("Div", [output, f"{_OWN}length"], [source]),
            ]
        )
    graph.initializer.extend(own.initializer)
    for node in own.node:
        node.input[:] = [source if name == _EMBEDDING else name for name in node.input]
        graph.node.append(node)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_LOGIT, onnx.TensorProto.FLOAT, ["n", 1]))
    del model.metadata_props[:]
    model.producer_name = "mllmrisk"
    if model.ByteSize() > _LARGEST:
        raise UsageError(
            f"probe on {encoder.name!r}: encoder and head are {model.ByteSize()} bytes, too many for one file"
        )
    data: bytes = model.SerializeToString()
    return data


def _nodes(fitted: Fitted, source: str) -> tuple[list[Any], list[Any]]:
    """Nodes from the embedding to the logit, and their constants."""
    onnx = optional("onnx", "writing a probe", "train")
    build = _Graph(onnx)
    if fitted.trees is not None:
        raise ValueError("a head has a linear part or a perceptron, no trees")
    parts, linear, perceptron = [], fitted.linear, fitted.perceptron
    if fitted.share < 1:
        weight = fitted.slope * (1 - fitted.share)
        standard = build.standard("linear", source, linear.mean, linear.scale)
        parts.append(build.dense("linear", standard, weight * linear.coefficients, weight * linear.intercept))
    if perceptron is not None:
        weight = fitted.slope * fitted.share
        standard = build.standard("perceptron", source, perceptron.mean, perceptron.scale)
        hidden = build.dense("hidden", standard, perceptron.hidden, perceptron.hidden_bias)
        active = build.add("Relu", "active", hidden)
        parts.append(build.dense("output", active, weight * perceptron.output, weight * perceptron.bias))
    blend = parts[0] if len(parts) == 1 else build.add("Add", "blend", *parts)
    build.last("Add", blend, build.constant("offset", np.array([fitted.offset])))
    return build.nodes, build.constants


class _Graph:
    """Nodes and constants of a head, by short names."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        values = np.asarray(value, np.float64).astype(np.float32)
        self.constants.append(self._onnx.numpy_helper.from_array(values, _OWN + name))
        return _OWN + name

    def add(self, kind: str, name: str, *inputs: str) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [_OWN + name], name=_OWN + name))
        return _OWN + name

    def last(self, kind: str, *inputs: str) -> None:
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [_LOGIT], name=_OWN + _LOGIT))

    def standard(self, name: str, source: str, mean: Any, scale: Any) -> str:
        from mllmrisk.detectors.fitting import CLIP

        centred = self.add("Sub", f"{name}/centred", source, self.constant(f"{name}/mean", mean))
        scaled = self.add("Mul", f"{name}/scaled", centred, self.constant(f"{name}/inverse_scale", 1.0 / scale))
        above = self.add("Max", f"{name}/above", scaled, self.constant(f"{name}/low", -CLIP))
        return self.add("Min", f"{name}/standard", above, self.constant(f"{name}/high", CLIP))

    def dense(self, name: str, source: str, weights: Any, bias: Any) -> str:
        matrix = np.asarray(weights)
        columns = matrix[:, None] if matrix.ndim == 1 else matrix
        product = self.add("MatMul", f"{name}/product", source, self.constant(f"{name}/weights", columns))
        return self.add("Add", f"{name}/sum", product, self.constant(f"{name}/bias", np.atleast_1d(bias)))
