"""ONNX Runtime on the workstation's CPU, with INT8 as boards compute it.

The exact mode turns signed 8-bit weights into unsigned ones, and fails on two things that are valid
ONNX: weights without a zero point beside a scale for each channel, and weights or zero points that
several operators share. Such weights are made explicit before the model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from edgedistill.runtimes.session_settings import use_exact_int8

_CPU = ["CPUExecutionProvider"]


def exact_session(
    model: Path | onnx.ModelProto, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    """Open a CPU session that computes INT8 exactly on every processor.

    A file in ONNX Runtime's own format is opened as it is: its graph was fixed when it was written.

    Raises:
        Exception: ONNX Runtime cannot load the model.
    """
    use_exact_int8(options)
    loaded = _quantized(model) if isinstance(model, Path) else model
    explicit = None if loaded is None else explicit_weights(loaded)
    is_file_sound = isinstance(model, Path) and explicit is loaded
    source = str(model) if is_file_sound or explicit is None else explicit.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=_CPU)


def explicit_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that the exact mode can load: itself, or a copy with explicit weights.

    In the copy every reader of 8-bit weights has weights of its own, with zero points.
    """
    return _with_explicit_weights(model) if _needs_explicit_weights(model.graph) else model


def _quantized(path: Path) -> onnx.ModelProto | None:
    """Return the model of a file if it has 8-bit weights, with its tensors in other files."""
    if path.suffix != ".onnx" or not path.is_file():
        return None
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:  # ONNX Runtime names what is wrong with the file
        return None
    return onnx.load(path) if any(_weights(model.graph)) else None


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Yield the dequantizations of signed 8-bit constants, with their scales."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            weight, scale = constants.get(node.input[0]), constants.get(node.input[1])
            signed = weight is not None and weight.data_type == onnx.TensorProto.INT8
            if signed and scale is not None:
                yield node, scale


def _readers(graph: onnx.GraphProto, name: str) -> list[tuple[onnx.NodeProto, int]]:
    return [(n, at) for n in graph.node for at, value in enumerate(n.input) if value == name]


def _needs_explicit_weights(graph: onnx.GraphProto) -> bool:
    """Return whether a model has weights that the exact mode fails on."""
    return any(
        len(node.input) == 2
        or any(
            len(_readers(graph, name)) > 1
            for name in (node.output[0], node.input[0], node.input[2])
        )
        for node, _ in _weights(graph)
    )


def _with_explicit_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    explicit = onnx.ModelProto()
    explicit.CopyFrom(model)
    graph = explicit.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    outputs = {value.name for value in graph.output}
    for node, scale in list(_weights(graph)):
        readers = _readers(graph, node.output[0])
        for count, (reader, at) in enumerate(readers):
            own = onnx.NodeProto()
            own.CopyFrom(node)
            weight = onnx.TensorProto()
            weight.CopyFrom(constants[node.input[0]])
            weight.name = own.input[0] = f"{node.output[0]}.{count}.weight"
            own.name = own.output[0] = reader.input[at] = f"{node.output[0]}.{count}"
            zero = onnx.TensorProto()
            zero.CopyFrom(
                constants[node.input[2]]
                if len(node.input) == 3
                else numpy_helper.from_array(np.zeros(scale.dims, np.int8))
            )
            zero.name = f"{own.name}.zero"
            del own.input[2:]
            own.input.append(zero.name)
            graph.initializer.extend([weight, zero])
            nodes.insert(0, own)
        if readers and node.output[0] not in outputs:
            nodes.remove(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {*outputs, *_names_read(graph)}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return explicit


def _names_read(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the names that nodes read, those in the bodies of If, Loop and Scan too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            bodies = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
            for body in bodies:
                yield from _names_read(body)
