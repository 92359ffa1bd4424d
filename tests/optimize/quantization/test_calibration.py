"""Ranges are those of the values on the series, by each method; histograms are cached."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.errors import ConfigError
from edgedistill.optimize.execution import errors, runner
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.optimize.quantization import calibration
from edgedistill.optimize.quantization import int8 as quantization
from edgedistill.optimize.quantization.calibration import (
    LEVELS,
    METHODS,
    Histogram,
    cached_observer,
    key,
    observe,
    ranges,
    share_ranges,
)
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.optimize.quantization.symmetric import to_int8_symmetric

pytestmark = pytest.mark.slow

BINS = 2048
OWN = {"a": (-1.0, 2.0), "b": (-3.0, 1.0), "c": (-3.0, 2.0), "r": (0.0, 2.0), "y": (0.0, 2.0)}


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


@pytest.fixture
def model(student):
    return strip(fold(load(student("fcn"))))


@pytest.fixture
def runs(monkeypatch):
    """The sizes of the calibrations that really ran a model."""
    found = []

    def counted(model, series):
        found.append(len(series))
        return observe(model, series)

    monkeypatch.setattr(calibration, "observe", counted)
    return found


def _same(found, expected):
    assert found.keys() == expected.keys()
    for name, histogram in expected.items():
        assert (found[name].low, found[name].high) == (histogram.low, histogram.high)
        np.testing.assert_array_equal(found[name].counts, histogram.counts)


def test_a_second_run_does_not_collect_again(model, series, runs, tmp_path):
    """Not even one that another process would do: all that is shared is the folder."""
    first = cached_observer(tmp_path / "c")(model, series)
    again = cached_observer(tmp_path / "c")(model, series)

    assert runs == [len(series)]
    _same(first, observe(model, series))
    _same(again, first)
    for method in METHODS:
        assert ranges(again, method) == ranges(first, method)


def test_other_series_and_other_models_are_collected(model, student, series, runs, tmp_path):
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

    assert len(runs) == 4
    assert len(list(tmp_path.iterdir())) == 4


def test_the_key_is_of_bins_and_runtime_too(model, series, monkeypatch):
    """Anything that changes the histograms changes the key."""
    before = key(model, series)

    monkeypatch.setattr(calibration, "BINS", 7)
    bins = key(model, series)
    monkeypatch.undo()
    monkeypatch.setattr(calibration.onnxruntime, "__version__", "0")

    assert len({before, bins, key(model, series)}) == 3
    assert key(model, series.reshape(1, 1, -1)) != key(model, series)


@pytest.mark.parametrize("content", [b"", b"no npz", None], ids=["empty", "other", "half"])
def test_damaged_histograms_are_collected_again(model, series, content, runs, tmp_path):
    """They are no result: nothing is refused for their sake."""
    observed = cached_observer(tmp_path)
    expected = observed(model, series)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)

    _same(observed(model, series), expected)
    observed(model, series)

    assert len(runs) == 2


def test_an_archive_of_other_arrays_is_collected_again(model, series, runs, tmp_path):
    """One that can be read, and holds nothing of ours."""
    path = tmp_path / f"{key(model, series)}.npz"
    np.savez(path, x=np.ones(3))

    _same(cached_observer(tmp_path)(model, series), observe(model, series))

    assert len(runs) == 1


@pytest.mark.parametrize("make", [to_int8, to_int8_symmetric])
def test_models_are_the_same_with_and_without_the_cache(make, model, series, runs, tmp_path):
    """Cached histograms equal collected ones, to the last digit."""
    observed = cached_observer(tmp_path)

    found = [make(model, series, method="entropy", observe=observed) for _ in range(2)]

    assert len(runs) == 1
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


def _model(body: str) -> onnx.ModelProto:
    return parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]>\n'
        f"g (float[N,2,6] x) => (float[N,C,6] y) {{a = Neg(x)\n b = Exp(x)\n {body}}}"
    )


def test_parts_take_the_range_of_the_relu_behind():
    model = _model("c = Concat<axis=1>(a, b)\n r = Relu(c)\n y = Neg(r)")

    found = share_ranges(model, OWN)

    assert found == OWN | {"a": (0.0, 2.0), "b": (0.0, 2.0)}


@pytest.mark.parametrize(
    "body",
    [
        "c = Concat<axis=1>(a, b)\n y = Neg(c)",
        "c = Concat<axis=1>(a, b)\n r = Relu(c)\n y = Mul(r, c)",
    ],
    ids=["no ReLU", "a ReLU that is not alone"],
)
def test_parts_take_the_range_of_the_concatenation(body):
    found = share_ranges(_model(body), OWN)

    assert found == OWN | {"a": (-3.0, 2.0), "b": (-3.0, 2.0)}


def test_a_part_with_other_readers_keeps_its_own():
    """They may need what the concatenation cuts off."""
    model = _model(
        "c = Concat<axis=1>(a, b)\n r = Relu(c)\n d = Concat<axis=1>(a, a)\n y = Add(r, d)"
    )

    found = share_ranges(model, OWN)

    assert found == OWN | {"b": (0.0, 2.0)}


def test_parts_joined_twice_take_the_last_range():
    model = _model("c = Concat<axis=1>(a, b)\n d = Concat<axis=1>(c, x)\n y = Relu(d)")

    found = share_ranges(model, OWN | {"d": (-4.0, 4.0)})

    assert found == OWN | {"d": (-4.0, 4.0), "a": (0.0, 2.0), "b": (0.0, 2.0), "c": (0.0, 2.0)}


@pytest.mark.parametrize("body", ["y = Concat<axis=1>(a, b)", "y = Add(a, b)"])
def test_outputs_and_other_nodes_change_nothing(body):
    assert share_ranges(_model(body), OWN) == OWN


@pytest.mark.parametrize("family", ["lite", "inception"])
def test_all_parts_have_one_scale(family, student, series, monkeypatch):
    """Without it they come with their own, and are rounded twice."""
    folded = fold(load(student(family)))

    shared = to_int8(folded, series)

    monkeypatch.setattr(quantization, "share_ranges", lambda _, found: found)
    apart = to_int8(folded, series)
    assert {len(scales) for scales in _joined(shared)} == {1}
    assert max(len(scales) for scales in _joined(apart)) > 1
    assert errors(runner(folded)(series), runner(shared)(series))[1] < 0.05


def _joined(model: onnx.ModelProto) -> list[set[tuple[float, int]]]:
    """Return, of each concatenation of 8-bit values, the scales and zero points that meet in it."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        parts = [makers[name] for name in node.input if name in makers]
        if node.op_type == "Concat" and {part.op_type for part in parts} == {"DequantizeLinear"}:
            behind = next(n for n in model.graph.node if node.output[0] in n.input)
            pairs = [part.input[1:] for part in (*parts, behind)]
            found.append({tuple(float(constants[name]) for name in pair) for pair in pairs})
    return found
