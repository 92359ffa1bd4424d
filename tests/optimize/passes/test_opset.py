"""Models of every opset and IR version that is still met compute the same in ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from edgedistill.errors import ModelError
from edgedistill.optimize.execution import runner
from edgedistill.optimize.passes.graph import check, load
from edgedistill.optimize.passes.opset import (
    IR_VERSION,
    OPSET,
    convert,
    opset_of,
    with_latest_version,
)

Arrays = dict[str, np.ndarray[Any, Any]]
OPSETS = range(7, 25)


def _attribute_or_input(
    operator: str, opset: int, since: int, names: Sequence[str], name: str, value: Any, **more: Any
) -> tuple[onnx.NodeProto, Arrays]:
    """Return a node and its constants: `value` was an attribute before opset `since`."""
    if opset < since:
        return helper.make_node(operator, names[:1], names[1:], **{name: value}, **more), {}
    constant = f"{names[1]}_{name}"
    array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
    return helper.make_node(operator, [names[0], constant], names[1:], **more), {constant: array}


def _slice(opset: int) -> tuple[onnx.NodeProto, Arrays]:
    limits: dict[str, Any] = {"starts": [1], "ends": [23], "axes": [2]}
    if opset < 10:
        return helper.make_node("Slice", ["dropped"], ["sliced"], **limits), {}
    node = helper.make_node("Slice", ["dropped", *limits], ["sliced"])
    return node, {name: np.array(value, np.int64) for name, value in limits.items()}


def _pad(opset: int) -> tuple[onnx.NodeProto, Arrays]:
    pads = [0, 0, 1, 0, 0, 1]
    if opset < 11:
        return helper.make_node("Pad", ["sliced"], ["padded"], pads=pads, value=0.5), {}
    node = helper.make_node("Pad", ["sliced", "pads", "value"], ["padded"])
    return node, {"pads": np.array(pads), "value": np.array(0.5, np.float32)}


def _clip(opset: int) -> tuple[onnx.NodeProto, Arrays]:
    if opset < 11:
        return helper.make_node("Clip", ["padded"], ["cut"], min=-2.0, max=2.0), {}
    ends = {"low": np.array(-2, np.float32), "high": np.array(2, np.float32)}
    return helper.make_node("Clip", ["padded", *ends], ["cut"]), ends


def _larger(opset: int) -> tuple[onnx.NodeProto, Arrays]:
    """Return a doubling of the time steps, which was called Upsample up to opset 9."""
    scales = np.array([1, 1, 1, 2], np.float32)
    if opset < 9:
        return helper.make_node("Upsample", ["image"], ["wide"], scales=scales.tolist()), {}
    if opset < 11:
        operator = "Upsample" if opset < 10 else "Resize"
        return helper.make_node(operator, ["image", "scales"], ["wide"]), {"scales": scales}
    more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    region = "region" if opset < 13 else ""
    node = helper.make_node("Resize", ["image", region, "scales"], ["wide"], **more)
    return node, {"scales": scales, "region": np.zeros(0, np.float32)}


def convolutional(opset: int) -> tuple[list[onnx.NodeProto], Arrays]:
    """Return a network of the operators whose definition has changed."""
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in {"w": (4, 1, 3), "b": 4, "gamma": 4, "beta": 4, "mean": 4}.items()
    } | {"variance": np.linspace(0.5, 1, 4, dtype=np.float32)}
    head = rng.normal(size=(4, 2)).astype(np.float32)
    softmax = helper.make_node("Softmax", ["short"], ["soft"])  # over all axes from 1 up to 12
    parts: list[tuple[onnx.NodeProto, Arrays]] = [
        (helper.make_node("Conv", ["x", "w", "b"], ["conv"], pads=[1, 1]), weights),
        (
            helper.make_node(
                "BatchNormalization", ["conv", "gamma", "beta", "mean", "variance"], ["normed"]
            ),
            {},
        ),
        _attribute_or_input("Dropout", opset, 12, ["normed", "dropped"], "ratio", 0.5),
        _slice(opset),
        _pad(opset),
        _clip(opset),
        _attribute_or_input("Unsqueeze", opset, 13, ["cut", "image"], "axes", [2]),
        _larger(opset),
        _attribute_or_input("Squeeze", opset, 13, ["wide", "short"], "axes", [2]),
        (softmax, {}),
        _attribute_or_input("ReduceSum", opset, 13, ["short", "sum"], "axes", [2], keepdims=0),
        _attribute_or_input("ReduceMean", opset, 18, ["short", "average"], "axes", [2], keepdims=0),
        _attribute_or_input("ReduceMax", opset, 18, ["soft", "most"], "axes", [2], keepdims=0),
        (helper.make_node("Sum", ["sum", "average", "most"], ["features"]), {}),
        (helper.make_node("MatMul", ["features", "head"], ["y"]), {"head": head}),
    ]
    return [node for node, _ in parts], {n: a for _, arrays in parts for n, a in arrays.items()}


def recurrent(operator: str, opset: int) -> tuple[list[onnx.NodeProto], Arrays]:
    """Return a recurrent network of which only the last state is read."""
    rng = np.random.default_rng(1)
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[operator]
    shapes = {"w": (1, gates * 3, 1), "r": (1, gates * 3, 3), "b": (1, gates * 6), "head": (3, 2)}
    arrays: Arrays = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    squeeze, more = _attribute_or_input("Squeeze", opset, 13, ["last", "state"], "axes", [0])
    nodes = [
        helper.make_node("Transpose", ["x"], ["time_first"], perm=[2, 0, 1]),
        helper.make_node(operator, ["time_first", "w", "r", "b"], ["", "last"], hidden_size=3),
        squeeze,
        helper.make_node("MatMul", ["state", "head"], ["y"]),
    ]
    return nodes, arrays | more


NETWORKS = {
    "convolutional": convolutional,
    "LSTM": lambda opset: recurrent("LSTM", opset),
    "GRU": lambda opset: recurrent("GRU", opset),
    "RNN": lambda opset: recurrent("RNN", opset),
}


def built(network: str, opset: int, ir_version: int) -> onnx.ModelProto:
    """Return a network as a model; up to IR 3 its constants have to be inputs as well."""
    nodes, arrays = NETWORKS[network](opset)
    used = {name for node in nodes for name in node.input}
    constants = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n in used]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 24])]
    if ir_version < 4:
        inputs = [
            *(helper.make_tensor_value_info(c.name, c.data_type, c.dims) for c in constants),
            *inputs,
        ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "g", inputs, [output], constants)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(size=(5, 1, 24)).astype(np.float32)


def _logits(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return np.asarray(runner(model)(x))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_the_same_logits_in_ours(opset, network, x, tmp_path):
    """From 7, of 2018, to 24; with one more IR version each, so that all from 3 on are met."""
    ir_version = 3 + (opset - 7) % 9
    source = built(network, opset, ir_version)
    path = tmp_path / "m.onnx"
    onnx.save(source, path)

    model = load(path)

    assert opset_of(model) == max(opset, OPSET)
    assert model.ir_version == max(ir_version, IR_VERSION)
    assert [value.name for value in model.graph.input] == ["x"]
    check(model, "The model")
    onnx.save(model, path)
    np.testing.assert_allclose(_logits(model, x), _oracle(source, x), rtol=1e-5, atol=1e-5)


def _oracle(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Return the logits of ONNX Runtime, which runs each opset as it is defined."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["y"], {"x": x})[0])


@pytest.mark.parametrize("ir_version", range(3, 12))
def test_every_ir_version(ir_version, x):
    """Of one opset, with the constants among the inputs up to IR 3."""
    source = built("convolutional", 9, ir_version)

    model, note = with_latest_version(source)

    assert note == "raised from opset 9 to 20"
    assert [value.name for value in model.graph.input] == ["x"]
    np.testing.assert_allclose(_logits(model, x), _oracle(source, x), rtol=1e-5, atol=1e-5)


def test_model_of_our_opset_is_left_alone():
    """Without a note."""
    source = built("LSTM", OPSET, IR_VERSION)

    model, note = with_latest_version(source)

    assert (model, note) == (source, None)


def test_newer_opset_stays_and_is_reported():
    """Nothing lowers an opset without guessing what a newer operator may mean in an older one."""
    model, note = with_latest_version(built("LSTM", 24, 10))

    assert opset_of(model) == 24
    assert note == "opset 24 stays; boards need a runtime that reads it"


@pytest.mark.parametrize("softmax", ["Softmax", "Softmax<axis=0>", "LogSoftmax<axis=-1>"])
def test_old_softmax_keeps_its_meaning(softmax, x):
    """Up to opset 12 it is over all axes from its own on."""
    source = parser.parse_model(
        f"""
        <ir_version: 7, opset_import: ["" : 11]>
        g (float[N,1,24] x) => (float[N,24] y) {{ s = {softmax}(x) y = Flatten(s) }}
        """
    )

    model, _ = with_latest_version(source)

    np.testing.assert_allclose(_logits(model, x), _oracle(source, x), rtol=1e-5, atol=1e-7)


def test_body_of_if_is_raised_too(x):
    """Its operators change as those outside, and it still reads the values around it."""
    source = parser.parse_model(
        """
        <ir_version: 7, opset_import: ["" : 11]>
        g (float[N,1,24] x) => (float[N,1] y) <float[1] w = {2}, float zero = {0}> {
          most = ReduceMax<keepdims=0>(x)
          c = Greater(most, zero)
          r = If(c) <
            then_branch = a () => (float[N,1,1] p) { s = ReduceSum<axes=[2]>(x) p = Mul(s, w) },
            else_branch = b () => (float[N,1,1] q) { q = ReduceMean<axes=[2]>(x) }>
          y = Flatten(r)
        }
        """
    )

    model, note = with_latest_version(source)

    assert note == "raised from opset 11 to 20"
    for series in (x, -np.abs(x)):  # one for each branch
        np.testing.assert_allclose(_logits(model, series), _oracle(source, series), rtol=1e-5)


def test_local_function_is_kept(x):
    """The converter alone would drop its body."""
    source = parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 13, "local" : 1]>
        g (float[N,1,24] x) => (float[N,24] y) { a = local.twice(x) y = Flatten(a) }
        <domain: "local", opset_import: ["" : 13]>
        twice (v) => (w) { w = Add(v, v) }
        """
    )

    model, note = with_latest_version(source)

    assert note == "raised from opset 13 to 20"
    np.testing.assert_allclose(_logits(model, x), 2 * x[:, 0])


@pytest.mark.parametrize("lengths", ["", "lengths"])
def test_operator_without_a_conversion_stays_in_its_opset(lengths, x):
    """Scan of opset 8 had lengths, and an axis for the batch; onnx refuses it, or breaks it."""
    source = parser.parse_model(
        f"""
        <ir_version: 4, opset_import: ["" : 8]>
        g (float[N,1,24] x) => (float[N,1,24] y) <int64[5] lengths = {{1, 1, 1, 1, 1}}> {{
          y = Scan <num_scan_inputs = 1, body = b (float[24] v) => (float[24] w) {{ w = Neg(v) }}>
              ({lengths or '""'}, x)
        }}
        """
    )

    model, note = with_latest_version(source)

    assert opset_of(model) == 8
    assert model.ir_version == IR_VERSION
    assert note is not None
    assert note.startswith("opset 8 stays: onnx")
    np.testing.assert_allclose(_logits(model, x), -x)
    with pytest.raises(ModelError, match="cannot convert opset 8 to 20"):
        convert(source, OPSET)
