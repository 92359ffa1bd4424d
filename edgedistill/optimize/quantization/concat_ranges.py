"""One range for all that is concatenated, so that joining 8-bit values is copying them.

A concatenation has one scale. Values that come with another are rounded to it once more, by a
lookup a value. If they are rounded to it where they are computed, nothing is lost, and a ReLU
behind the concatenation is done by the rounding too: below 0 there are no numbers.
"""

from __future__ import annotations

import onnx

from edgedistill.optimize.quantization.calibration import Ranges


def share_ranges(model: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """Return the ranges with those of a concatenation, or of the ReLU behind it, for its parts.

    A part that something else reads too keeps its own.

    Args:
        model: folded.
        ranges: ranges of its float values; they are not changed.
    """
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto]] = {value.name: [] for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    shared = dict(ranges)
    for node in reversed(graph.node):  # what is joined again takes the range of the last
        whole = node.output[0]
        if node.op_type != "Concat" or whole in outputs:
            continue
        behind = readers.get(whole, [])
        if [reader.op_type for reader in behind] == ["Relu"]:
            whole = behind[0].output[0]
        if whole in shared:
            alone = [name for name in node.input if len(readers[name]) == 1 and name not in outputs]
            shared |= {name: shared[whole] for name in alone if name in ranges}
    return shared
