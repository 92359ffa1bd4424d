"""Folding changes no logit, leaves portable operators, and what is no model is refused."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from edgedistill.errors import ModelError
from edgedistill.optimize.execution import logits
from edgedistill.optimize.passes.graph import check, fold, load, operators, parameters, strip


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_folded_model_gives_the_same_logits(family, student, series, tmp_path):
    """Fewer nodes, fewer bytes, the same numbers, the same interface, and ONNX's own operators."""
    source = load(student(family))
    path = tmp_path / "folded.onnx"

    folded = fold(source)

    path.write_bytes(folded.SerializeToString())
    np.testing.assert_allclose(logits(path, series), logits(student(family), series), atol=1e-6)
    assert folded.graph.input == strip(source).graph.input
    assert folded.graph.output == strip(source).graph.output
    assert len(folded.graph.node) <= len(source.graph.node)
    assert {node.domain for node in folded.graph.node} == {""}
    assert {o.domain for o in folded.opset_import} == {""}


def test_every_norm_of_an_fcn_folds(student):
    """Behind a convolution no batch norm is left."""
    folded = fold(load(student("fcn")))

    assert operators(folded) == {"Conv": 3, "Gemm": 1, "ReduceMean": 1, "Relu": 3}


def test_lstm_keeps_no_shape_arithmetic(student):
    """The exporter's arithmetic on shapes and zero states is removed."""
    before = operators(load(student("lstm")))

    after = operators(fold(load(student("lstm"))))

    assert before["Slice"] > 0
    assert after == {"Gather": 1, "Gemm": 1, "LSTM": 1, "Squeeze": 1, "Transpose": 2}


def test_fold_leaves_its_argument_alone(student):
    """Values in, values out."""
    model = load(student("lstm"))
    before = model.SerializeToString()

    fold(model)

    assert model.SerializeToString() == before


def test_parameters_counts_float_constants(student):
    """An FCN 16-32-16 on one channel has as many weights as counted by hand."""
    folded = fold(load(student("fcn")))

    convolutions = (1 * 8 + 1) * 16 + (16 * 5 + 1) * 32 + (32 * 3 + 1) * 16
    assert parameters(folded) == convolutions + (16 + 1) * 2


def test_strip_reaches_inner_graphs_and_local_functions():
    """Notes go from the branches of an If too, and a local function is put where it is called."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20, "local" : 1], doc_string: "secret 1">
        g (bool c, float[N] x) => (float[N] y) {
          z = local.twice(x)
          y = If (c) <then_branch = a () => (float[N] p) { p = Relu(z) },
                      else_branch = b () => (float[N] q) { q = Neg(z) }>
        }
        <domain: "local", opset_import: ["" : 20]>
        twice (v) => (w) { w = Add(v, v) }
        """
    )
    branch = model.graph.node[1].attribute[0].g
    branch.node[0].doc_string = "secret 2"
    branch.node[0].metadata_props.add(key="trace", value="secret 3")

    bare = strip(model)

    assert b"secret" not in bare.SerializeToString()
    assert [node.op_type for node in bare.graph.node] == ["Add", "If"]
    check(bare, "The bare model")


def test_truncated_file(student, tmp_path):
    """A file cut short is named, with exit code 3."""
    path = tmp_path / "cut.onnx"
    content = student("fcn").read_bytes()
    path.write_bytes(content[: len(content) // 2])

    with pytest.raises(ModelError, match=r"cut\.onnx is cut short or no valid") as caught:
        load(path)

    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"not a model at all"], ids=["empty", "text"])
def test_file_that_is_no_model(content, tmp_path):
    """An empty file and a text are no models."""
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelError, match="Copy it again or export it anew"):
        load(path)


def test_missing_file(tmp_path):
    """The message names the wrong path."""
    with pytest.raises(ModelError, match="There is no model file"):
        load(tmp_path / "none.onnx")


def test_graph_that_breaks_the_rules():
    """Types that do not fit are found."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N] x, int64[N] k) => (float[N] y) { y = Add(x, k) }
        """
    )

    with pytest.raises(ModelError, match="The odd model breaks the ONNX rules"):
        check(model, "The odd model")


def test_operators_counts_by_name():
    """A histogram, sorted."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N] x) => (float[N] y) { a = Relu(x) b = Neg(a) y = Relu(b) }
        """
    )

    assert list(operators(model).items()) == [("Neg", 1), ("Relu", 2)]
