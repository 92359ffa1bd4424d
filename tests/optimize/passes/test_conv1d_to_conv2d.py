"""Convolutions get two dimensions, and the model computes what it did."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser, shape_inference

from edgedistill.optimize.execution import runner
from edgedistill.optimize.passes.conv1d_to_conv2d import lift
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import check, load, operators


@pytest.mark.parametrize("family", ["fcn", "lite"])
def test_one_reshape_to_images_and_one_back(family, student, series):
    """Between the first convolution and the pooling everything stays an image."""
    model = fold(load(student(family)))

    lifted = lift(model)

    check(lifted, "The lifted model")
    assert operators(lifted) == operators(model) | {"Unsqueeze": 1, "Squeeze": 1}
    weights = {node.input[1] for node in lifted.graph.node if node.op_type == "Conv"}
    shapes = {len(i.dims) for i in lifted.graph.initializer if i.name in weights}
    assert shapes == {4}
    np.testing.assert_allclose(runner(lifted)(series), runner(model)(series), atol=1e-5)


def test_a_model_without_convolutions_stays(student):
    model = fold(load(student("lstm")))

    assert lift(model).graph.node == model.graph.node


CASES = {
    "strides, dilations and uneven padding": """
        a = Conv<kernel_shape=[3], strides=[2], dilations=[2], pads=[3, 1]>(x, w)
        y = Relu(a)
    """,
    "pooling": """
        a = MaxPool<kernel_shape=[3], pads=[1, 1], strides=[1]>(x)
        b = AveragePool<kernel_shape=[2]>(a)
        y = Relu(b)
    """,
    "a residual sum, and an operator that wants the series": """
        a = Conv<kernel_shape=[3], pads=[1, 1]>(x, w)
        b = Add(a, x)
        c = CumSum(b, two)
        d = Conv<kernel_shape=[3], pads=[1, 1]>(c, w)
        y = Add(d, c)
    """,
    "a constant beside the images": """
        a = Conv<kernel_shape=[3], pads=[1, 1]>(x, w)
        b = Add(a, bias)
        y = Neg(b)
    """,
    "slices of channels and of time": """
        a = Conv<kernel_shape=[3], pads=[1, 1]>(x, w)
        b = Slice(a, one, two, one)
        c = Slice(a, one, two, two)
        d = Concat<axis=1>(b, b)
        y = Concat<axis=2>(d, c)
    """,
    "weights that two convolutions share": """
        a = Conv<kernel_shape=[3], pads=[1, 1]>(x, w)
        b = Conv<kernel_shape=[3], pads=[1, 1]>(a, w)
        y = Relu(b)
    """,
    "a convolution that gives the output, and weights that are computed": """
        v = Neg(w)
        a = Conv<kernel_shape=[3], pads=[1, 1]>(x, v)
        y = Conv<kernel_shape=[3], pads=[1, 1]>(a, w)
    """,
    "automatic padding": """
        a = Conv<kernel_shape=[3], auto_pad="SAME_LOWER">(x, w)
        y = Relu(a)
    """,
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_graphs_of_all_kinds(body, rng):
    """Each gives what it gave, lifted as far as it goes, under the names it had."""
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,2,12] x) => (float[N,P,Q] y) {{ {body} }}
        """
    )
    constants = {
        "w": rng.normal(size=(2, 2, 3)).astype(np.float32),
        "bias": rng.normal(size=(1, 2, 1)).astype(np.float32),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    for name, values in constants.items():
        if f"{name})" in body or f"{name}," in body:
            model.graph.initializer.append(numpy_helper.from_array(values, name))
    model = shape_inference.infer_shapes(model)
    x = rng.normal(size=(3, 2, 12)).astype(np.float32)

    lifted = lift(model)

    check(lifted, "The lifted model")
    assert (lifted.graph.input, lifted.graph.output) == (model.graph.input, model.graph.output)
    np.testing.assert_allclose(runner(lifted)(x), runner(model)(x), rtol=1e-5, atol=1e-6)
    names = {name for node in lifted.graph.node for name in node.output}
    assert {name for node in model.graph.node for name in node.output} <= names
