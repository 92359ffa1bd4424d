"""Features: the outputs of a network's layers, for objectives that compare them.

A layer is named as torch names the module. Only outputs over time count, (N, C', T'), and
the one vector that the last linear layer reads, which goes by the name "embedding". The map
that an explained student predicts goes by "explanation".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.errors import ConfigError
from edgedistill.models.explained import SelfExplainingNetwork

EMBEDDING, EXPLANATION = "embedding", "explanation"
# Name of a layer -> (N, C', T'); of the embedding (N, F), of the explanation (N, T).
Features = Mapping[str, Tensor]


@contextmanager
def record_features(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Yield a dict that the first forward of the module fills with the outputs of layers.

    Args:
        module: network that runs inside the block.
        names: layers to record.

    Raises:
        ConfigError: the module has no such layer.
    """
    features: dict[str, Tensor] = {}
    handles = []
    try:
        for name in names:
            if name == EMBEDDING:
                handles.append(_head(module).register_forward_pre_hook(_record_input(features)))
            elif name == EXPLANATION:
                student = _self_explaining(module)
                handles.append(
                    student.encoder[-1].register_forward_hook(
                        _record_explanation(features, student)
                    )
                )
            else:
                handles.append(
                    _layer(module, name).register_forward_hook(_record_output(features, name))
                )
        yield features
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def layer_channels(module: nn.Module, series: Tensor) -> dict[str, int]:
    """Return the channels of every layer with an output over time, in the order of the forward.

    The decoder of an explanation is left out: a teacher has no layers to compare it with.

    Args:
        module: network in either mode, which stays.
        series: a few series, (N, C, T).
    """
    leaves = [name for name, part in module.named_modules() if name and not any(part.children())]
    if isinstance(module, SelfExplainingNetwork):
        leaves = [name for name in leaves if name.startswith("network.")]
    training = module.training
    with record_features(module.eval(), leaves) as features:
        module(series)
    module.train(training)
    return {name: value.shape[1] for name, value in features.items() if value.ndim == 3}


@torch.no_grad()
def embedding_size(module: nn.Module, series: Tensor) -> int:
    """Return the length of the vector that the last linear layer reads."""
    training = module.training
    with record_features(module.eval(), [EMBEDDING]) as features:
        module(series)
    module.train(training)
    return features[EMBEDDING].shape[1]


def default_layers(channels: Mapping[str, int]) -> tuple[str, str]:
    """Return a layer half way through a network, and its last one over time.

    Args:
        channels: channels of the layers, as from `layer_channels`.

    Raises:
        ConfigError: no layer has an output over time.
    """
    names = list(channels)
    if not names:
        raise ConfigError(
            "The network has no layer with an output over time, (N, C, T). Choose an objective "
            "that needs logits alone, such as kd or tsd."
        )
    return names[(len(names) - 1) // 2], names[-1]


class TeacherFeatures:
    """A frozen teacher, called for the outputs of some layers.

    Its weights are no parameters of an objective, and it follows the series to their device.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        """Keep a teacher and the names of its layers."""
        self._module, self._names = module.eval().requires_grad_(False), tuple(names)

    @torch.no_grad()
    def __call__(self, series: Tensor) -> dict[str, Tensor]:
        """Return the layers' outputs for series, (N, C, T)."""
        self._module.to(series.device).eval()
        with record_features(self._module, self._names) as features:
            self._module(series)
        return features


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer of the student and the teacher's layer that it is compared with."""

    student: str
    student_channels: int
    teacher: str
    teacher_channels: int
    features: TeacherFeatures


def _record_output(features: dict[str, Tensor], name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        del inputs
        if isinstance(module, nn.RNNBase):
            output = output[0].transpose(1, 2)  # (N, T, H) -> (N, H, T)
        if isinstance(output, Tensor):
            features.setdefault(name, output)

    return hook


def _record_input(features: dict[str, Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        features.setdefault(EMBEDDING, inputs[0])

    return hook


def _record_explanation(features: dict[str, Tensor], student: SelfExplainingNetwork) -> Any:
    def hook(module: nn.Module, inputs: Any, code: Tensor) -> None:
        del module, inputs
        if EXPLANATION not in features:  # perturbed copies, which may follow, need none
            features[EXPLANATION] = student.explanation(code)

    return hook


def _self_explaining(module: nn.Module) -> SelfExplainingNetwork:
    if not isinstance(module, SelfExplainingNetwork):
        raise ConfigError(
            f"{type(module).__name__} predicts no explanation. Build the student with "
            "ModelSpec(explained=True), as a recipe with the objective xdistillation does."
        )
    return module


def _layer(module: nn.Module, name: str) -> nn.Module:
    named: dict[str, nn.Module] = dict(module.named_modules())
    if name not in named or not name:
        known = ", ".join(n for n, part in named.items() if n and not any(part.children()))
        raise ConfigError(f"The network has no layer {name!r}. Choose one of: {known}.")
    return named[name]


def _head(module: nn.Module) -> nn.Linear:
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise ConfigError(
            f"{type(module).__name__} has no linear layer, so it has no embedding. Choose an "
            "objective that needs logits alone, such as kd or tsd."
        )
    return linear[-1]
