"""A model that refers to anything outside its file is refused, wherever in it that stands."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.errors import ModelError
from edgedistill.runtimes import onnx_file
from edgedistill.runtimes.onnx_file import MESSAGES, check_alone
from edgedistill.runtimes.onnxruntime import OrtRuntime

OPSET = [helper.make_opsetid("", 20)]


def _elsewhere(location="../secret.bin"):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def _constant(name, tensor):
    return helper.make_node("Constant", [], [name], value=tensor)


def _model(nodes=(), initializers=(), **more):
    series = helper.make_tensor_value_info("series", TensorProto.FLOAT, ["N", 1, 24])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(list(nodes), "g", [series], [logits], list(initializers))
    return helper.make_model(graph, opset_imports=OPSET, ir_version=10, **more)


def _in_branch(tensor):
    branch = helper.make_graph([_constant("c", tensor)], "b", [], [])
    return _model([helper.make_node("If", ["series"], ["x"], then_branch=branch)])


def _in_function(tensor):
    function = helper.make_function("own", "F", ["a"], ["b"], [_constant("b", tensor)], OPSET)
    return _model(functions=[function])


def _in_attribute_of_function(tensor):
    function = helper.make_function("own", "F", ["a"], ["b"], [], OPSET)
    function.attribute_proto.append(helper.make_attribute("value", tensor))
    return _model(functions=[function])


def _sparse(tensor):
    indices = numpy_helper.from_array(np.array([0]), "i")
    return onnx.SparseTensorProto(values=tensor, indices=indices, dims=[2])


def _as_sparse(tensor):
    model = _model()
    model.graph.sparse_initializer.append(_sparse(tensor))
    return model


def _in_list(tensor):
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("list", [tensor]))
    return _model([node])


def _in_sparse_list(tensor):
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("list", [_sparse(tensor)]))
    return _model([node])


def _in_training(tensor):
    model = _model()
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


PLACES = {
    "initializer": lambda tensor: _model(initializers=[tensor]),
    "constant": lambda tensor: _model([_constant("c", tensor)]),
    "branch": _in_branch,
    "function": _in_function,
    "attribute of a function": _in_attribute_of_function,
    "sparse": _as_sparse,
    "list": _in_list,
    "sparse list": _in_sparse_list,
    "training": _in_training,
}


def _saved(model, path):
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_elsewhere_is_refused(place, tmp_path):
    """The same model with the tensor inside is none of it."""
    inside = numpy_helper.from_array(np.ones((1, 2), np.float32), "w")
    check_alone(_saved(PLACES[place](inside), tmp_path / "sound.onnx"))
    path = _saved(PLACES[place](_elsewhere()), tmp_path / "other.onnx")

    with pytest.raises(ModelError, match=r"other.onnx keeps tensors outside of the file"):
        check_alone(path)


@pytest.mark.parametrize("field", ["data_location", "external_data"])
def test_either_field_is_enough(field, tmp_path):
    """Which of the two a runtime goes by is its own affair."""
    tensor = _elsewhere()
    tensor.ClearField(field)
    path = _saved(_model(initializers=[tensor]), tmp_path / "m.onnx")

    with pytest.raises(ModelError, match="keeps tensors outside"):
        check_alone(path)


def test_a_second_graph_is_looked_at_too(tmp_path):
    """Protocol Buffers merges what stands twice."""
    content = _model().SerializeToString()
    second = onnx.ModelProto(graph=onnx.GraphProto(initializer=[_elsewhere()]))
    path = tmp_path / "m.onnx"
    path.write_bytes(content + second.SerializeToString())

    with pytest.raises(ModelError, match="keeps tensors outside"):
        check_alone(path)


def test_every_way_to_a_tensor_is_known():
    """The table holds each field of ONNX's own description that leads to a tensor, and no other."""
    known = {}
    leads = {"TensorProto"}
    todo = [onnx.ModelProto.DESCRIPTOR]
    seen = {}
    while todo:
        message = todo.pop()
        if message.name in seen:
            continue
        fields = {f.number: f.message_type for f in message.fields if f.message_type is not None}
        seen[message.name] = fields
        todo += fields.values()
    while True:
        more = {m for m, fields in seen.items() if leads & {f.name for f in fields.values()}}
        if more <= leads:
            break
        leads |= more
    for message in leads:
        fields = seen[message].items()
        known[message] = {number: f.name for number, f in fields if f.name in leads}

    assert known == MESSAGES
    numbers = TensorProto.DESCRIPTOR.fields_by_name
    assert numbers["external_data"].number == onnx_file.EXTERNAL_DATA
    assert numbers["data_location"].number == onnx_file.DATA_LOCATION


def _deep(levels):
    content = b""
    for _ in range(levels):
        attribute = b"\x32" + _length(content) + content  # g of an attribute
        node = b"\x2a" + _length(attribute) + attribute
        content = b"\x0a" + _length(node) + node
    return b"\x3a" + _length(content) + content


def _length(content):
    found, size = b"", len(content)
    while size > 0x7F:
        found += bytes([size & 0x7F | 0x80])
        size >>= 7
    return found + bytes([size])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"\x3a\x05\x0a", "is cut off"),
        (b"\x0b", "of no known kind"),
        (b"\xff" * 20, "is too long"),
        (b"\x80", "out of range"),
        (b"\x3a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "is cut off"),
        (b"\xba\x80\x80\x80\x10\x00", "of no known kind"),  # a tag beyond 32 bits
        (_deep(60), "too deep in each other"),
    ],
    ids=["empty", "cut", "group", "long", "half", "huge", "tag", "deep"],
)
def test_what_is_no_onnx_file_is_refused(content, message, tmp_path):
    """A reader that is more lenient must not find what this one did not."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=f"m.onnx is no ONNX file that can be read: .*{message}"):
        check_alone(path)


def test_a_file_that_is_not_there_is_a_model_error(tmp_path):
    """As every file that cannot be read."""
    with pytest.raises(ModelError, match="No such file"):
        check_alone(tmp_path / "m.onnx")


def test_a_runtime_does_not_follow_a_model_outside(world, tmp_path):
    """The tiny network, its weights moved to a file beside; ONNX Runtime alone would read it."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    model = onnx.load(world.folder / "student.onnx")
    path = folder / "student.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)

    with pytest.raises(ModelError, match="keeps tensors outside of the file"):
        OrtRuntime(path)
