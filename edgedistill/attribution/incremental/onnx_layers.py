"""Every rule as a layer of a graph: constant windows, constant indices, no Python while it runs.

`rules` passes changes on for any windows, and looks at them while it does. A file has its windows
inside, so all that depends on them is computed once and kept as constants. A change is
(N, C, W, L) here: a window is a row of an image, and one two-dimensional convolution with a kernel
of one row serves them all, with N as the only free axis. A changed vector is (N, W, F).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.incremental.pooling import Flatten, GlobalMax, MaxPool, Mean
from edgedistill.attribution.incremental.positions import At, Masked, Pick
from edgedistill.attribution.incremental.regions import Region, union
from edgedistill.attribution.incremental.rules import (
    Channels,
    Conv,
    Dense,
    Join,
    Pointwise,
    Relu,
    Rule,
    Same,
    Scale,
    Shift,
    Sum,
    require_region,
)

Regions = Sequence[Region | None]
READERS = (Relu, Pointwise, MaxPool, GlobalMax)  # rules that need their clean input
_LOWEST = -1e30  # never wins a pool, and unlike -inf can be subtracted from itself


def layer(rule: Rule, sources: Regions) -> nn.Module | None:
    """Return the layer of a rule; None for a rule that no layer stands for.

    Args:
        rule: how a change passes.
        sources: which positions of each input the windows reach; None for a vector.

    Returns:
        A module that maps the changes of all inputs and the clean first input, (N, C, T) or
        (N, F), which is None unless the rule is one of `READERS`, to the change of the output.
    """
    make = _LAYERS.get(type(rule))
    return None if make is None else make(rule, sources)


class _Convolution(nn.Module):
    """A convolution without its bias."""

    weight: Tensor

    def __init__(self, rule: Conv, sources: Regions) -> None:
        super().__init__()
        source, out = require_region(sources[0]), require_region(rule.region(sources))
        first = out.begin * rule.stride - rule.padding  # what the first output sees
        natural = bool((first == source.begin - rule.reach).all())
        natural &= rule.stride == 1 and out.size == source.size + rule.reach
        seen = Region(first, (out.size - 1) * rule.stride + rule.reach + 1, source.length)
        self.pick = nn.Identity() if natural else Pick(source, seen)
        self.settings: dict[str, Any] = {
            "stride": (1, rule.stride),
            "padding": (0, rule.reach if natural else 0),
            "dilation": (1, rule.dilation),
            "groups": rule.groups,
        }
        self.register_buffer("weight", rule.weight.detach()[:, :, None])
        self.masked = Masked(out) if rule.bounded else nn.Identity()

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        found = functional.conv2d(self.pick(changes[0]), self.weight, **self.settings)
        masked: Tensor = self.masked(found)
        return masked


class _Scaled(nn.Module):
    """A factor a channel, or one."""

    factor: Tensor

    def __init__(self, rule: Scale, sources: Regions) -> None:
        super().__init__()
        factor = torch.as_tensor(rule.factor, dtype=torch.float32).detach()
        wide = factor.ndim == 1 and sources[0] is not None
        self.register_buffer("factor", factor[:, None, None] if wide else factor)

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return changes[0] * self.factor


class _Rectified(nn.Module):
    """max(z + dz, 0) - max(z, 0), as max(dz, -z) - max(-z, 0): dz is not rounded away."""

    def __init__(self, rule: Relu, sources: Regions) -> None:
        super().__init__()
        del rule
        self.at = _reading(sources[0])
        # Convolutions that only a ReLU reads leave their mask to it.
        self.masked = nn.Identity() if sources[0] is None else Masked(sources[0])

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        below: Tensor = self.at(-clean)
        masked: Tensor = self.masked(torch.maximum(changes[0], below) - below.relu())
        return masked


class _Activated(nn.Module):
    """f(z + dz) - f(z)."""

    def __init__(self, rule: Pointwise, sources: Regions) -> None:
        super().__init__()
        self.function = rule.function
        self.at = _reading(sources[0])

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = self.at(clean)
        difference: Tensor = self.function(was + changes[0]) - self.function(was)
        return difference


class _Pooled(nn.Module):
    """The largest of what a sliding window sees, less what it was."""

    inside: Tensor

    def __init__(self, rule: MaxPool, sources: Regions) -> None:
        super().__init__()
        source, out = require_region(sources[0]), require_region(rule.region(sources))
        size = (out.size - 1) * rule.stride + rule.dilation * (rule.kernel - 1) + 1
        seen = Region(out.begin * rule.stride - rule.padding, size, source.length)
        self.at, self.pick, self.masked = At(seen), Pick(source, seen), Masked(out)
        self.is_inside = seen.is_inside
        self.register_buffer("inside", seen.mask()[:, 0, :, 0])  # (W, L)
        self.settings: dict[str, Any] = {
            "kernel_size": (1, rule.kernel),
            "stride": (1, rule.stride),
            "dilation": (1, rule.dilation),
        }

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = self.at(clean)
        if not self.is_inside:
            was = torch.where(self.inside, was, _LOWEST)
        now = functional.max_pool2d(was + self.pick(changes[0]), **self.settings)
        masked: Tensor = self.masked(now - functional.max_pool2d(was, **self.settings))
        return masked


class _Together(nn.Module):
    """Several layers side by side, or added."""

    def __init__(self, rule: Join | Sum, sources: Regions) -> None:
        super().__init__()
        self.signs = rule.signs if isinstance(rule, Sum) else None
        found = [source for source in sources if source is not None]
        out = union(found) if found else None
        self.places = nn.ModuleList(
            nn.Identity() if source is None or out is None else Pick(source, out)
            for source in sources
        )
        self.axis = 1 if found else 2

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        placed: list[Tensor] = [
            place(change) for place, change in zip(self.places, changes, strict=True)
        ]
        if self.signs is None:
            return torch.cat(placed, dim=self.axis)
        total = placed[0] if self.signs[0] == 1 else -placed[0]
        for change, sign in zip(placed[1:], self.signs[1:], strict=True):
            total = total + change if sign == 1 else total - change
        return total


class _SelectedChannels(nn.Module):
    """Some channels, or the sum of all."""

    def __init__(self, rule: Channels, sources: Regions) -> None:
        super().__init__()
        self.part = rule.part
        self.axis = 2 if sources[0] is None else 1

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        if self.part is None:
            total: Tensor = changes[0].sum(dim=self.axis, keepdim=True)
            return total
        return changes[0][:, self.part] if self.axis == 1 else changes[0][..., self.part]


class _Averaged(nn.Module):
    """The mean over time."""

    def __init__(self, rule: Mean, sources: Regions) -> None:
        super().__init__()
        del sources
        self.length = rule.length

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        total: Tensor = changes[0].sum(dim=3)
        return total.transpose(1, 2) / self.length


class _Highest(nn.Module):
    """The maximum over time: any step may hold it, so all are looked at."""

    def __init__(self, rule: GlobalMax, sources: Regions) -> None:
        super().__init__()
        del rule
        self.dense = Pick(require_region(sources[0]), require_region(sources[0]).whole())

    def forward(self, changes: Sequence[Tensor], clean: Tensor) -> Tensor:
        was = clean[:, :, None]  # (N, C, 1, T)
        change: Tensor = (was + self.dense(changes[0])).amax(dim=3) - was.amax(dim=3)
        return change.transpose(1, 2)


class _Unrolled(nn.Module):
    """A series laid out as one vector, zero where nothing changes."""

    def __init__(self, rule: Flatten, sources: Regions) -> None:
        super().__init__()
        del rule
        self.dense = Pick(require_region(sources[0]), require_region(sources[0]).whole())

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        dense: Tensor = self.dense(changes[0])  # (N, C, W, T)
        return dense.transpose(1, 2).flatten(2)


class _Linear(nn.Module):
    """A linear layer without its bias."""

    weight: Tensor

    def __init__(self, rule: Dense, sources: Regions) -> None:
        super().__init__()
        del sources
        self.register_buffer("weight", rule.weight.detach())

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return functional.linear(changes[0], self.weight)


class _Unchanged(nn.Module):
    """The change as it is: another name, or other positions of the same numbers."""

    def __init__(self, rule: Same | Shift, sources: Regions) -> None:
        super().__init__()
        del rule, sources

    def forward(self, changes: Sequence[Tensor], clean: Tensor | None) -> Tensor:
        del clean
        return changes[0]


class _OneOfAll(nn.Module):
    """A clean vector, (N, F), for all windows: (N, 1, F)."""

    def forward(self, value: Tensor) -> Tensor:
        return value[:, None]


def _reading(region: Region | None) -> nn.Module:
    return _OneOfAll() if region is None else At(region)


_LAYERS: dict[type[Rule], Callable[[Any, Regions], nn.Module]] = {
    Channels: _SelectedChannels,
    Conv: _Convolution,
    Dense: _Linear,
    Flatten: _Unrolled,
    GlobalMax: _Highest,
    Join: _Together,
    MaxPool: _Pooled,
    Mean: _Averaged,
    Pointwise: _Activated,
    Relu: _Rectified,
    Same: _Unchanged,
    Scale: _Scaled,
    Shift: _Unchanged,
    Sum: _Together,
}
