"""The clock: what it measures, and how sure it is."""

from __future__ import annotations

import gc
import time
from itertools import pairwise

import numpy as np
import pytest

from edgedistill.device import benchmark
from edgedistill.device.benchmark import AutoRuns
from edgedistill.errors import ShapeError, UsageError
from edgedistill.runtimes.onnxruntime import OrtRuntime


class Sleeper:
    """A runtime that takes a known time and remembers how it was called."""

    name = "sleeper"

    def __init__(self, seconds):
        self.seconds = seconds
        self.calls = 0
        self.collected = []

    def logits(self, series):
        self.calls += 1
        self.collected.append(gc.isenabled())
        time.sleep(self.seconds)
        return np.zeros((len(series), 2), dtype=np.float32)

    def describe(self):
        return {}


def test_measures_the_time_of_one_call():
    """2 ms of sleep are 2 ms or a little more, 500 series a second or a few less."""
    found = benchmark.measure(Sleeper(0.002), np.zeros((1, 1, 4), np.float32), warmup=1, runs=20)

    assert 2 <= found.p50_ms.value < 20
    assert found.p50_ms.value <= found.p95_ms.value <= found.p99_ms.value
    assert 50 < found.series_per_s <= 500
    assert found.runs == 20


def test_warmup_is_called_but_not_counted():
    """Three calls to warm up, five timed; the collector rests only in the timed ones."""
    sleeper = Sleeper(0)

    benchmark.measure(sleeper, np.zeros((1, 1, 4), np.float32), warmup=3, runs=5)

    assert sleeper.calls == 8
    assert sleeper.collected == [True] * 3 + [False] * 5
    assert gc.isenabled()


def test_times_a_real_session(world):
    """A real model gives positive, ordered times."""
    runtime = OrtRuntime(world.folder / "student.onnx")

    found = benchmark.measure(runtime, world.series[:1], runs=50)

    assert 0 < found.p50_ms.low <= found.p50_ms.value <= found.p50_ms.high
    assert found.p95_ms.value <= found.p99_ms.value


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_interval_covers_the_true_quantile(share, rng):
    """Over 2000 draws of 200 exponential times about 95 % of the intervals hold the truth."""
    truth = -np.log(1 - share)
    intervals = [benchmark.quantile(rng.exponential(size=200), share) for _ in range(2000)]

    covered = np.mean([found.low <= truth <= found.high for found in intervals])

    assert 0.93 < covered < 0.97


def test_one_value_is_its_own_interval():
    """A single run has no spread."""
    found = benchmark.quantile(np.array([3.0]), 0.99)

    assert (found.value, found.low, found.high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize("shape", [(2, 1, 4), (1, 4), (0, 1, 4)], ids=str)
def test_sample_must_be_one_series(shape):
    """A batch is refused: its time is not a series' time."""
    with pytest.raises(ShapeError, match="time one series"):
        benchmark.measure(Sleeper(0), np.zeros(shape, np.float32))


@pytest.mark.parametrize(("warmup", "runs"), [(0, 0), (-1, 5)])
def test_counts_must_make_sense(warmup, runs):
    """No timed run, or a negative warm-up, is a usage error."""
    with pytest.raises(UsageError, match=f"runs is {runs} and warmup {warmup}"):
        benchmark.measure(Sleeper(0), np.zeros((1, 1, 4), np.float32), warmup=warmup, runs=runs)


def _series():
    return np.zeros((1, 1, 4), np.float32)


def test_goes_on_until_the_interval_is_narrow():
    """A steady runtime ends after one block of calls, with the p95 as well known as asked."""
    steady = Sleeper(0.001)

    found = benchmark.measure(steady, _series(), warmup=1, runs=AutoRuns(width=5.0, budget_s=30))

    assert found.ended == "interval"
    assert found.runs == benchmark.RUNS
    assert found.p95_width <= 5.0


def test_stops_when_the_time_is_up():
    """An interval that is never narrow enough costs the budget, and no more than one call over."""
    begin = time.perf_counter()

    found = benchmark.measure(Sleeper(0.001), _series(), runs=AutoRuns(width=1e-9, budget_s=0.4))

    assert found.ended == "budget"
    assert found.runs >= 20
    assert 0.4 < time.perf_counter() - begin < 4


def test_a_slow_model_is_still_timed_a_few_times():
    """Warm-up takes at most half of the budget; then there are twenty calls, however long."""
    slow = Sleeper(0.02)

    found = benchmark.measure(slow, _series(), runs=AutoRuns(budget_s=0.1))

    assert (found.ended, found.runs) == ("budget", 20)
    assert slow.calls < 30


def test_blocks_double_until_enough():
    """The interval is looked at after 200, 400, 800 ... calls."""

    class Uneven(Sleeper):
        def logits(self, series):
            time.sleep(0.0004 * (self.calls % 7))
            return super().logits(series)

    found = benchmark.measure(Uneven(0), _series(), runs=AutoRuns(width=0.3, budget_s=20))

    assert found.ended == "interval"
    assert found.runs in {200 * 2**n for n in range(6)}


def test_fixed_runs_are_reported_as_such():
    """A number of runs is a number of runs."""
    assert benchmark.measure(Sleeper(0), _series(), runs=7).ended == "runs"


@pytest.mark.parametrize(("width", "budget"), [(0, 1), (0.1, 0), (-1, 1), (float("nan"), 1)])
def test_auto_runs_need_positive_limits(width, budget):
    """No width and no time are usage errors, not endless loops."""
    with pytest.raises(UsageError, match="give more than 0 for both"):
        AutoRuns(width=width, budget_s=budget)


def test_throughput_by_batch():
    """A call costs the same whatever its batch: the largest one answers most series a second."""
    found = benchmark.throughput(Sleeper(0.01), _series())

    assert tuple(found) == benchmark.BATCHES
    assert 20 < found[1] <= 100
    assert max(found, key=found.get) == benchmark.BATCHES[-1]


def test_throughput_leaves_out_what_would_take_too_long(monkeypatch):
    """A batch whose call would take longer than the limit is not tried."""
    monkeypatch.setattr(benchmark, "_SLOWEST_CALL_S", 0.03)

    assert tuple(benchmark.throughput(Sleeper(0.01), _series())) == (1,)


def test_throughput_needs_one_series():
    """As `measure` does."""
    with pytest.raises(ShapeError, match="time one series"):
        benchmark.throughput(Sleeper(0), np.zeros((2, 1, 4), np.float32))


def test_interleaved_medians_are_in_order():
    """In turns: the medians are those of each model, in the order they were given."""
    slow, quick = Sleeper(0.01), Sleeper(0.001)

    found = benchmark.measure_interleaved([slow, quick], np.zeros((1, 1, 4), np.float32), rounds=7)

    assert 1 <= found[1].low <= found[1].value <= found[1].high < 10 <= found[0].low
    assert slow.calls < quick.calls  # a block lasts as long, whoever is in it


def test_interleaved_models_take_turns():
    """No model is measured in one go: what else the machine does meets them all."""
    turns = []

    class Noting(Sleeper):
        def logits(self, series):
            turns.append(self)
            return super().logits(series)

    models = [Noting(0.001) for _ in range(3)]

    benchmark.measure_interleaved(models, np.zeros((1, 1, 4), np.float32), rounds=6)

    changes = sum(a is not b for a, b in pairwise(turns))
    assert changes >= 6 * 2


def test_interleaved_checks_its_arguments():
    """As `measure` does."""
    with pytest.raises(ShapeError, match="time one series"):
        benchmark.measure_interleaved([Sleeper(0)], np.zeros((2, 1, 4), np.float32))
    with pytest.raises(UsageError, match="rounds is 0"):
        benchmark.measure_interleaved([Sleeper(0)], np.zeros((1, 1, 4), np.float32), rounds=0)
