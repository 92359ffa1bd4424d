"""The cache of a teacher's logits against running it on perturbed copies."""

from __future__ import annotations

import errno
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from aeon.datasets import load_basic_motions

from edgedistill.errors import ConfigError, DataError, ModelError
from edgedistill.io.files import fingerprint
from edgedistill.models import ModelSpec, build
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers import window_cache as bank_module
from edgedistill.teachers.window_cache import (
    UNIFORM,
    WindowCache,
    WindowCacheSpec,
    affordable_windows,
    draw_weighted_starts,
    open_window_cache,
    start_probabilities,
    write_window_cache,
)

CLASSES, LENGTH, TRAINED, WIDTH, NUMBER = 4, 25, 24, 6, 7
BYTES_OF_A_WINDOW = 4 + 4 + 4 * CLASSES


class BlackBox:
    """The same network without its faster way to changes."""

    can_explain, changes = True, None
    name = "black box"
    classes = CLASSES

    def __init__(self, teacher: TorchClassifier) -> None:
        self.logits = teacher.logits


@pytest.fixture(scope="module")
def plan() -> WindowCacheSpec:
    """Forty series of four motions, 24 of them for training."""
    series, names = load_basic_motions(split="train")
    labels = np.unique(names, return_inverse=True)[1].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    part = np.ascontiguousarray(series[order][:, :2, ::4] / 3, dtype=np.float32)
    return WindowCacheSpec(
        series=part, labels=labels[order], donor_count=TRAINED, width=WIDTH, number=NUMBER
    )


@pytest.fixture(scope="module", params=["fcn", "lstm"])
def teacher(request) -> TorchClassifier:
    """A network with incremental changes, and one without; with statistics of batch norm."""
    torch.manual_seed(0)
    model = build(
        ModelSpec(family=request.param, width=6), channels=2, classes=CLASSES, length=LENGTH
    )
    model(torch.randn(64, 2, LENGTH))
    return TorchClassifier(model, classes=CLASSES)


@pytest.fixture
def written(plan, tmp_path) -> Callable[..., WindowCache]:
    def make(teacher, changed: WindowCacheSpec = plan) -> WindowCache:
        write_window_cache(tmp_path, teacher, changed)
        return open_window_cache(tmp_path)

    return make


@pytest.mark.parametrize("kind", [lambda teacher: teacher, BlackBox], ids=["followed", "copies"])
@pytest.mark.parametrize("number", [NUMBER, 600], ids=["several series a call", "one series"])
def test_cached_logits_are_those_of_perturbed_copies(plan, teacher, written, kind, number):
    """One copy at a time, whichever way the teacher computes."""
    some = replace(plan, series=plan.series[:30], labels=plan.labels[:30], number=number)

    bank = written(kind(teacher), some)

    assert bank.logits.shape == (30, number, CLASSES)
    for row, window in ((0, 0), (1, number - 1), (13, 3), (29, number // 2)):
        copy = some.series[row].copy()
        for t in range(bank.starts[row, window], bank.starts[row, window] + WIDTH):
            copy[:, t] = some.series[bank.donors[row, window]][:, t]
        expected = teacher.logits(copy[None])[0]
        np.testing.assert_allclose(bank.logits[row, window], expected, atol=1e-5)
    np.testing.assert_allclose(bank.clean, teacher.logits(some.series), atol=1e-6)


def test_donors_are_training_series_of_other_classes(plan, teacher, written):
    """Of validation series, too, which are donors for no student."""
    bank = written(teacher)

    assert bank.donors.max() < TRAINED
    assert (plan.labels[bank.donors] != plan.labels[:, None]).all()
    assert {int(bank.starts.min()), int(bank.starts.max())} == {0, LENGTH - WIDTH}
    assert all(len(set(row)) == NUMBER for row in bank.starts.tolist())


def test_arrays_are_mapped_and_whole_when_pickled(teacher, written):
    """Another process that trains gets the same logits."""
    bank = written(teacher)

    again = pickle.loads(pickle.dumps(bank))

    assert isinstance(bank.logits, np.memmap)
    np.testing.assert_array_equal(again.logits, bank.logits)
    assert again.width == WIDTH


def test_a_step_draws_without_replacement(teacher, written, rng):
    bank = written(teacher)

    rows, picks = bank.pick(np.array([5, 3]), 4, rng)

    assert rows.tolist() == [[5], [3]]
    assert picks.shape == (2, 4)
    assert all(len(set(row)) == 4 for row in picks.tolist())
    assert all(sorted(row) == list(range(NUMBER)) for row in bank.pick(rows[:, 0], 7, rng)[1])


def test_equal_specs_draw_equal_windows(plan):
    rows = slice(0, 3)
    first = plan.draw(rows)

    again = replace(plan).draw(rows)
    other = replace(plan, seed=1).draw(rows)

    for one, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != different).any()


def test_key_depends_on_every_field_of_the_spec(plan):
    """On everything that the logits depend on, and on no student."""
    louder = plan.series * 2
    swapped = np.roll(plan.labels, 1)
    changes = [
        *({"series": louder}, {"labels": swapped}, {"donor_count": 23}),
        *({"width": 5}, {"number": 8}, {"seed": 1}),
    ]

    keys = {replace(plan, **change).key() for change in changes}

    assert plan.key() == replace(plan).key()
    assert len(keys | {plan.key()}) == len(changes) + 1


def test_key_of_uniform_windows_is_unchanged(plan):
    """Caches on disk from before starts had probabilities are found again."""
    hashes = [hashlib.sha256(part.tobytes()).hexdigest() for part in (plan.series, plan.labels)]

    expected = fingerprint([*hashes, plan.series.shape, TRAINED, WIDTH, NUMBER, 0])

    assert plan.key() == expected


def test_windows_are_drawn_by_their_probabilities(plan, teacher, written):
    """No window begins where the probability is 0; donors are of other classes."""
    chances = np.zeros((40, LENGTH - WIDTH + 1))
    chances[np.arange(40), np.arange(40) % 20] = 0.5
    chances[:, 19] += 0.5

    bank = written(teacher, replace(plan, start_weights=chances))

    for row in range(40):
        assert set(bank.starts[row].tolist()) <= {row % 20, 19}
    assert (plan.labels[bank.donors] != plan.labels[:, None]).all()
    assert replace(plan, start_weights=chances).key() != plan.key()
    assert (
        replace(plan, start_weights=chances).key()
        != replace(plan, start_weights=chances[::-1]).key()
    )


def test_cache_stays_within_the_bound_on_disk(plan, teacher, written, tmp_path):
    """Not a byte over in its arrays; one more window for each series would not fit."""
    limit = 0.01  # MiB
    bound = limit * 1024**2

    number = affordable_windows(limit, requested=1000, minimum=2, series=40, classes=CLASSES)
    written(teacher, replace(plan, number=number))

    size = sum(path.stat().st_size for path in tmp_path.glob("*.npy"))
    assert size <= bound < size + 40 * BYTES_OF_A_WINDOW
    assert affordable_windows(256, requested=1000, minimum=2, series=40, classes=CLASSES) == 1000


def test_bound_below_the_windows_of_a_step_is_refused():
    """The message names both numbers, and the one that is enough."""
    with pytest.raises(
        ConfigError, match=r"bank_mib is 0\.01, but 50 windows of each of 40 .* take 0\.05 MiB"
    ):
        affordable_windows(0.01, requested=800, minimum=50, series=40, classes=CLASSES)
    assert affordable_windows(0.05, requested=800, minimum=50, series=40, classes=CLASSES) >= 50


def test_progress_counts_series(plan, teacher, tmp_path):
    heard = []

    write_window_cache(
        tmp_path, teacher, replace(plan, number=100), lambda *told: heard.append(told)
    )

    assert heard == [(5, 40), (10, 40), (15, 40), (20, 40), (25, 40), (30, 40), (35, 40), (40, 40)]


def test_logits_that_are_not_finite_are_refused(plan, tmp_path):
    """Also of a network with incremental changes."""

    class Broken(TorchClassifier):
        def changes(self, x, starts, patches):
            return super().changes(x, starts, patches) + np.float32(np.nan)

    model = build(ModelSpec(family="fcn", width=2), channels=2, classes=CLASSES, length=LENGTH)

    with pytest.raises(ModelError, match="NaN or infinite logits for 280 of 280 series"):
        write_window_cache(tmp_path, Broken(model, classes=CLASSES), plan)


def test_a_window_longer_than_the_series_is_refused(plan, teacher, tmp_path):
    with pytest.raises(DataError, match="window of 26 steps does not fit a series of 25"):
        write_window_cache(tmp_path, teacher, replace(plan, width=26))


def _truncate(folder: Path) -> None:
    path = folder / "logits.npy"
    path.write_bytes(path.read_bytes()[:-1])


def _remove(folder: Path) -> None:
    (folder / "donors.npy").unlink()


def _objects(folder: Path) -> None:
    np.save(folder / "starts.npy", np.array([[None]]), allow_pickle=True)


def _doubles(folder: Path) -> None:
    np.save(folder / "clean.npy", np.load(folder / "clean.npy").astype(np.float64))


def _other_rows(folder: Path) -> None:
    np.save(folder / "clean.npy", np.load(folder / "clean.npy")[1:])


def _other_windows(folder: Path) -> None:
    np.save(folder / "starts.npy", np.load(folder / "starts.npy")[:, 1:])


def _facts(folder: Path) -> None:
    (folder / "bank.json").write_text("[]")


DAMAGE = [_truncate, _remove, _objects, _doubles, _other_rows, _other_windows, _facts]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_cache_is_refused(plan, teacher, tmp_path, damage):
    """Nothing is unpickled, and files must fit together."""
    write_window_cache(tmp_path, teacher, plan)
    open_window_cache(tmp_path)
    damage(tmp_path)

    with pytest.raises(DataError, match="does not hold a bank of a teacher's answers"):
        open_window_cache(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path):
    """Rows are written through the file, so that the system can refuse them."""
    shape = (1, 10_000)
    with (
        pytest.raises(OSError, match="No space") as told,
        bank_module._npy_writer(Path("/dev/full"), np.dtype(np.float32), shape) as add,
    ):
        add(np.zeros(shape, np.float32))

    assert told.value.errno == errno.ENOSPC


PLAN = PerturbationPlan(length=20, width=6, stride=3)  # middles 3, 6, 9, 12, 15, 17
KL = np.array([[0, 3, 6, 0, 0, 2], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], np.float32)


def _slow(row: np.ndarray, width: int) -> list[float]:
    """Half uniform, half by the map between the two nearest middles; one start at a time."""
    middles = [start + 3 for start in PLAN.starts]
    scores = []
    for start in range(20 - width + 1):
        at = min(max(start + width / 2, middles[0]), middles[-1])
        right = next(i for i, middle in enumerate(middles) if middle >= at)
        left = max(right - 1, 0)
        gap = middles[right] - middles[left]
        share = (at - middles[left]) / gap if gap else 0.0
        scores.append((1 - share) * row[left] + share * row[right])
    return [0.5 / len(scores) + 0.5 * score / sum(scores) for score in scores]


@pytest.mark.parametrize("width", [1, 4, 6, 11, 20])
def test_start_probabilities_agree_with_a_slow_definition(width):
    chances = start_probabilities(KL[:2], PLAN, width)

    np.testing.assert_allclose(chances, [_slow(row, width) for row in KL[:2]], atol=1e-12)


def test_start_probabilities_are_positive_and_sum_to_one():
    chances = start_probabilities(KL, PLAN, 4)

    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert chances.min() >= UNIFORM / 17
    assert chances[0].argmax() == 7  # whose middle is that of the highest window
    np.testing.assert_allclose(chances[2], 1 / 17)  # a map that says nothing


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="window of 21 steps does not fit a series of 20"):
        start_probabilities(KL, PLAN, 21)


def test_starts_are_as_frequent_as_their_probabilities(rng):
    chances = start_probabilities(KL, PLAN, 4)

    starts = draw_weighted_starts(chances, 40_000, rng)

    for row, expected in zip(starts, chances, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=17) / 40_000, expected, atol=0.01)


def test_the_last_start_is_drawn_and_none_beyond_it():
    """Also where the probabilities sum to a little less than 1."""

    class Highest:
        def random(self, shape):
            return np.full(shape, np.nextafter(1, 0))

    chances = np.full((1, 10), 0.1 - 1e-17)

    assert draw_weighted_starts(chances, 3, Highest()).tolist() == [[9, 9, 9]]


def test_start_of_probability_zero_is_never_drawn(rng):
    starts = draw_weighted_starts(np.array([[0, 0.5, 0, 0.5, 0]]), 1000, rng)

    assert set(starts.ravel().tolist()) == {1, 3}
