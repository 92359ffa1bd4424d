"""Exact perturbation saliency at a small, flat cost: only what a window changes is computed.

A window can only change what its receptive field reaches. So the clean series are run
once, and for every window the *difference* it makes is passed from layer to layer,
where it is not zero. For a convolutional network the cost of a window does not depend
on the length of the series; and because two large logits are never subtracted, the
result is closer to the truth than running the whole network twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from edgedistill.attribution.functional import check_logits, perturb
from edgedistill.attribution.incremental.chain import as_chain
from edgedistill.attribution.incremental.chain import changes as chain_changes
from edgedistill.attribution.incremental.layers import Change, LastState, UnsupportedModule, Value
from edgedistill.attribution.incremental.regions import Clean, Region
from edgedistill.attribution.incremental.tracing import Step, Steps, follow, trace

MEMORY_BYTES = 512 * 1024**2  # for changes and perturbed copies at any time
LEAST_SAVING = 1.3  # of multiply-accumulates; below it the whole network is run
_CHUNK_BYTES = 8 * 1024**2  # of the widest layer's changes: caches are faster than memory
_PASS_BYTES = 8 * 1024**2  # of the widest layer in a pass of whole copies, for the same reason
_COMPILED_MACS = 2e7  # below it, loading a compiled loop takes longer than it saves
_COPIES = 8  # of the widest layer that are alive at once
_WIDEST = 256  # channels of an unknown model's widest layer, for each of the series'


@dataclass(frozen=True, slots=True)
class IncrementalResult:
    """The changes of the logits by windows."""

    changes: Tensor  # logits of the perturbed copy less the clean ones, (N, W, K)
    method: Literal["incremental", "full"]
    reason: str = ""  # why the whole network was run
    saving: float = 1.0  # multiply-accumulates of the full pass over those of the incremental one


class IncrementalModel:
    """A model run on some series, ready to compute the changes by windows of them.

    Batch norm in training mode uses the statistics of the clean batch for the copies
    too: the change by a window is then defined by the clean series, and the copies
    leave no trace in the running statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        series: Tensor,
        *,
        method: Literal["auto", "incremental", "full"] = "auto",
        memory_bytes: int = MEMORY_BYTES,
        graph: fx.GraphModule | UnsupportedModule | None = None,
    ) -> None:
        """Run the clean series.

        Args:
            model: maps (N, C, T) to logits (N, K).
            series: (N, C, T).
            method: "auto" follows the changes where the model is supported and it saves
                multiply-accumulates; "full" runs perturbed copies through the whole model.
            memory_bytes: bound on the memory of changes or copies at any time.
            graph: graph that `record` returned, for a model that is run more than once.

        Raises:
            UnsupportedModule: `method` is "incremental" and the model cannot be followed.
            ModelError: the model gives no logits (N, K).
        """
        self._model, self._series = model, series
        self._method, self._memory_bytes = method, memory_bytes
        self._steps: Steps | None = None
        self._reason = "asked for"
        if method != "full":
            graph = graph or record(model)
            try:
                if isinstance(graph, UnsupportedModule):
                    raise graph
                self._steps = follow(graph, series)
            except UnsupportedModule as error:
                if method == "incremental":
                    raise
                self._reason = str(error)
        self.logits = self._clean_logits()  # (N, K)

    def changes(self, starts: Tensor, patches: Tensor) -> IncrementalResult:
        """Return the change of the logits by each window.

        Args:
            starts: first step of each window, (N, W), or (1, W) if all series share them.
            patches: values that fill each window, (N, W, C, w).
        """
        if self._steps is None:
            return self._full(starts, patches, self._reason)
        propagation = _Propagation(self._steps, self._series, starts, patches)
        large = propagation.macs * patches.shape[0] * patches.shape[1] > _COMPILED_MACS
        if self._method == "auto" and propagation.saving < LEAST_SAVING:
            reason = f"following the changes saves only {propagation.saving:.2f}x"
            return self._full(starts, patches, reason, propagation.saving)
        if self._method == "auto" and propagation.is_recurrent and not large:
            return self._full(starts, patches, "there is little to compute", propagation.saving)
        chain = as_chain(self._steps) if large and not patches.requires_grad else None
        if chain is None:
            changes = propagation.changes(self._memory_bytes)
        else:
            changes = chain_changes(chain, self._series, starts, patches)
        return IncrementalResult(changes, "incremental", saving=propagation.saving)

    def _clean_logits(self) -> Tensor:
        """Return the logits of the clean series, (N, K)."""
        if self._steps is not None:
            return self._steps.values[self._steps.logits]
        # A copy, because modules write into it, and the perturbed copies come from the series.
        return check_logits(self._model(self._series.clone()), len(self._series))

    def _full(
        self, starts: Tensor, patches: Tensor, reason: str, saving: float = 1.0
    ) -> IncrementalResult:
        """Run the whole model on perturbed copies, as many at a time as memory allows."""
        series, windows = self._series, patches.shape[1]
        chunk = self._windows_a_pass()
        everywhere = starts.expand(len(series), -1)
        parts = []
        for first in range(0, windows, chunk):
            last = min(first + chunk, windows)
            copies = perturb(series, everywhere[:, first:last], patches[:, first:last])
            parts.append(self._model(copies.flatten(0, 1)).reshape(len(series), last - first, -1))
        changes = torch.cat(parts, dim=1) - self.logits[:, None]
        return IncrementalResult(changes, "full", reason, saving)

    def _windows_a_pass(self) -> int:
        """Return the number of windows whose whole copies, of all series, form one pass."""
        series, values = self._series, () if self._steps is None else self._steps.values.values()
        widest = max((value.numel() for value in values), default=series.numel() * _WIDEST)
        budget = self._memory_bytes // _COPIES
        recurrent = any(isinstance(module, nn.RNNBase) for module in self._model.modules())
        if series.device.type == "cpu" and not recurrent:
            budget = min(budget, _PASS_BYTES)
        return max(1, budget // (widest * series.element_size()))


def record(model: nn.Module) -> fx.GraphModule | UnsupportedModule:
    """Return a model's graph, or the reason there is none; record once, use often."""
    try:
        return trace(model)
    except UnsupportedModule as error:
        return error


class _Propagation:
    """One set of windows, propagated through the layers."""

    def __init__(self, steps: Steps, series: Tensor, starts: Tensor, patches: Tensor) -> None:
        self._steps, self._series, self._patches = steps, series, patches
        source = Region(starts.T.contiguous(), patches.shape[-1], series.shape[-1])
        self._regions: dict[str, Region | None] = {steps.source: source}
        spent = full = 0.0
        for step in steps.steps:
            sources = [self._regions[name] for name in step.inputs]
            self._regions[step.name] = step.rule.region(sources)
            spent += step.rule.macs(sources[0])
            full += step.rule.full_macs()
        self.macs = spent  # a window and series
        self.saving = full / spent if spent else 1.0
        self._last_use = {name: step.name for step in steps.steps for name in step.inputs}

    def changes(self, memory_bytes: int) -> Tensor:
        """Return the change of the logits, (N, W, K)."""
        clean = {step.name: self._clean(step) for step in self._steps.steps}
        windows = self._patches.shape[1]
        chunk = self._chunk(memory_bytes)
        parts = [
            self._pass(first, min(first + chunk, windows), clean)
            for first in range(0, windows, chunk)
        ]
        return torch.cat(parts).transpose(0, 1)  # (W, N, K) -> (N, W, K)

    def _pass(self, first: int, last: int, clean: dict[str, Value]) -> Tensor:
        """Take windows [first, last) through every layer; return (W, N, K)."""
        changes = {self._steps.source: self._first_change(first, last)}
        for step in self._steps.steps:
            inputs = [changes[name] for name in step.inputs]
            changes[step.name] = step.rule.apply(inputs, clean[step.name])
            for name in step.inputs:
                if self._last_use[name] == step.name:
                    changes.pop(name, None)
        return changes[self._steps.logits].value

    def _first_change(self, first: int, last: int) -> Change:
        source = self._regions[self._steps.source]
        if source is None:
            raise TypeError("The source is a series.")
        region = source.windows(first, last)
        was = Clean(self._series, source).at(region)  # (W, N, w, C)
        new = self._patches[:, first:last].permute(1, 0, 3, 2)
        return Change(new - was, region)

    def _clean(self, step: Step) -> Value:
        value = self._steps.values.get(step.inputs[0])  # an LSTM's is no tensor, and is not read
        return (
            None
            if value is None
            else step.rule.prepare_clean_input(value, self._regions[step.inputs[0]])
        )

    def _chunk(self, memory_bytes: int) -> int:
        """Return the number of windows computed together: as many as cache and bound allow."""
        samples, itemsize = len(self._series), self._series.element_size()
        largest = 1
        for step in self._steps.steps:
            region, held = (
                self._regions[step.name],
                step.rule.held_numbers(self._regions[step.inputs[0]]),
            )
            if region is not None:
                held += region.size * self._steps.values[step.name].shape[1]
            largest = max(largest, held * samples * itemsize)
        cache = memory_bytes if self.is_recurrent else _CHUNK_BYTES
        return max(1, min(cache, memory_bytes // _COPIES) // largest)

    @property
    def is_recurrent(self) -> bool:
        """Return whether the network is recurrent: larger batches of windows are faster then."""
        return any(isinstance(step.rule, LastState) for step in self._steps.steps)
