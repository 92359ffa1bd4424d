"""The activations of an ONNX model: its layers, and their values on series.

Layers run as in the file, without ONNX Runtime's rewriting, so that every node and every rounding
of the file can be compared. Nodes of 16 bits are computed in float32 and rounded, as in
`emulation`, because a CPU drops such roundings or has no such kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.emulation import emulate
from edgedistill.optimize.execution import REFUSALS, class_count, runner
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.teachers.exact_session import exact_session

Feeds = Mapping[str, Floats]
Reader = Callable[[Feeds], list[Floats]]

ITEM_BYTES = 4  # every value that is read is float32

_BYTES = (TensorProto.UINT8, TensorProto.INT8)
_HALVES = {TensorProto.BFLOAT16: "bf16", TensorProto.FLOAT16: "fp16"}  # the coarser first
_PLUMBING = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"}  # formats, not layers
_SILENT = 4  # errors are raised as exceptions too


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A value inside a model, and the node that computes it."""

    name: str  # of the value
    read: str  # value that its readers get: the same, or its rounded form behind casts or Q/DQ
    node: str  # name of the node; without one, that of the value
    operator: str
    shape: tuple[int, ...]  # for one batch


@dataclass(frozen=True, slots=True)
class Range:
    """The range of a quantizer."""

    low: float
    high: float
    step: float


class Network:
    """A classifier of an ONNX file whose inner values can be read.

    Args:
        path: path of an ONNX file with one input (N, C, T); the first output holds the logits.

    Raises:
        ModelError: the file is missing, damaged, or takes something else.
    """

    can_explain = True
    changes = None

    def __init__(self, path: Path) -> None:
        self.name = path.name
        source = strip(load(path))
        self.precision = _precision(source)
        self._model = emulate(source) if _halves(source) else source
        graph = self._model.graph
        self._constants = {value.name: value for value in graph.initializer}
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._names = {name: node.name for node in source.graph.node for name in node.output}
        inputs = [value for value in graph.input if value.name not in self._constants]
        kind = inputs[0].type.tensor_type if len(inputs) == 1 else onnx.TypeProto.Tensor()
        if kind.elem_type != TensorProto.FLOAT or len(kind.shape.dim) != 3:
            seen = ", ".join(helper.printable_value_info(value) for value in inputs) or "nothing"
            raise ModelError(
                f"{path} takes {seen}. Models that are compared take one input, series (N, C, T) "
                "of float32: export them with edgedistill."
            )
        sizes = [dim.dim_value or None for dim in kind.shape.dim]
        self.input: str = inputs[0].name
        self.output: str = graph.output[0].name
        self.batch: int | None = sizes[0]  # None: any number of series a call
        self.shape = tuple(sizes[1:])  # C and T; None: any
        self.classes = class_count(self._model)
        self._run = runner(self._model)

    def logits(self, series: Floats) -> Floats:
        """Return the logits of series, (N, C, T) -> (N, K), which may be infinite or NaN."""
        return self._run(series)

    def layers(self, batch: int, length: tuple[int, int]) -> list[Layer]:
        """Return the values that depend on the series, floats only, in the order of the graph.

        Args:
            batch: series in a call.
            length: C and T of the series.
        """
        shapes = self._inferred(batch, length)
        found = []
        for name, shape in shapes.items():
            maker, read = self._layer_behind(name), self._read_of(name)
            plumbing = self._makers[name].op_type in _PLUMBING
            if (plumbing and name != self.output) or (read == self.output != name):
                continue
            shape = self._measured_shape(name, batch, length) if shape is None else shape
            node = self._names.get(maker.output[0]) or maker.output[0]
            found.append(
                Layer(name=name, read=read, node=node, operator=maker.op_type, shape=shape)
            )
        return found

    def sources(self, value: str, available: Collection[str]) -> set[str]:
        """Return the nearest available values, the input among them, that a value depends on."""
        return nodes_between(self._model, {*available, self.input} - {value}, [value])[0]

    def reader(self, values: Sequence[str], available: Collection[str] = ()) -> Reader:
        """Return a function that computes some values from others.

        Args:
            values: names of the values to compute.
            available: names of values to start from instead of the series, where possible.

        Returns:
            Function from values by name, the series under the name of the model's input, to the
            computed ones.

        Raises:
            ModelError: ONNX Runtime cannot run this part; also when the function is called.
        """
        starts, nodes = nodes_between(self._model, {*available, self.input} - set(values), values)
        session = _session(subgraph(self._model, sorted(starts), nodes, values), self.name)

        def read(feeds: Feeds) -> list[Floats]:
            inputs = zip(session.get_inputs(), sorted(starts), strict=True)
            with _translate_errors(self.name):
                found: list[Floats] = session.run(
                    None, {place.name: feeds[name] for place, name in inputs}
                )
            return found

        return read

    def quantizer_range(self, value: str) -> Range | None:
        """Return the range of the quantizer in front of a value; None without one scale for it."""
        node = self._makers.get(value)
        if node is None or node.op_type != "DequantizeLinear" or len(node.input) < 3:
            return None
        scale, zero = (self._constants.get(name) for name in node.input[1:3])
        if scale is None or zero is None or zero.data_type not in _BYTES:
            return None
        step, middle = numpy_helper.to_array(scale), numpy_helper.to_array(zero)
        if step.size != 1:
            return None
        limits, size = np.iinfo(middle.dtype), float(step.item())
        low, high = (size * (limit - int(middle.item())) for limit in (limits.min, limits.max))
        return Range(low, high, size)

    def _inferred(self, batch: int, shape: tuple[int, int]) -> dict[str, tuple[int, ...] | None]:
        """Return the floats that depend on the series with their shapes, None if unknown."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self._model)
        reached = {self.input}
        for node in whole.graph.node:
            if reached & set(node_inputs(node)):
                reached.update(filter(None, node.output))
        names = [n for node in whole.graph.node for n in node.output if n in reached]
        del whole.graph.output[:]
        whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        dims = next(v for v in whole.graph.input if v.name == self.input).type.tensor_type.shape.dim
        for dim, size in zip(dims, (batch, *shape), strict=True):
            dim.dim_value = size
        found: dict[str, tuple[int, ...] | None] = {}
        for value in _session(whole, self.name).get_outputs():
            if value.type == "tensor(float)":
                known = all(isinstance(size, int) for size in value.shape)
                found[value.name] = tuple(value.shape) if known else None
        return found

    def _measured_shape(self, value: str, batch: int, shape: tuple[int, int]) -> tuple[int, ...]:
        """Return the shape of a value by computing it."""
        blank = np.zeros((batch, *shape), dtype=np.float32)
        return self.reader([value])({self.input: blank})[0].shape

    def _layer_behind(self, value: str) -> onnx.NodeProto:
        """Return the node that computes a value, before its number format was changed."""
        node: onnx.NodeProto = self._makers[value]
        while node.op_type in _PLUMBING and node.input[0] in self._makers:
            node = self._makers[node.input[0]]
        return node

    def _read_of(self, value: str) -> str:
        """Return the cast or quantized form of a value, if all its readers get that."""
        readers = [node for node in self._model.graph.node if value in node_inputs(node)]
        if value == self.output or len(readers) != 1:
            return value
        if readers[0].op_type in ("Cast", "Identity"):
            return self._read_of(readers[0].output[0])
        if readers[0].op_type != "QuantizeLinear":
            return value
        whole = readers[0].output[0]
        return next((n.output[0] for n in self._model.graph.node if whole in node_inputs(n)), value)


def node_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the names of a node's inputs, those of the graphs inside it included."""
    inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [
        *filter(None, node.input),
        *(n for g in inner for one in g.node for n in node_inputs(one)),
    ]


def nodes_between(
    model: onnx.ModelProto, starts: Collection[str], values: Sequence[str]
) -> tuple[set[str], list[onnx.NodeProto]]:
    """Return which of the starts lead to some values, and the nodes between, in their order."""
    makers = {name: node for node in model.graph.node for name in node.output if name}
    ahead, seen = list(values), set(values)
    while ahead:
        name = ahead.pop()
        if name not in starts and name in makers:
            new = set(node_inputs(makers[name])) - seen
            seen |= new
            ahead += new
    used = seen & set(starts)
    needed = seen - used
    return used, [node for node in model.graph.node if needed & set(node.output)]


def subgraph(
    model: onnx.ModelProto,
    starts: Sequence[str],
    nodes: Sequence[onnx.NodeProto],
    values: Sequence[str],
) -> onnx.ModelProto:
    """Return a model of some nodes, from the starts to the values.

    Args:
        model: model of the nodes.
        starts: names of float32 values; the inputs, in this order.
        nodes: nodes in the order of the graph.
        values: names of values; the outputs, in this order.
    """
    needed = {*values, *(name for node in nodes for name in node_inputs(node))}
    result = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    result.graph.name = "part"
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(i for i in model.graph.initializer if i.name in needed)
    result.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in starts
    )
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in values)
    return result


def _halves(model: onnx.ModelProto) -> list[str]:
    """Return the 16-bit formats inside a model, the coarser first."""
    casts = (a.i for n in model.graph.node if n.op_type == "Cast" for a in n.attribute)
    types = {*(value.data_type for value in model.graph.initializer), *casts}
    return [name for kind, name in _HALVES.items() if kind in types]


def _precision(model: onnx.ModelProto) -> str:
    """Return the coarsest number format inside a model."""
    names = {node.op_type for node in model.graph.node}
    if any("quantize" in name.lower() or "QLinear" in name for name in names):
        return "int8"
    return next(iter(_halves(model)), "fp32")


def _session(model: onnx.ModelProto, name: str) -> onnxruntime.InferenceSession:
    """Return a session on one CPU thread, without graph optimization and memory arena."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with _translate_errors(name):
        return exact_session(model, options)


@contextmanager
def _translate_errors(name: str) -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {name}: {reason} Copy or export "
            "the model again."
        ) from error
