"""Incremental saliency as a module of plain operations, for export to ONNX.

Two forms compute the same. `FollowedChanges` runs the series once and passes on only what windows
change; `PerturbedCopies` runs the whole network on every copy, and takes any network.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers import UnsupportedModule
from edgedistill.attribution.incremental.propagation import record
from edgedistill.attribution.incremental.regions import ReadRegion, Region
from edgedistill.attribution.incremental.tracing import Steps, follow

_NEAR = 1.0  # changes in units of the temperature; beyond it nothing cancels
_COEFFICIENTS = tuple(1 / math.factorial(n) for n in range(10, 1, -1))  # of exp(u) - 1 - u
_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


class FollowedChanges(nn.Module):
    """Map series (N, C, T) and levels to logits (N, K) and their changes (N, W, K)."""

    def __init__(self, model: nn.Module, sample: Tensor, starts: Tensor, width: int) -> None:
        """Record the network and the positions that every window reaches.

        Args:
            model: model in evaluation mode; it becomes part of this module, and no operation of it
                works in place any more.
            sample: series, (N, C, T); their values do not matter.
            starts: first step of each window, (W,).
            width: w, steps of a window.

        Raises:
            UnsupportedModule: the network has an operation without a graph layer.
        """
        super().__init__()
        graph = record(model)
        if isinstance(graph, UnsupportedModule):
            raise graph
        with torch.no_grad():
            steps = follow(graph, sample)
        self._source, self._logits = steps.source, steps.logits
        source = Region(starts[:, None], width, sample.shape[2])
        self.window = ReadRegion(source)
        self.layers, self.saving = _layers(steps, source)
        self._plan = [(step.name, step.inputs) for step in steps.steps]
        reading = {step.inputs[0] for step in steps.steps if step.rule.reads_clean}
        self._read = sorted(reading | {steps.logits})
        self.clean = _with_outputs(graph, self._read)

    def forward(self, series: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, and their changes if a window is set to a level a channel.

        Args:
            series: (N, C, T).
            level: value that fills each window, of a shape that broadcasts to (N, C, W).
        """
        clean = dict(zip(self._read, self.clean(series), strict=True))
        changes = {self._source: level[..., None] - self.window(series)}  # (N, C, W, w)
        for (name, inputs), layer in zip(self._plan, self.layers, strict=True):
            changes[name] = layer([changes[i] for i in inputs], clean.get(inputs[0]))
        return clean[self._logits], changes[self._logits]


class PerturbedCopies(nn.Module):
    """Map series (N, C, T) and levels to logits (N, K) and their changes (N, W, K)."""

    inside: Tensor

    def __init__(self, model: nn.Module, length: int, starts: Tensor, width: int) -> None:
        """Compute the steps that each window covers.

        Args:
            model: maps (N, C, T) to logits (N, K); in evaluation mode.
            length: T.
            starts: first step of each window, (W,).
            width: w, steps of a window.
        """
        super().__init__()
        self.model = model
        offset = torch.arange(length) - starts[:, None]  # (W, T)
        inside = ((offset >= 0) & (offset < width))[:, None]
        self.register_buffer("inside", inside)  # (W, 1, T)

    def forward(self, series: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, and their changes if a window is set to a level a channel.

        Args:
            series: (N, C, T).
            level: value that fills each window, of a shape that broadcasts to (N, C, W).
        """
        patch = level.transpose(1, 2)[..., None]  # (N, W, C, 1)
        copies = torch.where(self.inside, patch, series[:, None])  # (N, W, C, T)
        # The series go along, so that the graph holds the network once.
        rows = torch.cat([series[:, None], copies], dim=1)
        logits = self.model(rows.reshape(-1, *series.shape[1:]))
        logits = logits.reshape(-1, len(self.inside) + 1, logits.shape[1])  # (N, 1 + W, K)
        return logits[:, 0], logits[:, 1:] - logits[:, :1]


def window_scores(logits: Tensor, changes: Tensor, *, temperature: float) -> Tensor:
    """Return `KL(p(x) || p(x~)) * temperature**2` of every window, (N, W), never negative.

    Args:
        logits: (N, K).
        changes: logits of the perturbed copies less the clean ones, (N, W, K).
        temperature: divides the logits.

    At a high temperature the distributions of a series and its copy are so close that the terms
    of their divergence cancel below float32's rounding. So no terms that cancel are added here:
    with the changes centered to a mean of 0 under p, the divergence is

        KL(p || q) = log(sum p exp(u)) = log1p(sum p (exp(u) - 1 - u)),

    whose terms are all positive, and which a short series gives without a difference.
    """
    log_p = functional.log_softmax(logits / temperature, dim=-1)[:, None]
    p = log_p.exp()
    moved = changes / temperature
    centered = moved - (p * moved).sum(dim=-1, keepdim=True)
    log_q = functional.log_softmax((logits[:, None] + changes) / temperature, dim=-1)
    far = (p * (log_p - log_q)).sum(dim=-1).relu()
    is_near = centered.abs().amax(dim=-1) <= _NEAR
    return torch.where(is_near, _near(p, centered), far) * temperature**2


def _layers(steps: Steps, source: Region) -> tuple[nn.ModuleList, float]:
    """Return a layer for every step, and the multiply-accumulates they save of the full pass."""
    regions: dict[str, Region | None] = {steps.source: source}
    layers = nn.ModuleList()
    spent = full = 0.0
    for step in steps.steps:
        sources = [regions[name] for name in step.inputs]
        layer = step.rule.graph_layer(sources)
        if layer is None:
            raise UnsupportedModule(
                f"a file cannot follow changes through {type(step.rule).__name__}"
            )
        layers.append(layer)
        regions[step.name] = step.rule.region(sources)
        spent += step.rule.macs(sources[0])
        full += step.rule.full_macs()
    return layers, full / spent if spent else 1.0


def _with_outputs(graph: fx.GraphModule, names: list[str]) -> fx.GraphModule:
    """Return the graph with these nodes' values as outputs, none of them overwritten in place."""
    for module in graph.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment] # modules declare no attributes
    nodes: dict[str, Any] = {node.name: node for node in graph.graph.nodes}
    for node in nodes.values():
        node.target = _OUT_OF_PLACE.get(node.target, node.target)
        if node.kwargs.get("inplace"):
            node.update_kwarg("inplace", False)
    output = next(node for node in nodes.values() if node.op == "output")
    output.args = (tuple(nodes[name] for name in names),)
    graph.recompile()
    return graph


def _near(p: Tensor, centered: Tensor) -> Tensor:
    """Return log1p(sum p (exp(u) - 1 - u)) for |u| up to `_NEAR`; anything finite beyond it."""
    u = centered.clamp(-_NEAR, _NEAR)
    excess = u * _COEFFICIENTS[0] + _COEFFICIENTS[1]  # Horner's scheme
    for coefficient in _COEFFICIENTS[2:]:
        excess = excess * u + coefficient
    total = (p * u * u * excess).sum(dim=-1)
    return 2 * torch.atanh(total / (total + 2))  # log1p(total): ONNX has no operator for that
