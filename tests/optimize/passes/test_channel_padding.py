"""Depthwise convolutions get a multiple of 16 channels, and nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from edgedistill.optimize.execution import runner
from edgedistill.optimize.passes.channel_padding import align
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, parameters
from edgedistill.optimize.variants import to_int8

pytestmark = pytest.mark.slow

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
SHAPES = {
    "first": (5, 2, 3),
    "bias": (5,),
    "gamma": (5,),
    "beta": (5,),
    "mean": (5,),
    "var": (5,),
    "second": (6, 2, 1),
    "more": (6,),
    "depthwise": (11, 1, 3),
    "own": (11,),
    "last": (4, 11, 1),
    "square": (11, 11, 1),
}
JOINED = """
      a = Conv<kernel_shape=[3], pads=[1,1]>(x, first, bias)
      n = BatchNormalization(a, gamma, beta, mean, var)
      b = Conv<kernel_shape=[1]>(x, second, more)
      c = Concat<axis=1>({order})
      r = Relu(c)
      d = Conv<kernel_shape=[3], pads=[1,1], group=11>(r, depthwise, own)"""
END = "y = Conv<kernel_shape=[1]>(d, last)"


def _model(
    body: str, rng: np.random.Generator, *, takes: int = 2, gives: int = 4
) -> onnx.ModelProto:
    """Return a model of random positive constants, those of `SHAPES` that the body names."""
    model = parser.parse_model(
        f"{HEAD}\ng (float[N,{takes},6] x) => (float[N,{gives},6] y) {{{body}\n}}"
    )
    used = {name for node in model.graph.node for name in node.input}
    for name in sorted(used & SHAPES.keys()):
        values = rng.uniform(0.5, 2.0, size=SHAPES[name]).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def _groups(model: onnx.ModelProto) -> list[int]:
    return [a.i for n in model.graph.node for a in n.attribute if a.name == "group" and a.i > 1]


def _run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, {"x": x})[0]


@pytest.mark.parametrize("order", ["n, b", "b, n"])
def test_zeros_stand_where_their_convolution_stands(order, rng):
    """At the end and in the middle of a concatenation, through a norm and a ReLU."""
    model = _model(JOINED.format(order=order) + "\n" + END, rng)
    x = rng.normal(size=(3, 2, 6)).astype(np.float32)

    found = align(model)

    onnx.checker.check_model(found, full_check=True)
    assert (_groups(model), _groups(found)) == ([11], [16])
    np.testing.assert_allclose(_run(found, x), _run(model, x), rtol=1e-5)
    assert align(found) == found


@pytest.mark.parametrize(
    "tail",
    [
        "y = Conv<kernel_shape=[1]>(d, square)\n z = Relu(r)",
        "y = Relu(d)",
        "e = Conv<kernel_shape=[1]>(d, square)\n y = Add(e, d)",
    ],
    ids=["others read the channels", "no convolution reads it", "not one alone"],
)
def test_what_cannot_be_filled_up_stays(tail, rng):
    model = _model(JOINED.format(order="n, b") + "\n" + tail, rng, gives=11)

    assert align(model).graph.node == model.graph.node


def test_channels_of_no_convolution_stay(rng):
    body = "d = Conv<kernel_shape=[3], pads=[1,1], group=11>(x, depthwise)\n" + END
    model = _model(body, rng, takes=11)

    assert align(model).graph.node == model.graph.node


def test_a_student_keeps_its_logits(student, series):
    """LITE's channels are three widths and 17, never a multiple of 16."""
    model = fold(load(student("lite")))

    found = align(model)

    assert all(group % 16 for group in _groups(model))
    assert all(group % 16 == 0 for group in _groups(found))
    assert parameters(found) > parameters(model)
    np.testing.assert_allclose(runner(found)(series), runner(model)(series), atol=1e-6)


def test_int8_is_aligned(student, series):
    """Otherwise general code runs the depthwise convolution, in more than twice the time."""
    model = fold(load(student("lite")))

    found = to_int8(model, series)

    assert _groups(model)
    assert all(group % 16 == 0 for group in _groups(found))


def test_a_norm_that_scales_all_channels_alike_still_does(rng):
    """Else what stays float32 in 8 bits would depend on the alignment."""
    body = """
      a = Conv<kernel_shape=[3], pads=[1,1]>(x, first, bias)
      n = BatchNormalization(a, gamma, beta, mean, var)
      r = Relu(n)
      d = Conv<kernel_shape=[1], group=5>(r, each)
      y = Conv<kernel_shape=[1]>(d, joint)"""
    model = _model(body, rng)
    constants = {"each": rng.normal(size=(5, 1, 1)), "joint": rng.normal(size=(4, 5, 1))}
    for name in ("gamma", "var"):
        constants[name] = np.full(5, rng.uniform(1, 2))
    kept = [i for i in model.graph.initializer if i.name not in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))

    found = align(model)

    norm = next(node for node in found.graph.node if node.op_type == "BatchNormalization")
    arrays = {i.name: numpy_helper.to_array(i) for i in found.graph.initializer}
    gamma, variance = arrays[norm.input[1]], arrays[norm.input[4]]
    assert (len(gamma), np.ptp(gamma), np.ptp(variance)) == (16, 0, 0)
    x = rng.normal(size=(3, 2, 6)).astype(np.float32)
    np.testing.assert_allclose(_run(found, x), _run(model, x), rtol=1e-4, atol=1e-5)
