"""Logits stay float, and nodes that are to stay float are run so."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from edgedistill.optimize.execution import errors, logits
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators
from edgedistill.optimize.quantization.int8 import to_int8


@pytest.mark.parametrize("keep", ["Conv_0", "Conv_1", "Conv_2", "Gemm_0", None])
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
def test_kept_nodes_run_in_float(keep, relu, student, series, tmp_path):
    """ONNX Runtime quantizes float weights between 8-bit neighbors, unless something is between."""
    folded = fold(load(student("fcn")))
    if not relu:
        _drop_relus(folded)
    kept = frozenset() if keep is None else frozenset({keep})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")

    quantized = to_int8(folded, series, keep=kept)

    onnxruntime.InferenceSession(quantized.SerializeToString(), options)
    found = operators(onnx.load(tmp_path / "optimized.onnx"))
    assert found["QLinearConv"] + found.get("QGemm", 0) == 4 - len(kept)
    assert "LeakyRelu" not in found  # it became part of the node


def _drop_relus(model: onnx.ModelProto) -> None:
    for node in [node for node in model.graph.node if node.op_type == "Relu"]:
        for user in model.graph.node:
            for index, name in enumerate(user.input):
                user.input[index] = node.input[0] if name == node.output[0] else name
        model.graph.node.remove(node)


def test_a_barrier_changes_no_value(student, series, tmp_path):
    """A leaky ReLU of slope 0 or 1 is what stood there before."""
    folded = fold(load(student("fcn")))
    expected = logits(student("fcn"), series)
    path = tmp_path / "mixed.onnx"
    missed = []
    for keep in (frozenset(), frozenset({"Conv_0", "Conv_1", "Conv_2"})):
        path.write_bytes(to_int8(folded, series, keep=keep).SerializeToString())
        missed.append(errors(expected, logits(path, series))[0])
    assert missed[1] < missed[0]


def test_logits_are_not_rounded(student, series, tmp_path):
    """In 256 steps over their range, logits would hide what a small window changes."""
    folded = fold(load(student("fcn")))
    path = tmp_path / "int8.onnx"

    quantized = to_int8(folded, series)

    assert quantized.graph.node[-1].op_type == "Gemm"
    used = {name for node in quantized.graph.node for name in node.input}
    assert {initializer.name for initializer in quantized.graph.initializer} <= used
    path.write_bytes(quantized.SerializeToString())
    many = np.concatenate([series * scale for scale in np.linspace(0.2, 1, 40, dtype=np.float32)])
    assert len(np.unique(logits(path, many)[:, 0])) > 256


def test_a_relu_at_the_end_keeps_its_cut(series, rng):
    """The quantizer takes a ReLU away that its range does the work of; that range stays then."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {
          a = Conv<kernel_shape=[1]>(series, w)
          logits = Relu(a)
        }
        """
    )
    weight = rng.normal(size=(2, 1, 1)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))

    quantized = to_int8(model, series)

    session = onnxruntime.InferenceSession(quantized.SerializeToString())
    assert session.run(None, {"series": series})[0].min() == 0
