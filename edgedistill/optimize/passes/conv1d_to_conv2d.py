"""Convolutions over time written as convolutions over an image of one row.

(N, C, T) becomes (N, C, 1, T) where the first convolution needs it, and goes back where an operator
needs the series. DLA takes nothing else, TensorRT would add the same reshapes itself, and ONNX
Runtime has faster CPU kernels for two dimensions than for one.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgedistill.optimize.passes.graph import strip

_WINDOWED = {"AveragePool", "Conv", "MaxPool"}
_PASSING = {"Add", "BatchNormalization", "Concat", "Neg", "Relu", "Slice"}  # take images as well
_FIRST_ONLY = _WINDOWED | {"BatchNormalization", "Slice"}  # whose other inputs are parameters
_CHANNELS, _ROW = 1, 2  # axes of an image


def lift(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an equal model whose convolutions and poolings have two dimensions.

    A convolution whose weights are no constant, or whose output is the model's, stays.

    Args:
        model: float32.
    """
    lifted = ir.from_proto(shape_inference.infer_shapes(strip(model)))
    _Lifter(lifted.graph).run()
    return strip(ir.to_proto(lifted))


class _Lifter:
    """One pass over a graph, with the image of each series."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._images: dict[ir.Value, ir.Value] = {}
        self._row = ir.val("image_row", const_value=ir.tensor([_ROW]))

    def run(self) -> None:
        replaced = [value for node in list(self._graph) for value in self._visit(node)]
        for series, image in self._images.items():
            back = series.producer()
            if back is not None and back.inputs[0] is image and not series.uses():
                self._graph.remove(back, safe=True)
        if self._row.uses():
            self._graph.register_initializer(self._row)
        for weights in replaced:
            if not weights.uses():
                self._graph.initializers.pop(str(weights.name), None)

    def _visit(self, node: ir.Node) -> list[ir.Value]:
        """Lift a node if it can and should be; return the weights whose shape has changed."""
        data = [v for v in node.inputs[: 1 if node.op_type in _FIRST_ONLY else None] if v]
        ends = [*data, *node.outputs]
        if not all(_is_series(v) for v in ends) or any(v.is_graph_output() for v in node.outputs):
            return []
        if node.op_type in _WINDOWED:
            if not _is_one_dimensional(node):
                return []
        elif not (_passes_images(node) and any(value in self._images for value in data)):
            return []
        for index, value in enumerate(data):
            node.replace_input_with(index, self._image(value, node))
        self._turn_back(node)
        return _widen(node, self._graph) if node.op_type in _WINDOWED else []

    def _image(self, series: ir.Value, before: ir.Node) -> ir.Value:
        if series not in self._images:
            unsqueeze = ir.node("Unsqueeze", [series, self._row])
            unsqueeze.outputs[0].name = f"{series.name}_image"
            before.prepend(unsqueeze)
            self._images[series] = unsqueeze.outputs[0]
        return self._images[series]

    def _turn_back(self, node: ir.Node) -> None:
        """Let all users of a lifted node's output use its series; those that take images follow."""
        image = node.outputs[0]
        uses = list(image.uses())
        back = ir.node("Squeeze", [image, self._row])
        series = back.outputs[0]
        series.name, series.type, series.shape = f"{image.name}_series", image.type, image.shape
        for use in uses:
            use.node.replace_input_with(use.idx, series)
        node.append(back)
        self._images[series] = image


def _is_series(value: ir.Value) -> bool:
    return value.const_value is None and value.shape is not None and len(value.shape) == 3


def _is_one_dimensional(node: ir.Node) -> bool:
    """Return whether the weights of a convolution, if it is one, can be reshaped."""
    if len(node.outputs) != 1:
        return False
    weights = node.inputs[1] if node.op_type == "Conv" else None
    return weights is None or weights.const_value is not None


def _passes_images(node: ir.Node) -> bool:
    if node.op_type == "Concat":
        return node.attributes["axis"].as_int() == _CHANNELS
    if node.op_type == "Slice":
        axes = node.inputs[3] if len(node.inputs) > 3 else None
        constant = None if axes is None else axes.const_value
        return constant is not None and constant.numpy().tolist() == [_CHANNELS]
    return node.op_type in _PASSING


def _widen(node: ir.Node, graph: ir.Graph) -> list[ir.Value]:
    """Give a convolution or pooling windows of one row; return the weights it had."""
    for name, first in (("kernel_shape", 1), ("dilations", 1), ("strides", 1)):
        if name in node.attributes:
            sizes = list(node.attributes[name].as_ints())
            node.attributes[name] = ir.AttrInt64s(name, [first, *sizes])
    if "pads" in node.attributes:
        before, after = node.attributes["pads"].as_ints()
        node.attributes["pads"] = ir.AttrInt64s("pads", [0, before, 0, after])
    if node.op_type != "Conv":
        return []
    weights = node.inputs[1]
    if weights is None or weights.const_value is None:
        return []
    wide = ir.tensor(weights.const_value.numpy()[:, :, None])  # (O, I, k) -> (O, I, 1, k)
    value = ir.val(f"{weights.name}_image", const_value=wide)
    if value.name not in graph.initializers:
        graph.register_initializer(value)
    node.replace_input_with(1, graph.initializers[str(value.name)])
    return [weights]
