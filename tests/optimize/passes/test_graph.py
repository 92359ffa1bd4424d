"""A model is loaded, checked, stripped and counted; a file that is none is refused."""

from __future__ import annotations

import pytest
from onnx import parser

from edgedistill.errors import ModelError
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import check, load, operators, parameters, strip


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
