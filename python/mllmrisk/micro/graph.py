"""The judge as an ONNX graph: `pixels` in [0, 1] to the probabilities of subject, colour and place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from mllmrisk.micro.classifier import Classifier

OPSET = 21
OUTPUTS = ("subject", "colour", "place")


class _Graph:
    """Nodes in order, each fed by the one before it, and their constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "pixels"

    def constant(self, values: npt.NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, *more: str, out: str | None = None, **attributes: object) -> str:
        from onnx import helper

        made = out or f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *more], [made], **attributes))
        self.last = made
        return made


def model(classifier: Classifier, sizes: tuple[int, ...]) -> onnx.ModelProto:
    """The graph of a trained classifier; any batch size.

    Args:
        classifier: what was trained; its layers are convolutions, group norms, SiLU, a flattening and a linear layer.
        sizes: how many subjects, colours and places its head tells apart.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph()
    graph.add("Mul", graph.constant(np.array(2, np.float32)))
    graph.add("Sub", graph.constant(np.array(1, np.float32)))
    for layer in classifier.body:
        _add_layer(graph, layer)
    weights = {name: value.detach().numpy() for name, value in classifier.head.state_dict().items()}
    logits = graph.add("Gemm", graph.constant(weights["weight"]), graph.constant(weights["bias"]), transB=1)
    ends = np.cumsum((0, *sizes))
    for name, start, end in zip(OUTPUTS, ends, ends[1:], strict=False):
        graph.last = logits
        graph.add("Slice", *(graph.constant(np.array([n], np.int64)) for n in (start, end, 1)))
        graph.add("Softmax", out=name, axis=1)
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 96, 96])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in zip(OUTPUTS, sizes, strict=True)
    ]
    whole = helper.make_graph(graph.nodes, "micro-judge", inputs, outputs, graph.constants)
    made = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    checker.check_model(made, full_check=True)
    return made


def _add_layer(graph: _Graph, layer: object) -> None:
    from torch import nn

    kind = type(layer).__name__
    weights: list[str] = []
    if isinstance(layer, nn.Conv2d | nn.GroupNorm):
        weights = [graph.constant(value.detach().numpy()) for value in layer.state_dict().values()]
    if isinstance(layer, nn.Conv2d):
        (pad, _), (stride, _), (kernel, _) = layer.padding, layer.stride, layer.kernel_size
        graph.add("Conv", *weights, pads=[pad] * 4, strides=[stride] * 2, kernel_shape=[kernel] * 2)
    elif isinstance(layer, nn.GroupNorm):
        graph.add("GroupNormalization", *weights, epsilon=layer.eps, num_groups=layer.num_groups)
    elif isinstance(layer, nn.SiLU):
        before = graph.last
        graph.add("Sigmoid")
        graph.add("Mul", before)
    elif isinstance(layer, nn.Flatten):
        graph.add("Flatten", axis=1)
    else:
        raise TypeError(f"no ONNX node is written for {kind}")
