"""Soft-DTW: the cost of warping one sequence onto another, over all alignments at once.

An alignment goes from the first pair of steps to the last, one step further in one sequence or
in both, and costs the sum of its pairs. Soft-DTW is the smooth minimum of all alignments,
`-gamma * log(sum(exp(-cost / gamma)))`: below the cheapest, and negative where many are cheap.

The definition in plain NumPy is here; the compiled loop is `soft_dtw_loop`.

Source: Cuturi and Blondel 2017, arXiv:1703.01541, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgedistill_kernels import backends
from edgedistill_kernels.reference import Floats

_PAYS = 1 << 12  # pairs of steps from which compiled code pays, the time to load it left aside


def soft_dtw(costs: Floats, *, gamma: float, backend: str = "auto") -> tuple[Floats, Floats]:
    """Return soft-DTW of every sample.

    Args:
        costs: cost of each pair of steps, (N, S, L).
        gamma: softness of the minimum; above 0.
        backend: "reference", "cpu", or "auto": "cpu" where it can run and there is enough to do.

    Returns:
        The values, (N,), and soft-DTW up to each pair, (N, S, L), which the gradient needs;
        float64.

    Raises:
        ValueError: the costs are not (N, S, L) with a step at least, gamma is not above 0, or
            no backend has that name.
        RuntimeError: the backend cannot run here.
        TypeError: it computes with other types.
    """
    _check(costs, gamma)
    if _choose(costs, backend) == "reference":
        table = _forward(costs.astype(np.float64), gamma)
    else:
        from edgedistill_kernels.soft_dtw_loop import forward  # Numba takes a second to import

        table = np.empty(costs.shape)
        forward(_plain(costs), float(gamma), table)
    return table[:, -1, -1].copy(), table


def soft_dtw_backward(
    grad: Floats, costs: Floats, table: Floats, *, gamma: float, backend: str = "auto"
) -> Floats:
    """Return the gradient of the costs, (N, S, L), float64: the weight of each pair.

    Args:
        grad: gradient of the values, (N,).
        costs: (N, S, L).
        table: table that `soft_dtw` returned beside the values.
        gamma: as in the forward pass.
        backend: as in the forward pass.

    Raises:
        ValueError: the shapes do not fit, gamma is not above 0, or no backend has that name.
        RuntimeError: the backend cannot run here.
        TypeError: it computes with other types.
    """
    _check(costs, gamma)
    if table.shape != costs.shape or grad.shape != costs.shape[:1]:
        raise ValueError(
            f"grad {grad.shape}, costs {costs.shape} and table {table.shape} do not fit."
        )
    if _choose(costs, backend) == "reference":
        return _backward(grad.astype(np.float64), costs.astype(np.float64), table, gamma)
    from edgedistill_kernels.soft_dtw_loop import backward

    found = np.empty(costs.shape)
    backward(_plain(grad), _plain(costs), _plain(table), float(gamma), found)
    return found


def _forward(costs: Floats, gamma: float) -> Floats:
    """Return the value up to each pair, a smooth minimum over those before it."""
    samples, rows, columns = costs.shape
    table = np.full((samples, rows + 1, columns + 1), np.inf)
    table[:, 0, 0] = 0
    for i, j in np.ndindex(rows, columns):
        before = np.stack([table[:, i, j], table[:, i, j + 1], table[:, i + 1, j]])
        least = before.min(axis=0)
        soft = least - gamma * np.log(np.exp((least - before) / gamma).sum(axis=0))
        table[:, i + 1, j + 1] = costs[:, i, j] + soft
    return table[:, 1:, 1:]


def _backward(grad: Floats, costs: Floats, table: Floats, gamma: float) -> Floats:
    """Return the gradient, from the last pair back: each gives its own to those before it."""
    found = np.zeros(costs.shape)
    found[:, -1, -1] = grad
    for i, j in reversed(list(np.ndindex(costs.shape[1:]))):
        for k, m in _after(i, j, *costs.shape[1:]):
            share = np.exp((table[:, k, m] - costs[:, k, m] - table[:, i, j]) / gamma)
            found[:, i, j] += found[:, k, m] * share
    return found


def _after(i: int, j: int, rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs that an alignment can continue with."""
    for k, m in ((i + 1, j), (i, j + 1), (i + 1, j + 1)):
        if k < rows and m < columns:
            yield k, m


def _choose(costs: Floats, backend: str) -> str:
    chosen = backends.choose(backend, costs.size >= _PAYS, costs)
    if chosen == "cuda":
        raise ValueError("Soft-DTW has no backend 'cuda'. Use 'cpu', on arrays of the host.")
    return chosen


def _check(costs: Floats, gamma: float) -> None:
    if costs.ndim != 3 or 0 in costs.shape[1:]:
        raise ValueError(f"costs must be (N, S, L) with a step at least, got {costs.shape}.")
    if not gamma > 0:
        raise ValueError(f"gamma must be above 0, got {gamma}.")


def _plain(array: Floats) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float64)
