"""Ranges are those of what was seen, and each way to read them does what it says."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from edgedistill.errors import ConfigError
from edgedistill.optimize.quantization.calibration import (
    LEVELS,
    METHODS,
    Histogram,
    observe,
    ranges,
)

BINS = 2048


def histogram(values: np.ndarray) -> Histogram:
    low, high = float(values.min()), float(values.max())
    return Histogram(np.histogram(values, bins=BINS, range=(low, high))[0], low, high)


def error(values: np.ndarray, found: tuple[float, float]) -> float:
    """Mean squared error of values in 256 levels over a range."""
    low, high = found
    step = (high - low) / (LEVELS - 1)
    held = low + step * np.round((np.clip(values, low, high) - low) / step)
    return float(((values - held) ** 2).mean())


def read(values: np.ndarray, method: str) -> tuple[float, float]:
    return ranges({"x": histogram(values)}, method)["x"]


def test_every_float_value_is_observed(rng):
    """The input, what stands between, and the output, over all series."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,4] x) => (float[N,1,4] y) { a = Neg(x) y = Relu(a) }
        """
    )
    series = rng.normal(size=(7, 1, 4)).astype(np.float32)

    found = observe(model, series)

    low, high = float(series.min()), float(series.max())
    expected = {"x": (low, high), "a": (-high, -low), "y": (0.0, -low)}
    assert {name: (h.low, h.high) for name, h in found.items()} == expected
    assert {int(h.counts.sum()) for h in found.values()} == {series.size}
    assert ranges(found, "minmax") == expected


def test_percentile_keeps_all_but_a_thousandth(rng):
    values = rng.normal(size=200_000)

    low, high = read(values, "percentile")

    assert ((values < low) | (values > high)).mean() == pytest.approx(0.001, abs=2e-4)
    assert (values < low).mean() == pytest.approx((values > high).mean(), abs=2e-4)


def test_percentile_keeps_the_zero_of_a_relu(rng):
    """No value lies below zero, so none is cut there."""
    low, high = read(np.maximum(rng.normal(size=50_000), 0), "percentile")

    assert low == 0
    assert 2.5 < high < 4.5


@pytest.mark.parametrize("relu", [False, True], ids=["signed", "relu"])
def test_entropy_cuts_an_outlier_and_nothing_else(relu, rng):
    """One value far away costs all others their levels; without it all of the range is kept."""
    values = rng.normal(size=100_000)
    values = np.maximum(values, 0) if relu else values
    spiked = np.append(values, 100.0)

    found = read(spiked, "entropy")
    plain = read(values, "entropy")

    assert error(values, found) < 0.1 * error(values, read(spiked, "minmax"))
    assert error(values, plain) < 3 * error(values, read(values, "minmax"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_has_its_own_range(method, value):
    assert read(np.full(10, value), method) == (value, value)


def test_unknown_method():
    """The known ones are listed."""
    with pytest.raises(ConfigError, match="Choose from minmax, percentile, entropy"):
        ranges({}, "guess")
