"""The compiled loops of `soft_dtw`, over checked, C-contiguous float64.

Nothing imports this module before it is used: Numba takes a second to import, and seconds to
compile; what it compiles is kept on disk.
"""

from __future__ import annotations

import math
from typing import Any

from edgedistill_kernels.compiling import sequential

_Array = Any  # as Numba sees it


@sequential
def forward(costs: _Array, gamma: float, table: _Array) -> None:
    """Fill `table` with soft-DTW up to each pair; all arrays (N, S, L)."""
    samples, rows, columns = costs.shape
    for n in range(samples):
        for i in range(rows):
            for j in range(columns):
                both = table[n, i - 1, j - 1] if i > 0 and j > 0 else math.inf
                first = table[n, i - 1, j] if i > 0 else math.inf
                second = table[n, i, j - 1] if j > 0 else math.inf
                least = min(both, min(first, second)) if i + j > 0 else 0.0
                total = 1.0
                if i + j > 0:
                    total = math.exp((least - both) / gamma)
                    total += math.exp((least - first) / gamma)
                    total += math.exp((least - second) / gamma)
                table[n, i, j] = costs[n, i, j] + least - gamma * math.log(total)


@sequential
def backward(grad: _Array, costs: _Array, table: _Array, gamma: float, out: _Array) -> None:
    """Fill `out` with the gradient of the costs; `grad` is (N,), the others (N, S, L)."""
    samples, rows, columns = costs.shape
    for n in range(samples):
        value, cost, own = table[n], costs[n], out[n]
        for i in range(rows - 1, -1, -1):
            for j in range(columns - 1, -1, -1):
                total = grad[n] if i == rows - 1 and j == columns - 1 else 0.0
                here = value[i, j]
                if i + 1 < rows:
                    share = math.exp((value[i + 1, j] - cost[i + 1, j] - here) / gamma)
                    total += own[i + 1, j] * share
                if j + 1 < columns:
                    share = math.exp((value[i, j + 1] - cost[i, j + 1] - here) / gamma)
                    total += own[i, j + 1] * share
                if i + 1 < rows and j + 1 < columns:
                    share = math.exp((value[i + 1, j + 1] - cost[i + 1, j + 1] - here) / gamma)
                    total += own[i + 1, j + 1] * share
                own[i, j] = total
