"""Build the network of a choice.

>>> from edgedistill.models.costs import cost
>>> student = build(ModelSpec(family="fcn", width=8), channels=1, classes=2, length=150)
>>> cost(student, channels=1, length=150)
Cost(parameters=1202, macs=163216, size_bytes=5064)
"""

from __future__ import annotations

from typing import Protocol

from torch import nn

from edgedistill.errors import ShapeError
from edgedistill.models.explained import SelfExplainingNetwork
from edgedistill.models.families import FCN, LSTM, Inception, ResNet
from edgedistill.models.lite import LITE
from edgedistill.models.spec import FAMILIES, ModelSpec


class _Maker(Protocol):
    def __call__(self, *, channels: int, classes: int, width: int, depth: int) -> nn.Module: ...


_MAKERS: dict[str, _Maker] = {
    "lstm": LSTM,
    "fcn": FCN,
    "resnet": ResNet,
    "inception": Inception,
    "lite": LITE,
}


def build(spec: ModelSpec, *, channels: int, classes: int, length: int) -> nn.Module:
    """Return a fresh network for series of (channels, length); torch's seed decides its weights.

    Raises:
        ShapeError: fewer than 1 channel, 2 classes, or 1 time step.
    """
    if channels < 1 or classes < 2 or length < 1:
        raise ShapeError(
            f"A network needs at least 1 channel, 2 classes and 1 time step; got {channels}, "
            f"{classes} and {length}. Check the data set."
        )
    family = FAMILIES[spec.family]
    network = _MAKERS[spec.family](
        channels=channels,
        classes=classes,
        width=family.width if spec.width is None else spec.width,
        depth=family.depth if spec.depth is None else spec.depth,
    )
    if not spec.explained:
        return network
    return SelfExplainingNetwork(network, channels=channels, classes=classes, length=length)
