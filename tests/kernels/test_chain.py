"""The changes by windows in a chain, against running it twice."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from edgedistill_kernels import chain

LENGTH = 45


def convolve(x, weight, padding, dilation):
    """The definition: zeros on the left and right, one product at a time."""
    padded = np.pad(x, ((0, 0), (padding, padding)))
    taps = weight.shape[2]
    length = padded.shape[1] - dilation * (taps - 1)
    return sum(
        weight[:, :, t] @ padded[:, t * dilation : t * dilation + length] for t in range(taps)
    )


def run(x, links, head):
    """Return the values before each ReLU, and the logits of one series."""
    cleans = []
    for weight, padding, dilation in links:
        cleans.append(convolve(x, weight, padding, dilation))
        x = np.maximum(cleans[-1], 0)
    return cleans, head @ x.mean(axis=1)


def links_of(rng, channels, depth, kind):
    """Draw the layers of a chain."""
    links = []
    for _ in range(depth):
        filters, taps = rng.integers(1, 13), rng.integers(1, 7)
        weight = rng.normal(size=(filters, channels, taps)) / np.sqrt(channels * taps)
        links.append((weight.astype(kind), int(rng.integers(0, taps + 1)), int(rng.integers(1, 4))))
        channels = filters
    return links


def starts_of(rng, how, samples, width):
    """Draw windows; the first and the last touch the borders."""
    last = LENGTH - width
    if how == "every":
        return np.arange(last + 1)[None]
    if how == "sparse":
        return np.arange(0, last + 1, 1 + last // 4)[None]
    if how == "shared":
        return np.r_[last, rng.integers(0, last + 1, 5), 0][None]
    if how == "still":
        return np.full((samples, 3), last)
    return np.c_[rng.integers(0, last + 1, (samples, 37)), np.zeros(samples, int)]


@pytest.mark.parametrize("kind", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("how", ["every", "sparse", "shared", "still", "apart"])
@pytest.mark.parametrize("threads", [1, 2])
def test_changes_are_those_of_two_full_passes(kind, how, threads, rng):
    """Any depth, width, padding, dilation and window, at both borders."""
    for depth in (1, 2, 3, 4):
        samples, channels, classes = rng.integers(1, 4), rng.integers(1, 13), rng.integers(1, 7)
        links = links_of(rng, channels, depth, kind)
        head = rng.normal(size=(classes, len(links[-1][0]))).astype(kind)
        width = int(rng.choice([1, 2, 9, LENGTH]))
        starts = starts_of(rng, how, samples, width)
        series = rng.normal(size=(samples, channels, LENGTH)).astype(kind)
        patches = rng.normal(size=(samples, starts.shape[1], channels, width)).astype(kind)

        known = [run(x, links, head) for x in series]
        layers = [
            chain.Layer(*link, np.stack([cleans[i] for cleans, _ in known]))
            for i, link in enumerate(links)
        ]
        found = chain.changes(series, starts, patches, layers, head, threads=threads)

        for (n, w), start in np.ndenumerate(np.broadcast_to(starts, patches.shape[:2])):
            copy = series[n].copy()
            copy[:, start : start + width] = patches[n, w]
            change = run(copy, links, head)[1] - known[n][1]
            tolerance = 1e-12 if kind is np.float64 else 1e-5
            np.testing.assert_allclose(found[n, w], change, rtol=0, atol=tolerance)


@pytest.fixture
def small(rng):
    """A chain of one layer with its series, windows and patches."""
    weight = rng.normal(size=(3, 2, 5))
    series = rng.normal(size=(2, 2, 20))
    cleans = np.stack([convolve(x, weight, 2, 1) for x in series])
    return {
        "series": series,
        "starts": np.arange(16)[None],
        "patches": rng.normal(size=(2, 16, 2, 4)),
        "layers": [chain.Layer(weight, 2, 1, cleans)],
        "head": rng.normal(size=(4, 3)),
    }


def test_a_patch_that_is_the_series_changes_nothing(small):
    windows = np.lib.stride_tricks.sliding_window_view(small["series"], 4, axis=2)[:, :, :16]
    small["patches"] = windows.transpose(0, 2, 1, 3)  # no plain memory either, and read-only

    found = chain.changes(**small)

    np.testing.assert_array_equal(found, np.zeros((2, 16, 4)))


def test_nan_stays_nan_in_its_own_window(small):
    small["patches"][1, 7] = np.nan

    found = chain.changes(**small)

    assert np.isnan(found[1, 7]).all()
    assert np.isnan(found).sum() == found.shape[2]


@pytest.mark.parametrize("samples", [0, 2])
def test_no_windows_or_series_give_an_empty_result(samples, small):
    windows = 16 if samples == 0 else 0
    layer = small["layers"][0]
    small["layers"] = [chain.Layer(layer.weight, 2, 1, layer.clean[:samples])]
    small["series"], small["starts"] = small["series"][:samples], small["starts"][:, :windows]
    small["patches"] = small["patches"][:samples, :windows]

    assert chain.changes(**small).shape == (samples, windows, 4)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("series", np.zeros((2, 3, 20))),
        ("starts", np.zeros((1, 15), int)),
        ("starts", np.zeros((3, 16), int)),
        ("patches", np.zeros((2, 16, 1, 4))),
        ("layers", []),
        ("layers", [chain.Layer(np.zeros((3, 2, 5)), 2, 1, np.zeros((1, 3, 20)))]),
        ("layers", [chain.Layer(np.zeros((3, 1, 5)), 2, 1, np.zeros((2, 3, 20)))]),
        ("head", np.zeros((4, 2))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(name, wrong, small):
    with pytest.raises(ValueError, match=r"series .* starts .* patches .* head .* do not fit"):
        chain.changes(**(small | {name: wrong}))


@pytest.mark.parametrize("start", [-1, 17])
def test_windows_that_leave_their_series_are_refused(start, small):
    small["starts"][0, 3] = start

    with pytest.raises(ValueError, match="leave a series of 20 steps"):
        chain.changes(**small)


def test_importing_it_does_not_import_numba():
    code = "import edgedistill_kernels.chain, sys; sys.exit('numba' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_runs_where_nothing_can_be_cached(small, tmp_path):
    """A folder that cannot be written is a reason to compile again, not to fail."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "from edgedistill_kernels.compiling import sequential\n"
        "assert sequential(lambda x: x + 1)(1) == 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env=dict(os.environ), cwd=tmp_path
    )

    assert done.returncode == 0
