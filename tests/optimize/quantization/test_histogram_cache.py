"""Histograms are collected once for a model and its series, and never taken for those of others."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgedistill.optimize.passes.graph import fold, load, strip
from edgedistill.optimize.quantization import histogram_cache as histograms
from edgedistill.optimize.quantization.calibration import METHODS, observe, ranges
from edgedistill.optimize.quantization.histogram_cache import cached_observer, key
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.optimize.quantization.symmetric import to_int8_symmetric


@pytest.fixture
def model(student):
    return strip(fold(load(student("fcn"))))


@pytest.fixture
def asked(monkeypatch):
    """How often a model was really run to see its values."""
    found = []

    def counted(model, series):
        found.append(len(series))
        return observe(model, series)

    monkeypatch.setattr(histograms, "observe", counted)
    return found


def _same(found, expected):
    assert found.keys() == expected.keys()
    for name, histogram in expected.items():
        assert (found[name].low, found[name].high) == (histogram.low, histogram.high)
        np.testing.assert_array_equal(found[name].counts, histogram.counts)


def test_a_second_run_does_not_collect_again(model, series, asked, tmp_path):
    """Not even one that another process would do: all that is shared is the folder."""
    first = cached_observer(tmp_path / "c")(model, series)
    again = cached_observer(tmp_path / "c")(model, series)

    assert asked == [len(series)]
    _same(first, observe(model, series))
    _same(again, first)
    for method in METHODS:
        assert ranges(again, method) == ranges(first, method)


def test_other_series_and_other_models_are_collected(model, student, series, asked, tmp_path):
    """One changed value, one series less, another network: none is served another's."""
    observed = cached_observer(tmp_path)
    changed = series.copy()
    changed[0, 0, 0] += 1
    observed(model, series)

    for other, values in (
        (model, changed),
        (model, series[:-1]),
        (strip(fold(load(student("lite")))), series),
    ):
        _same(observed(other, values), observe(other, values))

    assert len(asked) == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_the_key_is_of_bins_and_runtime_too(model, series, monkeypatch):
    """What would give other histograms is another key."""
    before = key(model, series)

    monkeypatch.setattr(histograms, "BINS", 7)
    bins = key(model, series)
    monkeypatch.undo()
    monkeypatch.setattr(histograms.onnxruntime, "__version__", "0")

    assert len({before, bins, key(model, series)}) == 3
    assert key(model, series.reshape(1, 1, -1)) != key(model, series)


@pytest.mark.parametrize("content", [b"", b"no npz", None], ids=["empty", "other", "half"])
def test_damaged_histograms_are_collected_again(model, series, content, asked, tmp_path):
    """They are no result: nothing is refused for their sake."""
    observed = cached_observer(tmp_path)
    expected = observed(model, series)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)

    _same(observed(model, series), expected)
    observed(model, series)

    assert len(asked) == 2


def test_an_archive_of_other_arrays_is_collected_again(model, series, asked, tmp_path):
    """One that can be read, and holds nothing of ours."""
    path = tmp_path / f"{key(model, series)}.npz"
    np.savez(path, x=np.ones(3))

    _same(cached_observer(tmp_path)(model, series), observe(model, series))

    assert len(asked) == 1


@pytest.mark.parametrize("make", [to_int8, to_int8_symmetric])
def test_models_are_the_same_with_and_without(make, model, series, asked, tmp_path):
    """What is kept is what would be collected, to the last digit."""
    observed = cached_observer(tmp_path)

    found = [make(model, series, method="entropy", observe=observed) for _ in range(2)]

    assert len(asked) == 1
    expected = make(model, series, method="entropy").SerializeToString(deterministic=True)
    assert [one.SerializeToString(deterministic=True) for one in found] == [expected] * 2


def test_reading_is_faster_than_collecting(model, series, tmp_path):
    """Or there would be no reason to keep them."""
    observed = cached_observer(tmp_path)
    began = time.perf_counter()
    observed(model, np.tile(series, (4, 1, 1)))
    collected = time.perf_counter()
    observed(model, np.tile(series, (4, 1, 1)))

    assert time.perf_counter() - collected < (collected - began) / 2
