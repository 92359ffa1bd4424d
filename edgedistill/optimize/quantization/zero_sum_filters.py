"""Ranges of weights that let filters which sum to zero do so in 8 bits too.

Such a filter reads differences: LITE's fixed ones detect rises and peaks. On the usual scale, by
the largest weight, 2 is rounded to 127 and 1 to 64; what is then left of the sum leaks the level
of the series into every output, and a mean over time does not average it out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill.io.arrays import Doubles

_ROUNDING = 1e-5  # of a sum of float32, over the sum of sizes

Overrides = dict[str, list[dict[str, Any]]]  # as ONNX Runtime's quantizer takes them


def weight_ranges(model: onnx.ModelProto, levels: int) -> Overrides:
    """Return a range for every filter of the convolutions that have some which sum to zero.

    Args:
        model: folded model.
        levels: whole number that the largest weight is rounded to by default.
    """
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    names = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    result = {}
    for name in sorted(names & constants.keys()):
        filters = constants[name].reshape(len(constants[name]), -1).astype(np.float64)
        sizes = np.abs(filters).sum(axis=1)
        zero = (sizes > 0) & (np.abs(filters.sum(axis=1)) <= _ROUNDING * sizes)
        if zero.any():
            largest = np.abs(filters).max(axis=1)
            most = [_levels(f, levels) if z else levels for f, z in zip(filters, zero, strict=True)]
            limits = largest * levels / np.array(most)
            result[name] = [{"rmin": np.float32(-x), "rmax": np.float32(x)} for x in limits]
            result[name][0]["axis"] = 0
    return result


def _levels(weights: Doubles, levels: int) -> int:
    """Return the whole number for the largest weight that loses least, of the sum and of all."""
    largest = np.abs(weights).max()

    def loss(most: int) -> float:
        wrong = np.round(weights * most / largest) * largest / most - weights
        leak = abs(wrong.sum()) / np.abs(weights).sum()
        return float(leak + np.linalg.norm(wrong) / np.linalg.norm(weights))

    return min(range(levels, levels // 2, -1), key=lambda most: round(loss(most), 6))
