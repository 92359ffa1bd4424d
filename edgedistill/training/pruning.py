"""A student that starts as its teacher and is pruned to its own width while it is distilled.

Source: "HomoDistil: Homotopic Task-Agnostic Distillation of Pre-trained Transformers",
arXiv:2302.09632. From the paper: the student begins with the teacher's weights; the importance of a
weight is |w · ∂L/∂w|, summed over what is pruned together and smoothed exponentially over the
steps; the least important go first, layer by layer, on a cubic schedule. Our choices: filters of an
FCN and hidden units of an LSTM in place of a transformer's neurons; the sum is over the weights
that make a unit, not those that read it; what is pruned stays pruned; the loss is what the recipe
names; and training continues once the student's width is reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.errors import ConfigError, ModelError
from edgedistill.models.families import FCN, LSTM

_GATES = 4  # of an LSTM: a row each for every hidden unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The units of a layer, and the tensors that hold their weights."""

    units: int
    target_units: int  # of them in the student
    weight_tensors: tuple[str, ...]  # tensors with `blocks` times a row for each unit
    consumer_tensors: tuple[str, ...]  # tensors with a column for each unit
    blocks: int = 1

    def rows(self, tensor: Tensor) -> Tensor:
        """Return a view of one of `weight_tensors`, (blocks, units, weights of a row)."""
        return tensor.view(self.blocks, self.units, -1)


class Pruner(nn.Module):
    """Prunes the least important units of a network in training, more and more of them.

    A unit whose own weights are all zero gives 0 at every time step. The buffers are the state
    of a killed run that resumes.
    """

    def __init__(
        self, network: nn.Module, student: nn.Module, *, until: float, smoothing: float
    ) -> None:
        """Plan the pruning of a network to the widths of another.

        Args:
            network: network that will be trained.
            student: network of the widths to reach.
            until: share of the steps after which its widths are reached, above 0.
            smoothing: share of the importance that earlier steps make up.

        Raises:
            ConfigError: they differ in more than their widths, or are of no family that can
                be pruned.
        """
        super().__init__()
        self.until, self._smoothing = until, smoothing
        self._layers = layers(network, student)
        for index, layer in enumerate(self._layers):
            self.register_buffer(f"importance{index}", torch.zeros(layer.units))
            self.register_buffer(f"alive{index}", torch.ones(layer.units, dtype=torch.bool))

    @property
    def key(self) -> list[Any]:
        """Return the settings that distinguish this pruning from others."""
        return [self.until, self._smoothing, [layer.target_units for layer in self._layers]]

    @torch.no_grad()
    def accumulate_importance(self, network: nn.Module) -> None:
        """Add the gradients of a step to the importance, before the optimizer uses them."""
        parameters = dict(network.named_parameters())
        share = self._smoothing
        for index, layer in enumerate(self._layers):
            own = [parameters[name] for name in layer.weight_tensors if name in parameters]
            importance = sum_of_rows(layer, [p * p.grad for p in own if p.grad is not None])
            if importance.isfinite().all():  # mixed precision overflows silently now and then
                before = self.get_buffer(f"importance{index}")
                smoothed = share * before + (1 - share) * importance
                setattr(self, f"importance{index}", smoothed)

    @torch.no_grad()
    def prune(self, network: nn.Module, done: float) -> None:
        """Set units to zero after a step of the optimizer, which moves pruned ones too.

        Args:
            network: network in training.
            done: share of all steps done.
        """
        parameters = dict(network.named_parameters())
        for index, layer in enumerate(self._layers):
            alive = self.get_buffer(f"alive{index}")
            importance = self.get_buffer(f"importance{index}").masked_fill(~alive, -1.0)
            order = importance.argsort(descending=True, stable=True)
            alive = torch.zeros_like(alive)
            alive[order[: remaining_units(layer, self.until, done)]] = True
            setattr(self, f"alive{index}", alive)
            for name in layer.weight_tensors:
                if name in parameters:
                    layer.rows(parameters[name])[:, ~alive] = 0.0


def remaining_units(layer: Layer, until: float, done: float) -> int:
    """Return the number of units left in a layer after a share of all steps.

    >>> layer = Layer(units=64, target_units=8, weight_tensors=(), consumer_tensors=())
    >>> [remaining_units(layer, 0.8, done) for done in (0.0, 0.2, 0.4, 0.8, 1.0)]
    [64, 32, 15, 8, 8]
    """
    left = 1 - min(1.0, done / until)
    return layer.target_units + round((layer.units - layer.target_units) * left**3)


def sum_of_rows(layer: Layer, tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of absolute values that belong to each unit, (units,)."""
    parts = [layer.rows(tensor).abs().sum(dim=(0, 2)) for tensor in tensors]
    return torch.stack(parts).sum(dim=0)


@torch.no_grad()
def extract_student(network: nn.Module, student: nn.Module) -> nn.Module:
    """Fill the student with the units that are left: its logits are the pruned network's.

    Args:
        network: network pruned to the student's widths.
        student: network whose weights are replaced.

    Raises:
        ModelError: the network has more units left than the student has room for.
    """
    whole, trained = network.state_dict(), dict(network.named_parameters())
    state = dict(whole)
    for layer in layers(network, student):
        size = sum_of_rows(layer, [whole[name] for name in layer.weight_tensors if name in trained])
        if (left := int(size.count_nonzero())) > layer.target_units:
            raise ModelError(
                f"{left} of {layer.units} units are left in {layer.weight_tensors[0]}, the student "
                f"has {layer.target_units}. Train until pruning has ended."
            )
        kept = size.argsort(descending=True, stable=True)[: layer.target_units].sort().values
        for name in layer.weight_tensors:
            blocks = state[name].unflatten(0, (layer.blocks, layer.units))
            state[name] = blocks[:, kept].flatten(0, 1)
        for name in layer.consumer_tensors:
            state[name] = state[name][:, kept]
    student.load_state_dict(state)
    return student


def layers(network: nn.Module, student: nn.Module) -> list[Layer]:
    """Return the layers of a network with the number of units that a student keeps of each.

    Raises:
        ConfigError: they differ in more than their widths, or are of no family that can be
            pruned.
    """
    if isinstance(network, FCN) and isinstance(student, FCN):
        widths = _fcn_widths(network), _fcn_widths(student)
        make = _fcn_layer
    elif isinstance(network, LSTM) and isinstance(student, LSTM):
        widths = _lstm_widths(network), _lstm_widths(student)
        make = _lstm_layer
    else:
        raise ConfigError(
            "student.prune_from_teacher makes an fcn from an fcn, or an lstm from an lstm; here "
            f"the teacher is of the kind {type(network).__name__}, the student "
            f"{type(student).__name__}. Give both one of these families, and no xdistillation."
        )
    deep = len(widths[0]), len(widths[1])
    if deep[0] != deep[1]:
        raise ConfigError(
            f"student.prune_from_teacher keeps the depth: the teacher has {deep[0]} layers, the "
            f"student {deep[1]}. Set student.depth to {deep[0]}."
        )
    if any(kept >= units for units, kept in zip(*widths, strict=True)):
        raise ConfigError(
            f"The student's layers have {widths[1]} units, the teacher's {widths[0]}, and pruning "
            "only takes away. Set a student.width below the teacher's."
        )
    return [
        make(index, units, kept, index == deep[0] - 1)
        for index, (units, kept) in enumerate(zip(*widths, strict=True))
    ]


def _fcn_widths(network: FCN) -> list[int]:
    return [part.out_channels for part in network.modules() if isinstance(part, nn.Conv1d)]


def _lstm_widths(network: LSTM) -> list[int]:
    return [network.lstm.hidden_size] * network.lstm.num_layers


def _fcn_layer(index: int, units: int, target_units: int, last: bool) -> Layer:
    convolution, norm = (f"blocks.{2 * index}.{part}" for part in (0, 1))  # a ReLU between blocks
    statistics = (f"{norm}.running_mean", f"{norm}.running_var")
    return Layer(
        units=units,
        target_units=target_units,
        weight_tensors=(
            *(f"{name}.{kind}" for name in (convolution, norm) for kind in ("weight", "bias")),
            *statistics,
        ),
        consumer_tensors=("head.weight" if last else f"blocks.{2 * index + 2}.0.weight",),
    )


def _lstm_layer(index: int, units: int, target_units: int, last: bool) -> Layer:
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Layer(
        units=units,
        target_units=target_units,
        weight_tensors=tuple(f"lstm.{kind}_l{index}" for kind in kinds),
        consumer_tensors=(
            f"lstm.weight_hh_l{index}",
            "head.weight" if last else f"lstm.weight_ih_l{index + 1}",
        ),
        blocks=_GATES,
    )
