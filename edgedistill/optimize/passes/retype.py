"""Change the floating-point type that the nodes of a model compute in.

What a node takes and gives in the new type is read off the operator's schema. It stays as it is, as
an island between casts, if it has no schema, takes no such type, or has graphs inside (If, Loop,
Scan). An input that the schema fixes, such as the scales of a Resize, keeps its type, as does an
output whose type an attribute fixes, such as that of a Cast.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir
from onnx import shape_inference

_INTERFACE = ir.DataType.FLOAT  # of inputs and outputs of the model, whatever is inside


@dataclass(frozen=True, slots=True)
class _Change:
    """What a node takes and gives in the new type: indices of its inputs and outputs."""

    inputs: frozenset[int]
    outputs: frozenset[int]


def retype(
    model: ir.Model, source: ir.DataType, target: ir.DataType, islands: Collection[ir.Node] = ()
) -> int:
    """Make the nodes of a model compute in `target` where they compute in `source`, in place.

    Its inputs and outputs are float32 afterwards.

    Args:
        model: model with the types of its values; local functions are inlined.
        source: type that is replaced.
        target: type that replaces it.
        islands: nodes that stay as they are, between casts.

    Returns:
        Number of nodes that compute in `target` now.
    """
    return _Retyping(model, source, target, set(islands)).run()


def takes(node: ir.Node, index: int, dtype: ir.DataType, opsets: dict[str, int]) -> bool:
    """Return whether an operator's schema allows a type for an input of a node."""
    schema = _schema(node, opsets)
    return schema is not None and f"tensor({_spelled(dtype)})" in _types(schema, index)


class _Retyping:
    """One run over the top-level nodes of a graph."""

    def __init__(
        self, model: ir.Model, source: ir.DataType, target: ir.DataType, islands: set[ir.Node]
    ) -> None:
        self._graph = model.graph
        self._opsets = dict(model.opset_imports)
        self._source, self._target = source, target
        nodes = list(self._graph)
        self._changes = {
            node: change
            for node in nodes
            if node not in islands and (change := self._change(node)) is not None
        }
        self._nodes = nodes
        self._retyped: set[ir.Value] = set()
        self._casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def run(self) -> int:
        for value in self._graph.inputs:
            if value.dtype == self._source != _INTERFACE:
                self._mark(value)
        for value in list(self._graph.initializers.values()):
            self._retype_constant(value)
        for node in self._nodes:
            self._visit(node)
        self._cast_outputs()
        return len(self._changes)

    def _change(self, node: ir.Node) -> _Change | None:
        """Return what changes at a node; None if it is to stay as it is."""
        schema = _schema(node, self._opsets)
        values = [value for value in (*node.inputs, *_used_outputs(node)) if value is not None]
        if schema is None or _graphs(node) or not all(_is_tensor(value) for value in values):
            return None
        name = f"tensor({_spelled(self._target)})"
        inputs = frozenset(
            index
            for index, value in enumerate(node.inputs)
            if value is not None and value.dtype == self._source and name in _types(schema, index)
        )
        if not inputs:
            return None
        outputs = self._retyped_outputs(schema, node, inputs)
        return None if outputs is None else _Change(inputs, outputs)

    def _retyped_outputs(
        self, schema: onnx.defs.OpSchema, node: ir.Node, changed: frozenset[int]
    ) -> frozenset[int] | None:
        """Return the outputs that follow the inputs to the new type; None if that is unknown."""
        proto = ir.to_proto(node)
        types = {}
        for index, value in enumerate(node.inputs):
            if value is not None and value.type is not None:
                proto.input[index] = f"input_{index}"
                dtype = self._target if index in changed else value.type.dtype
                types[f"input_{index}"] = _type_proto(dtype, value.shape)
        names = {index: f"output_{index}" for index, _ in enumerate(node.outputs)}
        for index, name in names.items():
            proto.output[index] = name
        opsets = [onnx.helper.make_opsetid(*item) for item in self._opsets.items()]
        try:
            inferred = shape_inference.infer_node_outputs(
                schema, proto, types, opset_imports=opsets
            )
        except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError):
            return None
        kinds = {
            index: inferred[name].tensor_type.elem_type if name in inferred else 0
            for index, name in names.items()
            if node.outputs[index].dtype == self._source
        }
        if not set(kinds.values()) <= {self._source, self._target}:
            return None
        return frozenset(index for index, kind in kinds.items() if kind == self._target)

    def _retype_constant(self, value: ir.Value) -> None:
        """Store a constant in the new type, once more if a schema fixes the old one somewhere.

        An island reads it through a cast: what it loses there, its neighbors lose anyway.
        """
        if value.dtype != self._source or value.const_value is None:
            return
        uses = [(use.node, use.idx, self._changes.get(use.node)) for use in value.uses()]
        wanted = [(node, at) for node, at, change in uses if change and at in change.inputs]
        if not wanted:
            return
        stored = ir.tensor(value.const_value.numpy().astype(self._target.numpy()))
        free = all(change is None or at in change.inputs for _, at, change in uses)
        if free and not value.is_graph_output():
            value.const_value = stored
            self._mark(value)
            return
        copy = ir.val(f"{value.name}.{_spelled(self._target)}", const_value=stored)
        self._graph.register_initializer(copy)
        self._retyped.add(copy)
        for node, at in wanted:
            node.replace_input_with(at, copy)

    def _visit(self, node: ir.Node) -> None:
        change = self._changes.get(node)
        for index, value in enumerate(node.inputs):
            if value is None:
                continue
            wanted = change is not None and index in change.inputs
            if wanted != (value in self._retyped):
                dtype = self._target if wanted else self._source
                node.replace_input_with(index, self._cast(value, dtype, node))
        for inner in _inner_nodes(node):  # they read outer values by name
            for index, value in enumerate(inner.inputs):
                if value is not None and value in self._retyped:
                    inner.replace_input_with(index, self._cast(value, self._source, node))
        for index in change.outputs if change else ():
            self._mark(node.outputs[index])

    def _cast(self, value: ir.Value, dtype: ir.DataType, before: ir.Node) -> ir.Value:
        if (value, dtype) not in self._casts:
            cast = ir.node("Cast", [value], {"to": dtype})
            cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(dtype), value.shape
            before.prepend(cast)
            self._casts[value, dtype] = cast.outputs[0]
        return self._casts[value, dtype]

    def _mark(self, value: ir.Value) -> None:
        value.dtype = self._target
        self._retyped.add(value)

    def _cast_outputs(self) -> None:
        """Give the name of each output that is not float32 to a cast behind its node."""
        for index, value in enumerate(self._graph.outputs):
            if value.dtype in (self._source, self._target) and value.dtype != _INTERFACE:
                name = value.name
                value.name = f"{name}_{_spelled(value.dtype)}"
                cast = ir.node("Cast", [value], {"to": _INTERFACE})
                cast.outputs[0].name = name
                cast.outputs[0].type = ir.TensorType(_INTERFACE)
                cast.outputs[0].shape = value.shape
                self._graph.append(cast)
                self._graph.outputs[index] = cast.outputs[0]


def _schema(node: ir.Node, opsets: dict[str, int]) -> onnx.defs.OpSchema | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(domain, 0), domain)
    except onnx.defs.SchemaError:
        return None


def _types(schema: onnx.defs.OpSchema, index: int) -> Collection[str]:
    """Return the types that an operator takes as an input; the last formal one may be variadic."""
    formal: Any = schema.inputs[min(index, len(schema.inputs) - 1)]
    types: Collection[str] = formal.types
    return types


def _spelled(dtype: ir.DataType | None) -> str:
    """Return a type as ONNX's schemas spell it.

    >>> _spelled(ir.DataType.BFLOAT16)
    'bfloat16'
    """
    return "" if dtype is None else dtype.name.lower()


def _type_proto(dtype: ir.DataType, shape: ir.Shape | None) -> onnx.TypeProto:
    dims = None if shape is None else [d if isinstance(d, int) else d.value for d in shape]
    return onnx.helper.make_tensor_type_proto(int(dtype), dims)


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) or value.const_value is not None


def _used_outputs(node: ir.Node) -> list[ir.Value]:
    return [output for output in node.outputs if output.uses() or output.is_graph_output()]


def _graphs(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs inside a node."""
    graphs: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.as_graphs())
    return graphs


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    for graph in _graphs(node):
        for inner in list(graph):
            yield inner
            yield from _inner_nodes(inner)
