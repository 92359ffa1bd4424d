"""Soft-DTW against all ways counted one by one, and the compiled loop against the definition."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from edgedistill_kernels.soft_dtw import soft_dtw, soft_dtw_backward

BACKENDS = ("reference", "cpu")
SHAPES = [(2, 1, 1), (1, 1, 5), (3, 4, 1), (2, 4, 5), (3, 3, 3)]


def ways(i: int, j: int) -> Iterator[list[tuple[int, int]]]:
    """Every way from the first pair to (i, j)."""
    if (i, j) == (0, 0):
        yield [(0, 0)]
        return
    for k, m in ((i - 1, j), (i, j - 1), (i - 1, j - 1)):
        if k >= 0 and m >= 0:
            for way in ways(k, m):
                yield [*way, (i, j)]


def counted(costs: np.ndarray, gamma: float) -> tuple[float, np.ndarray]:
    """Soft-DTW of (S, L) and its gradient: how likely a way passes each pair."""
    found = list(ways(costs.shape[0] - 1, costs.shape[1] - 1))
    sums = np.array([sum(costs[pair] for pair in way) for way in found])
    weights = np.exp(-(sums - sums.min()) / gamma)
    passes = np.zeros(costs.shape)
    for way, weight in zip(found, weights / weights.sum(), strict=True):
        for pair in way:
            passes[pair] += weight
    return sums.min() - gamma * np.log(weights.sum()), passes


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gamma", [0.01, 1.2, 50.0])
def test_soft_dtw_is_the_smooth_minimum_over_alignments(backend, shape, gamma, rng):
    costs, grad = rng.exponential(size=shape), rng.normal(size=shape[0])

    values, table = soft_dtw(costs, gamma=gamma, backend=backend)
    slopes = soft_dtw_backward(grad, costs, table, gamma=gamma, backend=backend)

    for n, cost in enumerate(costs):
        value, passes = counted(cost, gamma)
        assert values[n] == pytest.approx(value, rel=1e-9)
        np.testing.assert_allclose(slopes[n], grad[n] * passes, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1, 1e5])
def test_the_compiled_loop_agrees_with_the_definition(rng, kind, scale):
    """On longer sequences, also where costs are far apart."""
    costs = (scale * rng.exponential(size=(3, 40, 33))).astype(kind)
    grad = rng.normal(size=3).astype(kind)

    results = []
    for backend in BACKENDS:
        values, table = soft_dtw(costs, gamma=1.2, backend=backend)
        slopes = soft_dtw_backward(grad, costs, table, gamma=1.2, backend=backend)
        results.append((values, table, slopes))

    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-8)


def test_views_of_arrays_are_accepted(rng):
    """Costs need not lie in one piece."""
    costs = rng.exponential(size=(5, 30, 4)).transpose(2, 1, 0)

    loose, whole = (soft_dtw(c, gamma=1.0, backend="cpu")[0] for c in (costs, costs.copy()))

    np.testing.assert_array_equal(loose, whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_nan(backend):
    costs = np.ones((2, 3, 3))
    costs[1, 1] = np.nan

    values, _ = soft_dtw(costs, gamma=1.0, backend=backend)

    assert np.isfinite(values[0])
    assert np.isnan(values[1])


def test_little_work_needs_no_numba():
    """It takes a second to import."""
    script = (
        "import sys, numpy as np; from edgedistill_kernels.soft_dtw import soft_dtw; "
        "soft_dtw(np.ones((2, 3, 3)), gamma=1.0); "
        "assert 'numba' not in sys.modules; "
        "soft_dtw(np.ones((2, 64, 64)), gamma=1.0); "
        "assert 'numba' in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("shape", "gamma", "backend", "message"),
    [
        ((3, 3), 1.0, "auto", r"costs must be \(N, S, L\) with a step at least, got \(3, 3\)"),
        ((2, 0, 3), 1.0, "auto", r"with a step at least, got \(2, 0, 3\)"),
        ((2, 3, 3), 0.0, "auto", "gamma must be above 0, got 0.0"),
        ((2, 3, 3), 1.0, "tpu", "No backend 'tpu'"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(shape, gamma, backend, message):
    with pytest.raises(ValueError, match=message):
        soft_dtw(np.ones(shape), gamma=gamma, backend=backend)


def test_a_gradient_of_another_shape_is_refused():
    costs = np.ones((2, 3, 4))
    _, table = soft_dtw(costs, gamma=1.0)

    for grad, other in ((np.ones(3), table), (np.ones(2), table[:, 1:])):
        with pytest.raises(ValueError, match=r"costs \(2, 3, 4\) and table .* do not fit"):
            soft_dtw_backward(grad, costs, other, gamma=1.0)


def test_there_is_no_backend_for_gpus(monkeypatch):
    monkeypatch.setattr("edgedistill_kernels.backends.unavailable_reason", lambda _: "")

    with pytest.raises(ValueError, match="Soft-DTW has no backend 'cuda'"):
        soft_dtw(np.ones((2, 3, 4)), gamma=1.0, backend="cuda")
