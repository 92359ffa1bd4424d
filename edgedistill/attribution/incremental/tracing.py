"""From a torch module to the rules that pass a change through it.

torch.fx records the operations of a module on a batch; each supported operation becomes
a rule. An unsupported one ends the attempt with a reason, and the caller runs the whole
network instead.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any, cast

from torch import Tensor, fx, nn

from edgedistill.attribution.incremental.rule_matching import LEAVES, rule_of
from edgedistill.attribution.incremental.steps import (
    Step,
    Steps,
    UnsupportedModule,
    folded,
    to_channels_last,
    unbounded,
)

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return type(m) in LEAVES  # a subclass may do more than its base


def _values(graph: fx.GraphModule, series: Tensor) -> dict[str, Any]:
    """Run a graph and return the value of every node, also where a layer would overwrite it.

    torch's own interpreter takes longer for its bookkeeping than a compact network runs.
    """
    values: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = series
        elif node.op != "output":
            args = fx.map_arg(node.args, values.__getitem__)
            if _overwrites(graph, node):
                args = (args[0].clone(), *args[1:])
            kwargs = fx.map_arg(node.kwargs, values.__getitem__)
            values[node] = _call(graph, node, cast("tuple[Any, ...]", args), kwargs)
    return {node.name: value for node, value in values.items()}


def _call(graph: fx.GraphModule, node: fx.Node, args: tuple[Any, ...], kwargs: Any) -> Any:
    name = str(node.target)
    if node.op == "call_module":
        return graph.get_submodule(name)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], name)(*args[1:], **kwargs)
    if node.op == "get_attr":
        return reduce(getattr, name.split("."), graph)
    return cast("Callable[..., Any]", node.target)(*args, **kwargs)


def _overwrites(module: nn.Module, node: fx.Node) -> bool:
    """Return whether an operation writes into its first input."""
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_function":
        return bool(node.kwargs.get("inplace")) or node.target in _IN_PLACE
    return node.op == "call_method" and str(node.target).endswith("_")


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the recorded graph of a module; it shares the module's parameters.

    Raises:
        UnsupportedModule: the operations depend on the input, or cannot be recorded.
    """
    try:
        graph = fx.GraphModule(model, _Tracer().trace(model))
    except Exception as error:
        raise UnsupportedModule(f"{type(model).__name__} cannot be traced: {error}") from error
    overwritten: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if overwritten.intersection(node.all_input_nodes):
            raise UnsupportedModule(f"{node.name} reads a value that was overwritten")
        if _overwrites(graph, node):
            overwritten.add(node.all_input_nodes[0])
    return graph


def follow(graph: fx.GraphModule, series: Tensor) -> Steps:
    """Run the clean series, (N, C, T), and return the rule of every layer they pass.

    Raises:
        UnsupportedModule: there is an operation without a rule.
    """
    values = _values(graph, series)
    nodes = list(graph.graph.nodes)
    source = next(node for node in nodes if node.op == "placeholder")
    changing = {source}
    steps = []
    for node in nodes:
        inputs = [n for n in node.all_input_nodes if n in changing]
        if not inputs or node.op == "output":
            continue
        changing.add(node)
        rule = rule_of(graph, node, values)
        steps.append(Step(node.name, rule, tuple(n.name for n in inputs)))
    logits = next(node for node in nodes if node.op == "output").args[0]
    if not isinstance(logits, fx.Node) or values[logits.name].ndim != 2:
        raise UnsupportedModule("the module gives something other than logits (N, K)")
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return Steps(source.name, to_channels_last(unbounded(folded(steps))), tensors, logits.name)
