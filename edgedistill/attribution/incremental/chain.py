"""The fast path of compact networks: a chain of layers runs in one compiled loop.

Its speed comes from doing without a library call a layer. Wide layers have enough
arithmetic to keep a library's better loops busy, so those are left to the general path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from edgedistill_kernels import chain as kernel
from torch import Tensor

from edgedistill.attribution.incremental.layers import Conv, Dense, Mean, Relu, Rule, Same, Shift
from edgedistill.attribution.incremental.tracing import Steps
from edgedistill.io.arrays import AnyFloats

_WIDEST = 2048  # channels in times channels out: here a library's convolution is as fast
_COPY_BYTES = 64 * 1024**2  # of patches that do not lie side by side in memory


@dataclass(frozen=True, slots=True)
class Chain:
    """(Convolution, ReLU) repeated, mean over time, linear layer."""

    layers: tuple[kernel.Layer, ...]
    head: AnyFloats  # weight of the linear layer, (K, C')


@dataclass(frozen=True, slots=True)
class _Link:
    """A convolution and its ReLU."""

    weight: Tensor  # (C', C, k), with the factor of a batch norm in it
    padding: int
    dilation: int
    clean: Tensor  # before the ReLU, (N, C', T')


def as_chain(steps: Steps) -> Chain | None:
    """Return a followed network as a chain; None if it is none, or the general path is faster.

    Args:
        steps: the network, with its values for the clean series.
    """
    read = _read(steps)
    if read is None:
        return None
    links, head = read
    values = [
        steps.values[steps.source],
        steps.values[steps.logits],
        *(link.clean for link in links),
    ]
    if torch.is_grad_enabled() and any(value.requires_grad for value in values):
        return None  # the compiled loop has no backward
    kinds = {(value.dtype, value.device.type) for value in values}
    if kinds not in ({(torch.float32, "cpu")}, {(torch.float64, "cpu")}):
        return None
    if not is_faster_compiled([values[0].shape[1], *(len(link.weight) for link in links)]):
        return None
    layers = tuple(
        kernel.Layer(_array(link.weight), link.padding, link.dilation, _array(link.clean))
        for link in links
    )
    return Chain(layers, _array(head))


def is_faster_compiled(channels: Sequence[int]) -> bool:
    """Return whether a chain of these widths, from the series on, is faster compiled."""
    return max(a * b for a, b in pairwise(channels)) <= _WIDEST


def changes(chain: Chain, series: Tensor, starts: Tensor, patches: Tensor) -> Tensor:
    """Return the change of the logits by each window.

    Args:
        chain: chain of the network, run on these series.
        series: (N, C, T).
        starts: first step of each window, (N, W) or (1, W) if all series share them.
        patches: values that fill each window, (N, W, C, w).

    Returns:
        (N, W, K).
    """
    windows = max(1, patches.shape[1])
    per_window = max(1, patches[:, :1].numel() * patches.element_size())
    together = windows if patches.is_contiguous() else max(1, _COPY_BYTES // per_window)
    found = [
        kernel.changes(
            _array(series),
            starts[:, first : first + together].numpy(),
            _array(patches[:, first : first + together]),
            chain.layers,
            chain.head,
            threads=torch.get_num_threads(),
        )
        for first in range(0, windows, together)
    ]
    return torch.from_numpy(np.concatenate(found, axis=1) if len(found) > 1 else found[0])


def _read(steps: Steps) -> tuple[list[_Link], Tensor] | None:
    """Return the convolutions and the weight of the linear layer; None if there is more."""
    name = steps.source
    for step in steps.steps:
        if step.inputs != (name,):
            return None
        name = step.name
    rules = [(step.rule, step.inputs[0]) for step in steps.steps if not isinstance(step.rule, Same)]
    if len(rules) < 2 or name != steps.logits:
        return None
    (mean, _), (dense, _) = rules[-2:]
    links = _links([(rule, steps.values[given]) for rule, given in rules[:-2]])
    if not links or not isinstance(mean, Mean) or not isinstance(dense, Dense):
        return None
    return links, dense.weight


def _links(rules: Sequence[tuple[Rule, Tensor]]) -> list[_Link] | None:
    """Return (zeros, convolution, ReLU) repeated, from rules and their clean inputs."""
    links = []
    padding, dilation = 0, 1
    weight: Tensor | None = None  # of a convolution that waits for its ReLU
    for rule, clean in rules:
        if isinstance(rule, Shift) and weight is None:
            padding += rule.before
        elif isinstance(rule, Conv) and weight is None and rule.stride == rule.groups == 1:
            weight, padding, dilation = rule.weight, padding + rule.padding, rule.dilation
        elif isinstance(rule, Relu) and weight is not None:
            links.append(_Link(weight, padding, dilation, clean))
            weight, padding = None, 0
        else:
            return None
    return links if weight is None and not padding else None


def _array(value: Tensor) -> AnyFloats:
    array: AnyFloats = value.detach().numpy()
    return array
