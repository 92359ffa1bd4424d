"""The step of an LSTM or GRU after its matrix product, for many rows in one pass over memory.

A library's own cell is a dozen passes. It runs in the thread that calls it, without Python's
lock: callers share rows out to threads, since two pools of OpenMP in turn, a library's and
Numba's, would wait for each other's idle threads to stop spinning.

Nothing imports this module before it is used: Numba takes a second to
import, and seconds to compile; what it compiles is kept on disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from edgedistill_kernels.compiling import sequential

_LARGEST = np.float32(80)  # beyond, a sigmoid is 0 or 1 in float32, and its exp would overflow
_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # ln 2 in two parts, the first with zeros at its end
_LN2_LOW = np.float32(-2.12194440e-4)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)  # of a float32's bits
_ONE, _HALF = np.float32(1), np.float32(0.5)
# Taylor's series of exp: within |r| <= ln(2) / 2 what is left out is below float32's rounding.
_C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(3, 8))


def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)); compiled code has its own, by type."""
    return 1 / (1 + math.exp(-x))


@overload(_sigmoid)  # type: ignore[untyped-decorator]
def _sigmoid_by_type(x: Any) -> Callable[[Any], Any]:
    def quick(x: Any) -> Any:
        y = min(max(-x, -_LARGEST), _LARGEST)
        n = np.floor(y * _LOG2_E + _HALF)
        r = y - n * _LN2_HIGH - n * _LN2_LOW
        rest = _C3 + r * (_C4 + r * (_C5 + r * (_C6 + r * _C7)))
        power = np.int32((np.int32(n) + _BIAS) << _MANTISSA).view(np.float32)  # 2**n
        return _ONE / (_ONE + power * (_ONE + r * (_ONE + r * (_HALF + r * rest))))

    def exact(x: Any) -> Any:
        return 1 / (1 + math.exp(-x))

    return quick if x == types.float32 else exact


@sequential
def lstm(gates: Any, base: Any, of: Any, cell: Any, state: Any, at: int) -> None:
    """Take every row one step further, in place.

    Args:
        gates: the product for (i, f, g, o), (R, 4H), without the biases.
        base: table of what is added to it, (B, 4H).
        of: row of `base` for each row, (R,).
        cell: c, (R, H); overwritten.
        state: h in its columns from `at` on, (R, at + H); overwritten there.
        at: 0 or more.

    Source: the equations in the documentation of torch.nn.LSTM.
    """
    rows, size = cell.shape
    two, one = cell.dtype.type(2), cell.dtype.type(1)
    for r in range(rows):
        g, b, c, h = gates[r], base[of[r]], cell[r], state[r, at:]
        for j in range(size):
            i = _sigmoid(g[j] + b[j])
            f = _sigmoid(g[size + j] + b[size + j])
            new = two * _sigmoid(two * (g[2 * size + j] + b[2 * size + j])) - one  # tanh
            o = _sigmoid(g[3 * size + j] + b[3 * size + j])
            c[j] = f * c[j] + i * new
            h[j] = o * (two * _sigmoid(two * c[j]) - one)


@sequential
def gru(gates: Any, base: Any, of: Any, state: Any, at: int) -> None:
    """Take every row one step further, in place.

    Args:
        gates: the product for (r, z, n from the input, n from the state), (R, 4H),
            without the biases.
        base: table of what is added to it, (B, 4H).
        of: row of `base` for each row, (R,).
        state: h in its columns from `at` on, (R, at + H); overwritten there.
        at: 0 or more.

    Source: the equations in the documentation of torch.nn.GRU.
    """
    rows, size = len(gates), gates.shape[1] // 4
    two, one = state.dtype.type(2), state.dtype.type(1)
    for r in range(rows):
        g, b, h = gates[r], base[of[r]], state[r, at:]
        for j in range(size):
            reset = _sigmoid(g[j] + b[j])
            keep = _sigmoid(g[size + j] + b[size + j])
            asked = g[2 * size + j] + b[2 * size + j]
            held = g[3 * size + j] + b[3 * size + j]
            new = two * _sigmoid(two * (asked + reset * held)) - one  # tanh
            h[j] = (one - keep) * new + keep * h[j]
