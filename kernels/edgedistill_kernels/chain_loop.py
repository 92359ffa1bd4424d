"""The compiled loop of `chain`: spans of windows through all layers.

Nothing imports this module before it is used: Numba takes a second to import, and seconds to
compile; what it compiles is kept on disk. It works on arrays of any float type; they come
checked and C-contiguous.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedistill_kernels.chain import (
    CHANNELS,
    DILATION,
    INPUTS,
    LANES,
    LENGTH,
    OUTPUTS,
    SHIFT,
    SIZE,
    TAPS,
    TILE,
)
from edgedistill_kernels.compiling import sequential

_Array = Any  # as Numba sees it
_STRETCH = 16  # positions whose changes stay in the nearest cache while all taps meet them


@sequential
def run_spans(
    first: int, last: int, grid: _Array, inputs: _Array, chain: _Array, out: _Array
) -> None:
    """Compute the runs of spans [first, last), LANES runs each, counted over all series."""
    plan, turns = chain[0], grid[0]
    tiles = max(plan[0, INPUTS], plan[:, OUTPUTS].max(), len(chain[3]))
    here = np.empty((tiles * TILE, plan[-1, SIZE] * LANES), out.dtype)
    there = np.empty_like(here)
    samples, windows = out.shape[:2]
    per_series = -(-windows // turns)
    for span in range(first, last):
        run = span * LANES + np.arange(LANES)
        owner = np.minimum(run // per_series, samples - 1)
        window = np.where(run < samples * per_series, run % per_series * turns, windows)
        _pass((owner, window), grid, inputs, chain, out, (here, there))


@sequential
def _pass(
    lanes: _Array, grid: _Array, inputs: _Array, chain: _Array, out: _Array, buffers: _Array
) -> None:
    """Take a run a lane through all layers: of series `owner`, from `window` on."""
    (owner, window), (turns, step), (here, there) = lanes, grid, buffers
    series, starts, patches = inputs
    plan, weights, cleans, head = chain
    rows = max(step, 0) * (turns - 1)
    levels = _levels(owner, window, starts, rows, plan, cleans, len(series))
    for turn in range(turns):
        _enter(series, starts, patches, owner, window + turn, plan[0, INPUTS], here)
        size = patches.shape[3]
        weight = level = 0
        for layer in plan:
            shape = (layer[OUTPUTS], layer[INPUTS], layer[TAPS], TILE, TILE)
            count = layer[OUTPUTS] * layer[INPUTS] * layer[TAPS] * TILE**2
            taps = weights[weight : weight + count].reshape(shape)
            _convolve(here, size, taps, layer[DILATION], there)
            size = layer[SIZE]
            area = layer[CHANNELS] * (rows + size) * LANES
            z = levels[level : level + area].reshape(layer[CHANNELS], (rows + size) * LANES)
            _rectify(there, size, z, turn * step * LANES)
            weight += count
            level += area
            here, there = there, here
        _leave(here, size, head, there, out, owner, window + turn)


@sequential
def _levels(
    owner: _Array,
    window: _Array,
    starts: _Array,
    rows: int,
    plan: _Array,
    cleans: _Array,
    samples: int,
) -> _Array:
    """Return the clean values that a span needs, [channel][position][lane] for every layer.

    Beyond the borders of a layer they are minus infinity: no change gets through a ReLU there.
    """
    levels = np.empty((plan[:, CHANNELS] * (rows + plan[:, SIZE])).sum() * LANES, cleans.dtype)
    level = clean = 0
    last = starts.shape[1] - 1
    for layer in plan:
        channels, length, size = layer[CHANNELS], layer[LENGTH], (rows + layer[SIZE]) * LANES
        for c in range(channels):
            for v in range(LANES):
                n = owner[v]
                first = clean + (n * channels + c) * length
                z = cleans[first : first + length]
                at = starts[n % len(starts), min(window[v], last)] + layer[SHIFT]
                for j in range(v, size, LANES):
                    levels[level + j] = z[at] if 0 <= at < length else -np.inf
                    at += 1
            level += size
        clean += samples * channels * length
    return levels


@sequential
def _enter(
    series: _Array,
    starts: _Array,
    patches: _Array,
    owner: _Array,
    window: _Array,
    tiles: int,
    target: _Array,
) -> None:
    """Write the change of the series itself; lanes beyond the last window have none."""
    _, windows, channels, width = patches.shape
    target[: tiles * TILE, : width * LANES] = 0
    for v in range(LANES):
        n, w = owner[v], window[v]
        if w < windows:
            begin = starts[n % len(starts), w]
            for c in range(channels):
                for i in range(width):
                    change = patches[n, w, c, i] - series[n, c, begin + i]
                    target[c, i * LANES + v] = change


@sequential
def _convolve(source: _Array, size: int, weight: _Array, dilation: int, target: _Array) -> None:
    """Write the convolved change: every change goes to all positions that see it."""
    outputs, inputs, taps = weight.shape[:3]
    for o in range(outputs):
        for c in range(TILE):
            target[o * TILE + c][: (size + dilation * (taps - 1)) * LANES] = 0
        for at in range(0, size, _STRETCH):
            run = min(_STRETCH, size - at) * LANES
            for i in range(inputs):
                for t in range(taps):
                    to = at + (taps - 1 - t) * dilation
                    _add_tile(weight[o, i, t], source, i, at * LANES, target, o, to * LANES, run)


@sequential
def _add_tile(
    w: _Array, source: _Array, i: int, at: int, target: _Array, o: int, to: int, run: int
) -> None:
    """Add a tile of weights, (4, 4), times input channels 4i, 4i + 1 ... to channels 4o ...

    Written out so that one pass over memory does sixteen products a lane.
    """
    d0, d1 = source[4 * i][at : at + run], source[4 * i + 1][at : at + run]
    d2, d3 = source[4 * i + 2][at : at + run], source[4 * i + 3][at : at + run]
    out0, out1 = target[4 * o][to : to + run], target[4 * o + 1][to : to + run]
    out2, out3 = target[4 * o + 2][to : to + run], target[4 * o + 3][to : to + run]
    w00, w01, w02, w03 = w[0, 0], w[0, 1], w[0, 2], w[0, 3]
    w10, w11, w12, w13 = w[1, 0], w[1, 1], w[1, 2], w[1, 3]
    w20, w21, w22, w23 = w[2, 0], w[2, 1], w[2, 2], w[2, 3]
    w30, w31, w32, w33 = w[3, 0], w[3, 1], w[3, 2], w[3, 3]
    for j in range(run):
        x0, x1, x2, x3 = d0[j], d1[j], d2[j], d3[j]
        out0[j] = out0[j] + w00 * x0 + w01 * x1 + w02 * x2 + w03 * x3
        out1[j] = out1[j] + w10 * x0 + w11 * x1 + w12 * x2 + w13 * x3
        out2[j] = out2[j] + w20 * x0 + w21 * x1 + w22 * x2 + w23 * x3
        out3[j] = out3[j] + w30 * x0 + w31 * x1 + w32 * x2 + w33 * x3


@sequential
def _rectify(change: _Array, size: int, clean: _Array, first: int) -> None:
    """Replace a change dz by max(z + dz, 0) - max(z, 0)."""
    zero = change.dtype.type(0)
    run = size * LANES
    for c in range(len(clean)):
        row = change[c][:run]
        z = clean[c][first : first + run]
        for j in range(run):
            row[j] = _positive(z[j] + row[j], zero) - _positive(z[j], zero)


@sequential
def _positive(value: _Array, zero: _Array) -> _Array:
    return zero if value < zero else value  # NaN stays NaN


@sequential
def _leave(
    change: _Array,
    size: int,
    head: _Array,
    logits: _Array,
    out: _Array,
    owner: _Array,
    window: _Array,
) -> None:
    """Sum the change over time, and pass it through the linear layer."""
    for c in range(head.shape[1] * TILE):
        _fold(change[c], size)
    _convolve(change, 1, head, 1, logits)
    for v in range(LANES):
        if window[v] < out.shape[1]:
            for k in range(out.shape[2]):
                out[owner[v], window[v], k] = logits[k, v]


@sequential
def _fold(row: _Array, size: int) -> None:
    """Sum positions pairwise into the first: short loops over lanes alone are slow."""
    while size > 1:
        half = (size + 1) // 2
        rest = row[half * LANES : size * LANES]
        for j in range(len(rest)):
            row[j] += rest[j]
        size = half
