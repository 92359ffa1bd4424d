"""What is concatenated shares one range, so that 8-bit values are rounded once."""

from __future__ import annotations

import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.optimize.execution import errors, runner
from edgedistill.optimize.passes.graph import fold, load
from edgedistill.optimize.quantization import int8 as quantization
from edgedistill.optimize.quantization.concat_ranges import share_ranges
from edgedistill.optimize.variants import to_int8

OWN = {"a": (-1.0, 2.0), "b": (-3.0, 1.0), "c": (-3.0, 2.0), "r": (0.0, 2.0), "y": (0.0, 2.0)}


def _model(body: str) -> onnx.ModelProto:
    return parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>\n'
        f"g (float[N,2,6] x) => (float[N,C,6] y) {{a = Neg(x)\n b = Exp(x)\n {body}}}"
    )


def test_parts_take_the_range_of_the_relu_behind():
    model = _model("c = Concat<axis=1>(a, b)\n r = Relu(c)\n y = Neg(r)")

    found = share_ranges(model, OWN)

    assert found == OWN | {"a": (0.0, 2.0), "b": (0.0, 2.0)}


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat<axis=1>(a, b)\n y = Neg(c)",
        "c = Concat<axis=1>(a, b)\n r = Relu(c)\n y = Mul(r, c)",
    ],
    ids=["no ReLU", "a ReLU that is not alone"],
)
def test_else_that_of_the_whole(body):
    found = share_ranges(_model(body), OWN)

    assert found == OWN | {"a": (-3.0, 2.0), "b": (-3.0, 2.0)}


def test_a_part_with_other_readers_keeps_its_own():
    """They may need what the concatenation cuts off."""
    model = _model(
        "c = Concat<axis=1>(a, b)\n r = Relu(c)\n d = Concat<axis=1>(a, a)\n y = Add(r, d)"
    )

    found = share_ranges(model, OWN)

    assert found == OWN | {"b": (0.0, 2.0)}


def test_what_is_joined_twice_takes_the_last_range():
    model = _model("c = Concat<axis=1>(a, b)\n d = Concat<axis=1>(c, x)\n y = Relu(d)")

    found = share_ranges(model, OWN | {"d": (-4.0, 4.0)})

    assert found == OWN | {"d": (-4.0, 4.0), "a": (0.0, 2.0), "b": (0.0, 2.0), "c": (0.0, 2.0)}


@pytest.mark.parametrize("body", ["y = Concat<axis=1>(a, b)", "y = Add(a, b)"])
def test_outputs_and_other_nodes_change_nothing(body):
    assert share_ranges(_model(body), OWN) == OWN


@pytest.mark.parametrize("family", ["lite", "inception"])
def test_all_parts_have_one_scale(family, student, series, monkeypatch):
    """Without it they come with their own, and are rounded twice."""
    folded = fold(load(student(family)))

    shared = to_int8(folded, series)

    monkeypatch.setattr(quantization, "share_ranges", lambda _, found: found)
    apart = to_int8(folded, series)
    assert {len(scales) for scales in _joined(shared)} == {1}
    assert max(len(scales) for scales in _joined(apart)) > 1
    assert errors(runner(folded)(series), runner(shared)(series))[1] < 0.05


def _joined(model: onnx.ModelProto) -> list[set[tuple[float, int]]]:
    """Return, of each concatenation of 8-bit values, the scales and zero points that meet in it."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        parts = [makers[name] for name in node.input if name in makers]
        if node.op_type == "Concat" and {part.op_type for part in parts} == {"DequantizeLinear"}:
            behind = next(n for n in model.graph.node if node.output[0] in n.input)
            pairs = [part.input[1:] for part in (*parts, behind)]
            found.append({tuple(float(constants[name]) for name in pair) for pair in pairs})
    return found
