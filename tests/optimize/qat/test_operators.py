"""Each operator in torch gives what ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper, parser

from edgedistill.optimize.qat.operators import OPERATORS

X = "float[2,4,9] x"
CASES = {
    "Add": (X, "y = Add(x, x)", {}),
    "BatchNormalization": (X, "y = BatchNormalization<epsilon=0.1>(x, v, v, v, p)", {"v": 4}),
    "Concat": (X, "y = Concat<axis=1>(x, x)", {}),
    "Conv": (
        X,
        "y = Conv<kernel_shape=[3], pads=[2,1], strides=[2], dilations=[2], group=2>(x, w, b)",
        {"w": (6, 2, 3), "b": 6},
    ),
    "Flatten": (X, "y = Flatten<axis=1>(x)", {}),
    "Gemm": (
        "float[2,4] x",
        "y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b)",
        {"w": (3, 4), "b": 3},
    ),
    "GlobalAveragePool": (X, "y = GlobalAveragePool(x)", {}),
    "Identity": (X, "y = Identity(x)", {}),
    "LeakyRelu": (X, "y = LeakyRelu<alpha=0.3>(x)", {}),
    "MatMul": ("float[2,4] x", "y = MatMul(x, w)", {"w": (4, 3)}),
    "MaxPool": (X, "y = MaxPool<kernel_shape=[3], pads=[1,1], strides=[2]>(x)", {}),
    "Mul": (X, "y = Mul(x, x)", {}),
    "Neg": (X, "y = Neg(x)", {}),
    "ReduceMean": (X, "y = ReduceMean<keepdims=0>(x, axes)", {}),
    "ReduceSum": (X, "y = ReduceSum(x, axes)", {}),
    "Relu": (X, "y = Relu(x)", {}),
    "Slice": (X, "y = Slice(x, one, end, axes, two)", {}),
    "Squeeze": ("float[2,1,9] x", "y = Squeeze(x, one)", {}),
    "Sub": (X, "y = Sub(x, x)", {}),
    "Transpose": (X, "y = Transpose<perm=[0,2,1]>(x)", {}),
}
INTEGERS = {"axes": [2], "one": [1], "two": [2], "end": [2**31]}


IMAGE = "float[2,4,5,9] x"
FLAT = {  # series that stand in images of one row and the like
    "Conv": (
        IMAGE,
        "y = Conv<kernel_shape=[2,3], pads=[0,2,1,1], strides=[1,2]>(x, w, b)",
        {"w": (6, 4, 2, 3), "b": 6},
    ),
    "GlobalAveragePool": (IMAGE, "y = GlobalAveragePool(x)", {}),
    "MaxPool": (IMAGE, "y = MaxPool<kernel_shape=[1,3], pads=[0,1,0,1]>(x)", {}),
}


DEFAULTS = {  # what is left out has the meaning that ONNX gives it
    "Conv": (X, "y = Conv(x, w)", {"w": (6, 4, 3)}),
    "ReduceMean": (X, "y = ReduceMean<keepdims=0>(x)", {}),
    "ReduceSum": (X, "y = ReduceSum(x)", {}),
    "Slice": (X, "y = Slice(x, one, two)", {}),
    "Squeeze": ("float[2,1,9] x", "y = Squeeze(x)", {}),
    "Transpose": (X, "y = Transpose(x)", {}),
}


def test_every_operator_is_tried():
    assert CASES.keys() == OPERATORS.keys()


@pytest.mark.parametrize("name", FLAT)
def test_an_operator_in_two_dimensions_is_that_of_onnx(name, rng):
    check(name, FLAT[name], rng)


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_of_an_operator_are_those_of_onnx(name, rng):
    check(name, DEFAULTS[name], rng)


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_that_of_onnx(name, rng):
    check(name, CASES[name], rng)


def check(name, case, rng):
    """Run a node of random constants in both."""
    given, body, shapes = case
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 20]> g ({given}) => (float[] y) {{ {body} }}'
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    arrays = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    arrays |= {key: np.array(value) for key, value in INTEGERS.items()}
    if "p" in model.graph.node[0].input:
        arrays["p"] = rng.uniform(0.5, 2, size=4).astype(np.float32)
    used = {key: arrays[key] for key in model.graph.node[0].input if key in arrays}
    for key, value in used.items():
        model.graph.initializer.append(numpy_helper.from_array(value, key))
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(size=shape).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, {"x": x})[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in model.graph.node[0].attribute}

    values = [torch.from_numpy(x if key == "x" else used[key]) for key in model.graph.node[0].input]
    found = OPERATORS[name](attributes, values)

    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
