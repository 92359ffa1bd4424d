"""The boundaries of 8 bits: at the logits, and around nodes that stay float."""

from __future__ import annotations

import onnx
from onnx import helper

from edgedistill.optimize.passes.graph import captured
from edgedistill.optimize.quantization.nodes import CUTS

_REQUANTIZED = {"Conv", "ConvTranspose", "Gemm"}  # by ONNX Runtime, if both sides are 8-bit


def float_outputs(quantized: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the last Q/DQ pair: logits in 256 steps would hide what a small window changes.

    Not behind a ReLU, which the quantizer removed because the pair does the same.
    """
    graph = quantized.graph
    cut = {name for node in model.graph.node if node.op_type in CUTS for name in node.output}
    makers = {node.output[0]: node for node in graph.node}
    inputs = [name for node in graph.node for name in node.input]
    for output in graph.output:
        last = makers.get(output.name)
        if last is None or last.op_type != "DequantizeLinear" or output.name in cut:
            continue
        before = makers.get(last.input[0])
        if before is None or inputs.count(last.input[0]) > 1 or output.name in inputs:
            continue
        maker = makers.get(before.input[0])
        if maker is None or inputs.count(before.input[0]) > 1:
            continue
        maker.output[0] = output.name
        graph.node.remove(last)
        graph.node.remove(before)
    used = {name for node in graph.node for name in node.input} | captured(graph)
    unused = [initializer for initializer in graph.initializer if initializer.name not in used]
    for initializer in unused:
        graph.initializer.remove(initializer)
    return quantized


def keep_float(graph: onnx.GraphProto, nodes: set[str]) -> None:
    """Put an operator that ONNX Runtime does not fuse behind float nodes whose result is quantized.

    Between a DequantizeLinear and a QuantizeLinear, even with a ReLU before that, it quantizes the
    weights of a float node as it loads the model. A leaky ReLU is a ReLU with a slope of 0, nothing
    with a slope of 1, and becomes part of the node.
    """
    for node in [n for n in graph.node if n.name in nodes and n.op_type in _REQUANTIZED]:
        users = [user for user in graph.node if node.output[0] in user.input]
        cut = users[0] if len(users) == 1 and users[0].op_type == "Relu" else None
        read = node.output[0] if cut is None else cut.output[0]
        if not any(n.op_type == "QuantizeLinear" and read in n.input for n in graph.node):
            continue
        if cut is not None:
            cut.op_type = "LeakyRelu"
            cut.attribute.append(helper.make_attribute("alpha", 0.0))
            continue
        inner = f"{node.output[0]}_float"
        barrier = helper.make_node(
            "LeakyRelu", [inner], [read], name=f"{node.name}_float", alpha=1.0
        )
        node.output[0] = inner
        graph.node.insert(list(graph.node).index(node) + 1, barrier)
