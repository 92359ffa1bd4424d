"""From a torch module to the steps that a change takes from the series to the logits.

torch.fx records the operations of a module on a batch; each supported operation becomes a rule, and
a step with it. An unsupported one ends the attempt with a reason, and the caller runs the whole
network instead. The steps are then made fewer: factors go into weights, and masks are left out that
let nothing through.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from edgedistill.attribution.incremental.layers import (
    Conv,
    Join,
    Relu,
    Rule,
    Scale,
    Sum,
    UnsupportedModule,
)
from edgedistill.attribution.incremental.rule_matching import LEAVES, rule_of

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


@dataclass(frozen=True, slots=True)
class Step:
    """A layer: its name, its rule, the names of its inputs."""

    name: str
    rule: Rule
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """Everything between the series and the logits, in order."""

    source: str
    steps: tuple[Step, ...]
    values: Mapping[str, Tensor]  # of every layer, for the clean series
    logits: str


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return type(m) in LEAVES  # a subclass may do more than its base


def trace(model: nn.Module) -> fx.GraphModule:
    """Return the recorded graph of a module; it shares the module's parameters.

    Raises:
        UnsupportedModule: the operations depend on the input, or cannot be recorded.
    """
    try:
        graph = fx.GraphModule(model, _Tracer().trace(model))
    except (Exception, SystemExit) as error:
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
    return Steps(source.name, _to_channels_last(_unbounded(_folded(steps))), tensors, logits.name)


def _folded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with the factors behind a convolution in its weight: a pass less."""
    users = Counter(name for step in steps for name in step.inputs)
    result: dict[str, Step] = {}
    for step in steps:
        before = result.get(step.inputs[0])
        if before and users[before.name] == 1 and isinstance(step.rule, Scale):
            scaled = _scaled(before, step.rule.factor, result, users)
        else:
            scaled = None
        if before is None or scaled is None:
            result[step.name] = step
        else:  # the name stays that of the factors: what comes next reads the clean value there
            result |= {part.name: part for part in scaled[:-1]}
            del result[before.name]
            result[step.name] = replace(scaled[-1], name=step.name)
    return tuple(result.values())


def _unbounded(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps without masks behind convolutions that end in ReLUs: those have theirs."""
    masked: set[str] = set()  # outputs that must be zero beyond the borders
    for step in reversed(steps):
        passes_on = isinstance(step.rule, Join | Sum | Scale) and step.name not in masked
        if not isinstance(step.rule, Relu) and not passes_on:
            masked.update(step.inputs)
    return tuple(
        replace(step, rule=replace(step.rule, bounded=False))
        if isinstance(step.rule, Conv) and step.name not in masked
        else step
        for step in steps
    )


def _to_channels_last(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with constant weights in the memory layout that convolutions read."""
    return tuple(
        replace(step, rule=step.rule.to_channels_last())
        if isinstance(step.rule, Conv) and not step.rule.weight.requires_grad
        else step
        for step in steps
    )


def _scaled(
    step: Step, factor: Tensor | float, steps: Mapping[str, Step], users: Mapping[str, int]
) -> list[Step] | None:
    """Return a convolution, or several side by side and what joins them, times a factor."""
    if isinstance(step.rule, Conv):
        return [replace(step, rule=step.rule.scaled(factor))]
    parts = [steps.get(name) for name in step.inputs]
    if not isinstance(step.rule, Join) or not isinstance(factor, Tensor):
        return None
    convs = [part.rule for part in parts if part and isinstance(part.rule, Conv)]
    if len(convs) < len(parts) or any(users[name] > 1 for name in step.inputs):
        return None
    factors = torch.split(factor, [len(conv.weight) for conv in convs])
    rules = [conv.scaled(part) for conv, part in zip(convs, factors, strict=True)]
    return [
        *(replace(part, rule=rule) for part, rule in zip(parts, rules, strict=True) if part),
        step,
    ]


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
