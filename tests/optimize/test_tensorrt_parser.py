"""What the oldest parser of TensorRT takes: 16-bit LSTMs have states, and nothing else gets by."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgedistill.errors import ModelError
from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import runner
from edgedistill.optimize.tensorrt_parser import check_parser, with_typed_states
from edgedistill.optimize.variants import variants

pytestmark = pytest.mark.slow

HALVES = {"fp16": "FLOAT16", "bf16": "BFLOAT16", "w8a16": "FLOAT16"}
STEPS, UNITS = 7, 3


def _lstm(model):
    """The LSTM of a model, with inferred types."""
    whole = ir.from_proto(shape_inference.infer_shapes(model))
    (node,) = (node for node in whole.graph if node.op_type == "LSTM")
    return node


def _recurrent(kind=TensorProto.FLOAT16, *, directions=1, last="ReduceMean", **attributes):
    """A model whose logits are the last states of an LSTM that was given none to begin with."""
    rng = np.random.default_rng(0)
    shapes = {"W": (1,), "R": (UNITS,), "B": (2,)}
    weights = [
        helper.make_tensor(name, kind, shape, rng.normal(size=int(np.prod(shape))))
        for name, rest in shapes.items()
        for shape in [(directions, 8 * UNITS) if name == "B" else (directions, 4 * UNITS, *rest)]
    ]
    weights.append(numpy_helper.from_array(np.array([0]), "axis"))
    both = {"direction": "bidirectional"} if directions > 1 else {}
    nodes = [
        helper.make_node("Cast", ["series"], ["half"], to=kind),
        helper.make_node("Transpose", ["half"], ["steps"], perm=[2, 0, 1]),
        helper.make_node(
            "LSTM",
            ["steps", "W", "R", "B"],
            ["", "state"],
            hidden_size=UNITS,
            **both,
            **attributes,
        ),
        helper.make_node("Cast", ["state"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node(last, ["wide", "axis"], ["logits"], keepdims=0),
    ]
    ends = [("series", ["N", 1, STEPS]), ("logits", ["N", UNITS])]
    series, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends
    )
    graph = helper.make_graph(nodes, "lstm", [series], [logits], weights)
    opset = helper.make_opsetid("", 22)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


@pytest.mark.parametrize("batch", [None, 4], ids=["free batch", "fixed batch"])
@pytest.mark.parametrize("precision", HALVES)
def test_states_of_a_16_bit_lstm_have_its_type(student, series, tmp_path, precision, batch):
    """A parser of TensorRT 10.3 makes float32 of a missing state, and the builder refuses both."""
    (made,) = variants(
        student("lstm"), series, tmp_path, [precision], runtimes=["tensorrt"], batch=batch
    )

    node = _lstm(onnx.load(made.path))

    assert {node.inputs[index].dtype.name for index in (0, 1, 2, 3, 5, 6)} == {HALVES[precision]}


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_states_are_zeros_for_any_batch(rng, kind, directions):
    """The logits are those of the model without states, whose operators start at zero."""
    model = _recurrent(kind, directions=directions)
    series = rng.normal(size=(5, 1, STEPS)).astype("f4")

    whole = with_typed_states(model)

    assert len(_lstm(model).inputs) == 4
    for some in (series, series[:1]):
        np.testing.assert_array_equal(
            runner(emulate(whole))(some), runner(emulate(model))(some), strict=True
        )


def test_a_float32_lstm_stays_as_it_is():
    """Its missing states are float32 in every release."""
    model = _recurrent(TensorProto.FLOAT)

    assert with_typed_states(model) is model
    check_parser(model)


def _doubled(model):
    """Mix the types of two inputs of the LSTM."""
    whole = with_typed_states(model)
    (node,) = (node for node in whole.graph.node if node.op_type == "LSTM")
    whole.graph.initializer.append(
        helper.make_tensor("single", TensorProto.FLOAT, (1, 1, UNITS), [0.0] * UNITS)
    )
    node.input[5] = "single"
    return whole


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_recurrent(), "LSTM 'state' of 16 bits without initial states"),
        (_doubled(_recurrent()), "of mixed types, FLOAT, FLOAT16"),
        (with_typed_states(_recurrent(input_forget=1)), "with input_forget"),
        (with_typed_states(_recurrent(last="ReduceMean", clip=1.0)), None),
    ],
    ids=["no states", "mixed", "input_forget", "fine"],
)
def test_lstms_that_the_parser_refuses_are_refused(model, reason):
    """Before a file is written, with the node and the reason."""
    if reason is None:
        check_parser(model)
        return
    with pytest.raises(ModelError, match=reason):
        check_parser(model)


def _one_node(operator, kind, result=None):
    node = helper.make_node(operator, ["x"], ["y"])
    ends = [
        helper.make_tensor_value_info(name, each, [2, 2])
        for name, each in (("x", kind), ("y", result or kind))
    ]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("operator", "kind", "reason"),
    [
        ("Mish", TensorProto.FLOAT, "does not take Mish 'y' at all"),
        ("Identity", TensorProto.UINT8, "does not take Identity 'y' of UINT8"),
        ("Relu", TensorProto.DOUBLE, None),
        ("Not", TensorProto.BOOL, None),
        ("Relu", TensorProto.FLOAT16, None),
    ],
)
def test_operators_and_types_of_the_table(operator, kind, reason):
    """What is not in the table is named; what is in it passes."""
    model = _one_node(operator, kind)

    if reason is None:
        check_parser(model)
        return
    with pytest.raises(ModelError, match=reason):
        check_parser(model)
