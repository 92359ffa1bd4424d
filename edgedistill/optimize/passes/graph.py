"""Load, check and strip ONNX models, in portable operators only.

Nothing here writes an operator of one runtime: the same file serves ONNX Runtime and TensorRT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx import inliner

from edgedistill.errors import ModelError
from edgedistill.optimize.passes.opset import COMPLAINTS, brief, with_latest_version


def load(path: Path) -> onnx.ModelProto:
    """Return the model of a file, checked, in our opset, see `with_latest_version`.

    Raises:
        ModelError: the file is missing, cut short, or not a valid ONNX model.
    """
    return with_latest_version(read(path))[0]


def read(path: Path) -> onnx.ModelProto:
    """Return the model of a file as it is, checked, with its tensors in other files.

    Raises:
        ModelError: the file is missing, cut short, or not a valid ONNX model.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}. Check the path.")
    try:
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path)
        _check_names(model)
    except (*COMPLAINTS, DecodeError, OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path} is cut short or no valid ONNX model: {brief(error)} "
            "Copy it again or export it anew."
        ) from error
    return model


def check(model: onnx.ModelProto, name: str) -> None:
    """Refuse a graph that breaks the ONNX rules, those of types and shapes included.

    Raises:
        ModelError: with `name` and the checker's first complaint.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except COMPLAINTS as error:
        raise ModelError(f"{name} breaks the ONNX rules: {brief(error)}") from error


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without all that it can run without: notes, traces, inferred shapes.

    The exporter writes stack traces, with paths of the machine it ran on, into the file. A model
    that travels should not contain them, and in a small student they outweigh the weights.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    del bare.metadata_props[:]
    bare.ClearField("doc_string")
    for graph in _graphs(bare.graph):
        del graph.value_info[:]
        for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            del part.metadata_props[:]
            part.ClearField("doc_string")
    return bare


def captured(graph: onnx.GraphProto) -> set[str]:
    """Return the names that graphs inside the nodes read, those of outer values among them."""
    inner = list(_graphs(graph))[1:]
    return {name for part in inner for node in part.node for name in node.input}


def parameters(model: onnx.ModelProto) -> int:
    """Return the number of float32 constants of a model."""
    sizes = (i.dims for i in model.graph.initializer if i.data_type == onnx.TensorProto.FLOAT)
    return sum(math.prod(dims) for dims in sizes)


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Count the occurrences of each operator in the graph, sorted by name."""
    names = [node.op_type for node in model.graph.node]
    return {name: names.count(name) for name in sorted(set(names))}


def channels_of(value: ir.Value | None) -> int:
    """Return the size of axis 1, or 0 if it is unknown."""
    if value is None or value.shape is None or len(value.shape) < 2:
        return 0
    size = value.shape[1]
    return size if isinstance(size, int) else 0


def _check_names(model: onnx.ModelProto) -> None:
    """Refuse names that are no UTF-8, which Protocol Buffers leaves as bytes."""
    for graph in _graphs(model.graph):
        values = (*graph.initializer, *graph.input, *graph.output)
        names = [value.name for value in values]
        for node in graph.node:
            names += (node.name, node.op_type, node.domain, *node.input, *node.output)
        wrong = [name for name in names if isinstance(name, bytes)]
        if wrong:
            raise ValueError(f"the name {wrong[0]!r} is no text")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph inside its nodes (the branches of If, the body of Loop)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = attribute.graphs or ([attribute.g] if attribute.HasField("g") else [])
            for part in inner:
                yield from _graphs(part)
