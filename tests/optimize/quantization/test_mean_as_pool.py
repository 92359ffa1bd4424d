"""The mean over time is pooled in 8 bits, but not beside a node that stays float."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from edgedistill.optimize.execution import errors, runner
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, operators
from edgedistill.optimize.quantization.mean_as_pool import mean_as_pool
from edgedistill.optimize.quantization.nodes import with_node_names
from edgedistill.optimize.variants import to_int8


def _model(mean: str, shape: str = "N,2,6", out: str = "N,2") -> onnx.ModelProto:
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[{shape}] x) => (float[{out}] y) {{
          a = Relu(x)
          m = {mean}
          y = Neg(m)
        }}"""
    )
    for name, value in {"two": [2], "one": [1], "last": [-1], "both": [1, 2]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    return with_node_names(model)


@pytest.mark.parametrize("axes", ["two", "last"])
def test_a_mean_over_time_becomes_a_pooling(axes, rng):
    """With the same result, the same name and the same range."""
    model = _model(f"ReduceMean<keepdims=0>(a, {axes})")
    x = rng.normal(size=(3, 2, 6)).astype(np.float32)

    found, ranges = mean_as_pool(model, {"a": (0, 2), "m": (0, 1)}, [])

    onnx.checker.check_model(found, full_check=True)
    assert [n.name for n in found.graph.node] == [
        "Relu_0",
        "ReduceMean_0",
        "ReduceMean_0_flat",
        "Neg_0",
    ]
    assert ranges == {"a": (0, 2), "m": (0, 1), "m_pooled": (0, 1)}
    before, after = (ReferenceEvaluator(each).run(None, {"x": x})[0] for each in (model, found))
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        _model("ReduceMean<keepdims=0>(a, one)", out="N,6"),
        _model("ReduceMean<keepdims=0>(a, both)", out="N"),
        _model("ReduceMean<keepdims=1>(a, two)", out="N,2,1"),
        _model("ReduceMax<keepdims=0>(a, two)"),
        _model("ReduceMean<keepdims=0>(a, two)", "N,2,6,5", "N,2,5"),
    ],
    ids=["channels", "all", "kept axis", "maximum", "four axes"],
)
def test_other_means_stay(model):
    assert operators(mean_as_pool(model, {}, [])[0]) == operators(model)


@pytest.mark.parametrize("kept", ["Relu_0", "Neg_0"])
def test_beside_a_float_node_the_mean_is_float(kept):
    """The output, or input, of the node would be rounded for the pooling alone."""
    model = _model("ReduceMean<keepdims=0>(a, two)")

    assert operators(mean_as_pool(model, {}, [kept])[0]) == operators(model)


@pytest.mark.parametrize(("keep", "pools"), [((), 1), (("Conv_2",), 0), (("Gemm_0",), 0)], ids=str)
def test_an_8_bit_student_pools(keep, pools, student, series):
    folded = fold(load(student("fcn")))

    quantized = to_int8(folded, series, keep=frozenset(keep))

    assert operators(quantized).get("GlobalAveragePool", 0) == pools
    assert errors(runner(folded)(series), runner(quantized)(series))[1] < 0.05
