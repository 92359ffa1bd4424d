"""Nodes have stable names, and only those that lose something in 8 bits are a question."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import ConfigError
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.quantization.nodes import check_nodes, fixed_nodes, nodes, with_node_names


def test_nodes_have_stable_names(student):
    """By operator and place, whatever the exporter called them; a ReLU is part of what it cuts."""
    assert nodes(fold(load(student("fcn")))) == ("Conv_0", "Conv_1", "Conv_2", "Gemm_0")
    assert nodes(fold(load(student("lstm")))) == ("LSTM_0",)
    assert nodes(fold(load(student("lite"))))[:5] == (
        *("Conv_0", "Conv_1", "Conv_2", "Conv_3", "Concat_0"),
    )


def test_what_only_moves_values_loses_nothing(rng):
    """Sums and convolutions do; pooling by maximum and slices do not."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {
          a = Conv<kernel_shape=[1]>(series, w)
          b = MaxPool<kernel_shape=[3], pads=[1,1]>(a)
          c = Add(a, b)
          d = Relu(c)
          logits = Conv<kernel_shape=[1]>(d, v)
        }
        """
    )
    for name, shape in {"w": (2, 1, 1), "v": (2, 2, 1)}.items():
        weight = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, name))

    assert [n.name for n in with_node_names(model).graph.node] == [
        *("Conv_0", "MaxPool_0", "Add_0", "Relu_0", "Conv_1")
    ]
    assert nodes(model) == ("Conv_0", "Add_0", "Conv_1")


RECTIFIED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[N,1,60] series) => (float[N,3,60] logits) {
  a = Conv<kernel_shape=[1]>(series, w)
  b = Relu(a)
  c = Neg(b)
  d = BatchNormalization(c, gamma, beta, beta, var)
  logits = Conv<kernel_shape=[1]>(d, v)
}
"""


@pytest.mark.parametrize(
    ("gamma", "var", "fixed"),
    [
        ((1, 2, 3), (1, 1, 1), ["BatchNormalization_0", "Neg_0", "Relu_0", "Conv_0"]),
        ((1, 1, 1), (1, 2, 3), ["BatchNormalization_0", "Neg_0", "Relu_0", "Conv_0"]),
        ((2, 2, 2), (3, 3, 3), ["BatchNormalization_0"]),
    ],
)
def test_filters_before_a_norm_that_evens_them_are_fixed(gamma, var, fixed, rng):
    """Back from the norm through what keeps their ranges apart; an even one stands alone."""
    model = parser.parse_model(RECTIFIED)
    weights = {"w": rng.normal(size=(3, 1, 1)), "v": rng.normal(size=(3, 3, 1)), "beta": [0, 1, 2]}
    for name, value in (weights | {"gamma": gamma, "var": var}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))

    assert fixed_nodes(with_node_names(model)) == fixed
    assert fixed_nodes(with_node_names(fold(model))) == fixed


def test_unknown_node(student):
    """The known ones are listed."""
    with pytest.raises(ConfigError, match=r"'Conv_9' to keep float\. Choose from Conv_0, Conv_1"):
        check_nodes(fold(load(student("fcn"))), frozenset({"Conv_9"}))
