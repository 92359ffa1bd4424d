"""The cost of a network: parameters, multiply-accumulates, bytes.

Counted by forward hooks over the layers that multiply: convolutions, linear layers, LSTMs.
Everything else (batch norm, activations, pooling, and other layers of an external network) counts
0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from edgedistill.models.lite import HandCraftedFilters

_Hook = Callable[[nn.Module, tuple[Tensor, ...], object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one series on a network."""

    parameters: int  # numbers that training may change, frozen or not
    macs: int  # multiply-accumulates for one series
    size_bytes: int  # of parameters and floating-point buffers in their types


def cost(model: nn.Module, *, channels: int, length: int) -> Cost:
    """Count the cost of one series of shape (1, channels, length).

    Padding counts as if it were data, and biases count nothing, as is usual. The model's mode, its
    batch-norm statistics and its gradients stay as they are.
    """
    macs = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal macs
        macs += _macs(module, inputs[0], output)

    parameters = list(model.parameters())
    device = parameters[0].device if parameters else torch.device("cpu")
    with _hooked(model, add), _evaluating(model), torch.no_grad():
        model(torch.zeros(1, channels, length, device=device))
    stored = parameters + [b for b in model.buffers() if b.is_floating_point()]
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        macs=macs,
        size_bytes=sum(t.numel() * t.element_size() for t in stored),
    )


def _macs(module: nn.Module, x: Tensor, output: object) -> int:
    """Return the multiply-accumulates of one call with a batch of one series."""
    if isinstance(module, nn.Conv1d):
        return cast("Tensor", output).numel() * module.weight[0].numel()
    if isinstance(module, HandCraftedFilters):
        return x.shape[-1] * module.weight.numel()
    if isinstance(module, nn.Linear):
        return cast("Tensor", output).numel() * module.in_features
    if isinstance(module, nn.LSTM):
        steps = x.shape[1] if module.batch_first else x.shape[0]
        return steps * sum(p.numel() for n, p in module.named_parameters() if "weight" in n)
    return 0


@contextmanager
def _hooked(model: nn.Module, hook: _Hook) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, then each back in its own (some may be frozen)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
