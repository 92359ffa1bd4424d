"""Errors of each layer of one model against the same layer of another, within a bound on memory.

Layers are taken in groups, and series in chunks, so that the activations of both models in memory
stay within the bound; each group runs the models again. Source of the measure: relative L2 error,
the custom of quantization tools such as ONNX Runtime's `qdq_loss_debug`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.compare.activations import ITEM_BYTES, Feeds, Network, Range, Reader
from edgedistill.compare.pairing import Pair, Pairing, readers
from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Floats

FIRST, SECOND = 0, 1  # of the two models

_AT_ONCE = 32  # series of a chunk that a group of layers is cut for, if memory allows
_OUTSIDE = 0.01  # share of values beyond the range of INT8 that is reported
_FEW_STEPS = 32  # of the 255 of INT8; fewer hold less than 5 bits of a value
_BLOCK = 1 << 14  # values whose differences are computed at once in float64


@dataclass(slots=True)
class Sums:
    """Sums over the values of a layer on all series."""

    values: int = 0
    squared: float = 0.0  # of the first model
    squared_error: float = 0.0  # of the differences
    infinite: int = 0  # values that are not finite in the second model, and are in the first
    outside: int = 0  # values of the first model beyond the range of the second
    low: float = math.inf  # of the first model
    high: float = -math.inf

    @property
    def error(self) -> float:
        """Return the relative L2 error; infinity where the second is not finite."""
        if self.infinite:
            return math.inf
        if self.squared == 0:
            return math.inf if self.squared_error else 0.0
        return math.sqrt(self.squared_error / self.squared)

    def add(self, first: Floats, second: Floats, quantizer_range: Range | None = None) -> None:
        """Add the values of some series, and count those beyond the second's range."""
        a, b = first.reshape(-1), second.reshape(-1)
        for start in range(0, a.size, _BLOCK):
            self._add(a[start : start + _BLOCK], b[start : start + _BLOCK], quantizer_range)

    def _add(self, first: Floats, second: Floats, quantizer_range: Range | None) -> None:
        usable = np.isfinite(first) & np.isfinite(second)
        a, b = first[usable].astype(np.float64), second[usable].astype(np.float64)
        self.values += first.size
        difference = b - a
        self.squared += float(a @ a)
        self.squared_error += float(difference @ difference)
        self.infinite += int((np.isfinite(first) & ~np.isfinite(second)).sum())
        self.low = min(self.low, float(a.min(initial=math.inf)))
        self.high = max(self.high, float(a.max(initial=-math.inf)))
        if quantizer_range is not None:
            beyond = (a < quantizer_range.low - quantizer_range.step / 2) | (
                a > quantizer_range.high + quantizer_range.step / 2
            )
            self.outside += int(beyond.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """The error of a layer against its counterpart."""

    node: str  # of the first model
    operator: str
    tensor: str
    error: float  # relative L2, both models from the series on; infinite: not finite, or of zeros
    infinite: int  # values that are infinite or NaN in the second model alone
    added: float | None  # relative L2, the second's layer on the inputs of the first's
    beyond: bool  # the error is beyond the tolerance
    other: bool  # so it is, because the name stands for another value in the second
    reason: str | None  # if the values show one


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer to compare, and the values in memory for it."""

    pair: Pair
    before: tuple[Pair, ...]  # inputs of the second's layer; none: the series
    costs: Mapping[tuple[int, str], int]  # values a series, by model and value


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerComparer:
    """Two models, series for them, and a bound on memory."""

    first: Network
    second: Network
    pairing: Pairing
    series: Floats  # (N, C, T)
    memory_bytes: int
    on_progress: Callable[[int, int], None]  # with the numbers of finished layers and of all

    def layer_errors(self, tolerance: float) -> tuple[LayerError, ...]:
        """Return the error of each layer, the error it adds, and the reason if its values show one.

        Args:
            tolerance: allowed relative error.

        Raises:
            ConfigError: the bound does not hold one layer, and what it reads, on one batch.
            ModelError: a model cannot be run.
        """
        sums = self.accumulated_errors()
        beyond = {name for name, found in sums.items() if found.error > tolerance}
        added = self._added_errors_by_value(beyond, tolerance)
        return tuple(
            LayerError(
                node=pair.first.node,
                operator=pair.first.operator,
                tensor=name,
                error=found.error,
                infinite=found.infinite,
                added=added[name].error if name in added else None,
                beyond=name in beyond,
                other=name not in added,
                reason=_reason(found, self.second.quantizer_range(pair.second.read)),
            )
            for pair, (name, found) in zip(self.pairing.pairs, sums.items(), strict=True)
        )

    def accumulated_errors(self) -> dict[str, Sums]:
        """Return the error of each layer when both models start from the series."""
        pairs = self.pairing.pairs
        steps = [
            _Step(
                pair,
                (),
                {(FIRST, pair.first.read): pair.size, (SECOND, pair.second.read): pair.size},
            )
            for pair in pairs
        ]
        found = {pair.first.name: Sums() for pair in pairs}
        for group in self._groups(steps):
            one = self.first.reader([step.pair.first.read for step in group])
            other = self.second.reader([step.pair.second.read for step in group])
            for part in self._chunks(group):
                self._add_both(group, one, other, part, found)
        return found

    def added_errors(self, pairs: Sequence[Pair]) -> dict[str, Sums]:
        """Return the error of each layer of the second on the first model's inputs of that layer.

        Args:
            pairs: layers of the pairing; a layer starts from those before it.
        """
        known = {pair.second.read: pair for pair in pairs}
        found = {pair.first.name: Sums() for pair in pairs}
        for group in self._groups([self._step(pair, known) for pair in pairs]):
            wanted = sorted({name for step in group for side, name in step.costs if side == FIRST})
            there = self.first.reader(wanted)
            own = [self.second.reader([step.pair.second.read], known) for step in group]
            for part in self._chunks(group):
                values = dict(zip(wanted, there({self.first.input: part}), strict=True))
                for step, read in zip(group, own, strict=True):
                    self._add_own(step, read, values, part, found)
                del values  # before those of the next chunk are computed
        return found

    def _added_errors_by_value(self, beyond: set[str], tolerance: float) -> dict[str, Sums]:
        """Return the errors that layers add, without layers whose name stands for another value.

        Such as a concatenation, before or behind the batch norm that was folded into what it
        joins. It shows where a layer is beyond the tolerance and one that reads it is not, but
        would be if it read the first model's value.
        """
        kept = list(self.pairing.pairs)
        while True:
            added = self.added_errors(kept)
            broken = {name for name, found in added.items() if found.error > tolerance} - beyond
            read_by = readers(kept, self.second)
            other = {name for name in beyond & set(read_by) if broken & set(read_by[name])}
            if not other:
                return added
            kept = [pair for pair in kept if pair.first.name not in other]

    def _step(self, pair: Pair, available: Mapping[str, Pair]) -> _Step:
        """Return the step that compares a layer on the first model's values."""
        sources = sorted(self.second.sources(pair.second.read, available))
        before = tuple(available[name] for name in sources if name in available)
        costs = {(FIRST, p.first.read): p.size for p in (pair, *before)}
        return _Step(pair, before, {**costs, (SECOND, pair.second.read): pair.size})

    def _add_both(
        self, group: Sequence[_Step], one: Reader, other: Reader, part: Floats, to: dict[str, Sums]
    ) -> None:
        values = one({self.first.input: part}), other({self.second.input: part})
        for step, a, b in zip(group, *values, strict=True):
            to[step.pair.first.name].add(a, b, self.second.quantizer_range(step.pair.second.read))

    def _add_own(
        self, step: _Step, read: Reader, values: Feeds, part: Floats, to: dict[str, Sums]
    ) -> None:
        feeds = {pair.second.read: pair.match_axes(values[pair.first.read]) for pair in step.before}
        (own,) = read({**feeds, self.second.input: part})
        to[step.pair.first.name].add(values[step.pair.first.read], own)

    def _groups(self, steps: Sequence[_Step]) -> Iterator[list[_Step]]:
        """Yield steps that share a run of the models, in order."""
        least = self.pairing.batch or 1
        usual = self.pairing.batch or min(_AT_ONCE, len(self.series))
        group: list[_Step] = []
        for done, step in enumerate(steps):
            needed = _bytes([step]) * least
            if needed > self.memory_bytes:
                raise ConfigError(
                    f"{self.memory_bytes} bytes of memory do not hold what is compared at "
                    f"{step.pair.first.node} for {least} series, {needed} bytes. Allow at least "
                    "that many, or take shorter series."
                )
            if group and _bytes([*group, step]) * usual > self.memory_bytes:
                yield group
                self.on_progress(done, len(steps))
                group = []
            group.append(step)
        yield group
        self.on_progress(len(steps), len(steps))

    def _chunks(self, group: Sequence[_Step]) -> Iterator[Floats]:
        """Yield series, as many at once as the bound allows a group."""
        rows = self.pairing.batch or max(1, self.memory_bytes // _bytes(group))
        left = 0 if self.pairing.batch is None else len(self.series) % rows
        for start in range(0, len(self.series) - left, rows):
            yield self.series[start : start + rows]


def _bytes(steps: Sequence[_Step]) -> int:
    """Return the memory of steps for one series; shared values count once.

    The second's own values are in memory for one layer at a time, but counted for all.
    """
    together = {value: size for step in steps for value, size in step.costs.items()}
    return ITEM_BYTES * sum(together.values())


def _reason(sums: Sums, quantizer_range: Range | None) -> str | None:
    """Return why a layer differs, if its values show it."""
    if sums.infinite:
        return f"{sums.infinite} of {sums.values} values are infinite or NaN in B alone"
    if quantizer_range is None or not sums.values:
        return None
    share, steps = sums.outside / sums.values, (sums.high - sums.low) / quantizer_range.step
    if share > _OUTSIDE:
        return (
            f"{share:.1%} of A's values lie beyond {quantizer_range.low:.3g} to "
            f"{quantizer_range.high:.3g}, all that B's 8 bits hold"
        )
    if 0 < steps < _FEW_STEPS:
        return f"A's values span {steps:.1f} steps of B's 8 bits, which have 255"
    return None
