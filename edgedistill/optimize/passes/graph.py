"""Load, check and strip ONNX models, in portable operators only.

Nothing here writes an operator of one runtime: the same file serves ONNX Runtime and TensorRT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import inliner, shape_inference

from edgedistill.errors import ModelError


def load(path: Path) -> onnx.ModelProto:
    """Return the model of a file, checked.

    Raises:
        ModelError: the file is missing, cut short, or not a valid ONNX model.
    """
    if not path.is_file():
        raise ModelError(f"There is no model file {path}. Check the path.")
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ModelError(
            f"{path} is cut short or no valid ONNX model: {_brief(error)} "
            "Copy it again or export it anew."
        ) from error
    return onnx.load(path)


def check(model: onnx.ModelProto, name: str) -> None:
    """Refuse a graph that breaks the ONNX rules, those of types and shapes included.

    Raises:
        ModelError: with `name` and the checker's first complaint.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        raise ModelError(f"{name} breaks the ONNX rules: {_brief(error)}") from error


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


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph inside its nodes (the branches of If, the body of Loop)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = attribute.graphs or ([attribute.g] if attribute.HasField("g") else [])
            for part in inner:
                yield from _graphs(part)


def _brief(error: Exception) -> str:
    """Return a checker's complaint on one line; it may quote whole node listings."""
    return " ".join(str(error).split())[:300].rstrip(".") + "."
