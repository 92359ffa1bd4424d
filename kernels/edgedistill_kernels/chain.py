"""The changes by windows in a chain: (convolution, ReLU) repeated, mean over time, linear layer.

A compact network has too little arithmetic for a call to a library a layer. So the whole
chain is one compiled loop: LANES windows at a time pass through all layers as one vector,
and their changes, kept as [channel][position][lane], stay in the nearest cache.

Lanes do not hold neighbors but windows that are a fixed number apart: then the value of a
layer for the clean series can be laid out once, [channel][position][lane] too, for many
windows that follow each other, and every inner loop runs over plain rows of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgedistill_kernels import checks
from edgedistill_kernels.reference import Floats, Ints

# How a chain lies in memory, for the compiled loop in `chain_loop` too.
LANES = 32  # windows that go together: a few vectors, so that inner loops are worth their start
TILE = 4  # channels in and out that are held in registers at once
# Columns of a plan, a row a layer: tiles in and out, and what a layer is.
INPUTS, OUTPUTS, CHANNELS, TAPS, DILATION, SHIFT, SIZE, LENGTH = range(8)
_ROWS = 64  # positions that windows may begin at in one layout: it must stay in a cache
_SHARES = 4  # of the work, a thread: one that is held up keeps no other waiting


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution of stride 1, before its ReLU."""

    weight: Floats  # (C', C, k), with the factor of a batch norm in it
    padding: int  # zeros before the series
    dilation: int
    clean: Floats  # its output for the series as they are, (N, C', T')

    @property
    def kernel_span(self) -> int:
        """Return the steps from the first to the last tap."""
        taps: int = self.weight.shape[2]
        return self.dilation * (taps - 1)


def changes(
    series: Floats,
    starts: Ints,
    patches: Floats,
    layers: Sequence[Layer],
    head: Floats,
    *,
    threads: int = 1,
) -> Floats:
    """Return the change of the logits by each window.

    Args:
        series: (N, C, T), float32 or float64 like all that follow.
        starts: first step of each window, (N, W) or (1, W) if all series share them.
        patches: values that fill each window, (N, W, C, w).
        layers: one layer or more.
        head: weight of the linear layer after the mean over time, (K, C').
        threads: number of threads.

    Returns:
        Logits of the perturbed copy less those of the series, (N, W, K).

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    from edgedistill_kernels.chain_loop import run_spans  # Numba takes a second to import

    _check(series, starts, patches, layers, head)
    kind, plan = series.dtype, _plan(layers, patches.shape[3])
    samples, windows = patches.shape[:2]
    out = np.zeros((samples, windows, len(head)), dtype=kind)
    size = int(plan[-1, SIZE])
    turns, step = _turns(patches.shape, starts, size=size, shares=threads * _SHARES)
    spans = -(samples * -(windows // -turns) // -LANES)
    arrays = (_plain(series, kind), _plain(starts, np.int64), _plain(patches, kind))
    task = ((turns, step), arrays, (plan, *_flat(layers, head, kind)), out)
    _in_shares(lambda first, last: run_spans(first, last, *task), spans, threads)
    return out


def _in_shares(run: Callable[[int, int], None], spans: int, threads: int) -> None:
    """Run all spans, in shares that threads take one after the other."""
    shares = list(pairwise(np.linspace(0, spans, threads * _SHARES + 1).astype(np.int64)))
    turn = count()  # the next share; taken by one thread at a time, because of Python's lock

    def work() -> None:
        while (share := next(turn)) < len(shares):
            run(*shares[share])

    with ThreadPoolExecutor(max(1, threads - 1)) as pool:
        helping = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for helper in helping:
            helper.result()


def _step(starts: Ints) -> int:
    """Return the distance of windows that follow each other, -1 if it is not always the same."""
    steps = np.diff(starts, axis=1)
    if not steps.size:
        return 1
    first = int(steps[0, 0])
    return first if first >= 0 and bool((steps == first).all()) else -1


def _turns(shape: tuple[int, ...], starts: Ints, *, size: int, shares: int) -> tuple[int, int]:
    """Return the number of windows in a run, which a lane takes in turn, and their distance."""
    samples, windows = shape[:2]
    step = _step(starts)
    if not 0 <= step < size:
        return 1, step
    per_share = samples * windows // (shares * LANES)
    return max(1, min(_ROWS // max(1, step), windows, per_share)), step


def _plan(layers: Sequence[Layer], width: int) -> NDArray[np.int64]:
    """Return the columns of every layer that the loop reads, (layers, columns)."""
    rows = []
    shift, size = 0, width
    for layer in layers:
        channels, inputs, taps = layer.weight.shape
        shift += layer.padding - layer.kernel_span  # of the first changed position, from the start
        size += layer.kernel_span  # changed positions
        tiles = (-(-inputs // TILE), -(-channels // TILE))
        rows.append((*tiles, channels, taps, layer.dilation, shift, size, layer.clean.shape[2]))
    return np.array(rows, dtype=np.int64)


def _flat(
    layers: Sequence[Layer], head: Floats, kind: np.dtype[np.generic]
) -> tuple[Floats, Floats, Floats]:
    """Return all weights, all clean values, and the head: the loop takes any number of layers."""
    weights: Floats = np.concatenate([_tiles(layer.weight).ravel() for layer in layers], dtype=kind)
    cleans: Floats = np.concatenate([layer.clean.ravel() for layer in layers], dtype=kind)
    mean = head[:, :, None] / layers[-1].clean.shape[2]  # (K, C', 1), of a sum over time
    return weights, cleans, _plain(_tiles(mean), kind)


def _tiles(weight: Floats) -> Floats:
    """Return (C', C, k) as (C' / 4, C / 4, k, 4, 4), with zeros for missing channels."""
    outputs, inputs, taps = (*(size + -size % TILE for size in weight.shape[:2]), weight.shape[2])
    padded = np.zeros((outputs, inputs, taps), weight.dtype)
    padded[: weight.shape[0], : weight.shape[1]] = weight
    split = padded.reshape(outputs // TILE, TILE, inputs // TILE, TILE, taps)
    tiles: Floats = split.transpose(0, 2, 4, 1, 3)
    return tiles


def _plain(array: Floats | Ints, kind: DTypeLike) -> Floats:
    """Return a writable, contiguous array: for others Numba would compile again."""
    plain: Floats = np.require(array, kind, ["C", "W"])
    return plain


def _check(
    series: Floats, starts: Ints, patches: Floats, layers: Sequence[Layer], head: Floats
) -> None:
    """Refuse what would read or write outside an array."""
    shapes = [layer.weight.shape for layer in layers]
    widths = [series.shape[1], *(shape[0] for shape in shapes)]
    fits = (
        len(layers) > 0
        and patches.shape[:2] == (len(series), starts.shape[1])
        and patches.shape[2] == series.shape[1]
        and len(starts) in {1, len(series)}
        and [shape[1] for shape in shapes] == widths[:-1]
        and all(layer.clean.shape[:2] == (len(series), layer.weight.shape[0]) for layer in layers)
        and head.shape[1] == widths[-1]
    )
    if not fits:
        raise ValueError(
            f"series {series.shape}, starts {starts.shape}, patches {patches.shape}, weights "
            f"{shapes}, head {head.shape} do not fit."
        )
    checks.inside(starts, patches.shape[3], series.shape[2])
