"""Errors of layers agree with their definition, within a bound on memory."""

from __future__ import annotations

import gc
import math
import weakref

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill.compare import activations
from edgedistill.compare.activations import Network, Range
from edgedistill.compare.layer_errors import LayerComparer, Sums
from edgedistill.compare.pairing import pair
from edgedistill.errors import ConfigError
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load

_PLENTY = 1 << 28


@pytest.fixture
def changed(student, tmp_path):
    """Return a copy of the FCN in which one weight of a layer is another."""

    def call(layer="blocks.2.0.weight", factor=1.5):
        model = onnx.load(student("fcn"))
        weight = next(i for i in model.graph.initializer if i.name == layer)
        values = numpy_helper.to_array(weight).copy()
        place = np.unravel_index(np.abs(values).argmax(), values.shape)
        values[place] *= factor
        weight.CopyFrom(numpy_helper.from_array(values, layer))
        path = tmp_path / "changed.onnx"
        path.write_bytes(model.SerializeToString())
        return Network(path)

    return call


def _silent(*call):
    """Ignore progress."""


def _bench(first, second, series, memory_bytes=_PLENTY, tell=_silent):
    return LayerComparer(
        first=first,
        second=second,
        pairing=pair(first, second, series.shape[1:]),
        series=series,
        memory_bytes=memory_bytes,
        on_progress=tell,
    )


def _all(network, series):
    names = [layer.name for layer in network.layers(2, series.shape[1:])]
    return dict(zip(names, network.reader(names)({network.input: series}), strict=True))


def test_sums_are_those_of_plain_numpy(rng):
    """Relative L2 error and range, whatever the blocks and chunks."""
    a, b = rng.normal(size=(2, 50_001)).astype(np.float32)
    found = Sums()

    found.add(a[:20_000], b[:20_000], Range(-1.0, 1.0, 0.5))
    found.add(a[20_000:], b[20_000:], Range(-1.0, 1.0, 0.5))

    wide = a.astype(np.float64)
    assert found.error == pytest.approx(np.linalg.norm(b - wide) / np.linalg.norm(wide))
    assert (found.low, found.high) == (a.min(), a.max())
    assert found.outside == (np.abs(a) > 1.25).sum()


def test_values_that_are_not_finite_are_counted(rng):
    """In the second alone, and then no error is small enough."""
    a = np.array([1.0, np.inf, 2.0, 3.0], np.float32)
    found = Sums()

    found.add(a, np.array([1.0, np.inf, np.nan, -np.inf], np.float32))

    assert (found.infinite, found.values) == (2, 4)
    assert math.isinf(found.error)


def test_error_of_zeros_is_zero_or_infinite():
    """Any other value is infinitely far from zeros."""
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    same, other = Sums(), Sums()

    same.add(zeros, zeros)
    other.add(zeros, ones)

    assert same.error == 0
    assert math.isinf(other.error)


def test_errors_are_those_of_the_definition(student, changed, series):
    """Accumulated: both from the series. Added: the second's layer on the first's values."""
    first, second = Network(student("fcn")), changed()
    bench = _bench(first, second, series)
    one, other = _all(first, series), _all(second, series)

    accumulated, added = bench.accumulated_errors(), bench.added_errors(bench.pairing.pairs)

    for name in one:
        expected = np.linalg.norm(other[name] - one[name]) / np.linalg.norm(one[name])
        assert accumulated[name].error == pytest.approx(expected, rel=1e-4)
    assert [name for name in one if added[name].error > 1e-6] == ["getitem_3"]
    assert added["getitem_3"].error == pytest.approx(accumulated["getitem_3"].error)
    assert accumulated["relu"].error == 0


@pytest.mark.parametrize("memory_bytes", [40_000, 200_000])
def test_passes_and_chunks_change_nothing(student, changed, series, memory_bytes):
    """Parts give the same sums as the whole."""
    first, second = Network(student("fcn")), changed()
    whole = _bench(first, second, series).layer_errors(1e-5)
    calls = []

    parts = _bench(
        first, second, series, memory_bytes, lambda done, total: calls.append((done, total))
    ).layer_errors(1e-5)

    assert len(calls) > 4  # several groups in each pass
    assert calls[-1] == (8, 8)
    for a, b in zip(whole, parts, strict=True):
        assert b.error == pytest.approx(a.error, rel=1e-5)
        assert b.added == pytest.approx(a.added, rel=1e-5)


@pytest.mark.parametrize("memory_bytes", [100_000, 1_000_000])
def test_memory_stays_within_the_bound(student, changed, series, memory_bytes, monkeypatch):
    """Every output of a session is counted for as long as it lives."""
    long = np.tile(series, (8, 1, 1))
    live, peak = 0, 0

    def counted(model, name):
        return _Counting(opened(model, name))

    class _Counting:
        def __init__(self, session):
            self.session = session

        def __getattr__(self, name):
            return getattr(self.session, name)

        def run(self, *arguments):
            nonlocal live, peak
            found = self.session.run(*arguments)
            for array in found:
                live += array.nbytes
                weakref.finalize(array, _gone, array.nbytes)
            peak = max(peak, live)
            return found

    def _gone(size):
        nonlocal live
        live -= size

    opened = activations._session
    first, second = Network(student("fcn")), changed()
    monkeypatch.setattr(activations, "_session", counted)

    _bench(first, second, long, memory_bytes).layer_errors(1e-5)

    gc.collect()
    assert 0.2 * memory_bytes < peak <= memory_bytes
    assert live == 0


def test_memory_of_all_layers_exceeds_the_bound(student, changed, series):
    """All layers of all series at once need far more than the bound of the test above."""
    network = Network(student("fcn"))

    assert sum(value.nbytes for value in _all(network, np.tile(series, (8, 1, 1))).values()) > 5e6


def test_bound_below_one_layer_is_refused(student, changed, series):
    """The message names the layer and its memory."""
    bench = _bench(Network(student("fcn")), changed(), series, 5_000)

    with pytest.raises(ConfigError, match=r"5000 bytes .* node_Conv_\d+ for 1 series, 7680 bytes"):
        bench.layer_errors(1e-5)


def test_name_of_another_value_is_no_error(student, series, tmp_path):
    """Folding puts a norm before LITE's concatenation: its name then is of normalized values."""
    path = tmp_path / "folded.onnx"
    path.write_bytes(fold(load(student("lite"))).SerializeToString())

    found = _bench(Network(student("lite")), Network(path), series).layer_errors(1e-5)

    (other,) = [layer for layer in found if layer.other]
    assert (other.operator, other.beyond, other.added) == ("Concat", True, None)
    assert all(layer.added < 1e-5 for layer in found if layer is not other)
    assert all(not layer.beyond for layer in found if layer is not other)
