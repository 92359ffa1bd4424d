"""The golden set: chosen to speak for the whole, kept exactly, refused when damaged."""

from __future__ import annotations

import dataclasses
import zipfile

import numpy as np
import pytest

from edgedistill.bundle.golden import Golden, choose_golden, load_golden, save_golden
from edgedistill.errors import IntegrityError, ShapeError
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import default_plan

PLAN = default_plan(16)


@pytest.fixture
def golden(rng):
    """Five series of two classes."""
    windows = len(PLAN.starts)

    def said():
        shapes = ((5, 2), (5, windows), (5, windows))
        return Explanation(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))

    return Golden(
        series=rng.normal(size=(5, 3, 16)).astype(np.float32),
        labels=np.array([0, 1, 0, 1, 1]),
        teacher=said(),
        student=said(),
    )


def test_sample_represents_the_whole_set(rng):
    """Class shares, agreement and saliency agreement of 64 series are those of all 1000."""
    labels = rng.choice(3, size=1000, p=[0.6, 0.3, 0.1])
    agreement = (rng.random(1000) < 0.93).astype(float)
    pearson = np.clip(rng.normal(0.8, 0.2, size=1000), -1, 1)

    chosen = choose_golden(labels, agreement, pearson)

    assert len(chosen) == len(set(chosen.tolist())) == 64
    shares = np.bincount(labels[chosen], minlength=3) / 64 - np.bincount(labels) / 1000
    assert np.abs(shares).max() <= 1 / 64
    assert abs(agreement[chosen].mean() - agreement.mean()) <= 3 / 64  # one a class
    assert abs(pearson[chosen].mean() - pearson.mean()) < 0.02


def test_sample_is_nearer_than_chance(rng):
    """Over many sets its mean saliency agreement errs less than a random sample's."""
    systematic, random = [], []
    for _ in range(50):
        labels, pearson = rng.integers(2, size=500), rng.normal(size=500)
        chosen = choose_golden(labels, np.ones(500), pearson)
        systematic.append(pearson[chosen].mean() - pearson.mean())
        random.append(pearson[rng.choice(500, 64, replace=False)].mean() - pearson.mean())

    assert np.std(systematic) < 0.5 * np.std(random)


def test_small_set_is_taken_whole():
    """With no more series than asked for, there is no choice."""
    labels = np.array([1, 0, 1])

    np.testing.assert_array_equal(choose_golden(labels, np.ones(3), np.ones(3)), [0, 1, 2])
    np.testing.assert_array_equal(choose_golden(labels, np.ones(3), np.ones(3), 3), [0, 1, 2])


def test_choice_is_deterministic(rng):
    """Ties and all: the same input gives the same series."""
    labels = rng.integers(2, size=300)

    first = choose_golden(labels, np.ones(300), np.ones(300))

    np.testing.assert_array_equal(first, choose_golden(labels, np.ones(300), np.ones(300)))
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize(("sizes", "count"), [((3, 2, 3), 2), ((0, 0, 0), 2), ((3, 3, 3), 0)])
def test_choice_needs_equal_lengths(sizes, count):
    """Different lengths, none at all, or nothing asked for."""
    labels, agreement, pearson = (np.zeros(size, dtype=int) for size in sizes)

    with pytest.raises(ShapeError, match=f"Got {sizes[0]} labels.*to choose {count} from"):
        choose_golden(labels, agreement, pearson, count)


def test_round_trip_is_exact(golden, tmp_path):
    """Every array comes back bit by bit."""
    save_golden(golden, tmp_path / "golden.npz")

    found = load_golden(tmp_path / "golden.npz")

    np.testing.assert_array_equal(found.series, golden.series)
    np.testing.assert_array_equal(found.labels, golden.labels)
    np.testing.assert_array_equal(found.student.kl, golden.student.kl)
    np.testing.assert_array_equal(found.targets, golden.teacher.logits.argmax(axis=1))
    found.check(PLAN, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: {"series": g.series[0]}, r"series has shape \(3, 16\), not"),
        (lambda g: {"series": g.series[:, :0]}, "series has shape"),
        (lambda g: {"series": g.series[..., 1:]}, r"series has shape .* must be \(5, 3, 16\)"),
        (lambda g: {"labels": g.labels[1:]}, "labels has shape"),
        (lambda g: {"labels": g.labels + 1}, "labels reach from 1 to 2; 2 classes are 0 to 1"),
        (lambda g: {"labels": g.labels - 1}, "labels reach from -1 to 0"),
        (lambda g: {"series": g.series * np.float32(np.nan)}, "series has shape .* and finite"),
    ],
)
def test_arrays_that_do_not_fit_are_named(golden, change, message):
    """Shape, finiteness and the range of the labels."""
    with pytest.raises(ShapeError, match=message):
        dataclasses.replace(golden, **change(golden)).check(PLAN, 2)


def test_maps_must_have_the_plans_windows(golden):
    """A map of another plan does not fit."""
    with pytest.raises(ShapeError, match="teacher_kl has shape"):
        golden.check(default_plan(16, width=8), 2)
    with pytest.raises(ShapeError, match="teacher_logits has shape"):
        golden.check(PLAN, 3)


def _arrays(golden, tmp_path):
    save_golden(golden, tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz") as npz:
        return dict(npz)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("labels"), "is no golden set: 'labels'"),
        (lambda arrays: arrays.update(extra=np.ones(1)), "holds unknown arrays extra"),
        (
            lambda arrays: arrays.update(series=arrays["series"].astype(np.float64)),
            "an array is float64, not float32",
        ),
        (
            lambda arrays: arrays.update(labels=np.array([{}], dtype=object)),
            r"is no golden set: .*holds object of shape \(1,\), not plain",
        ),
    ],
    ids=["missing", "unknown", "type", "pickle"],
)
def test_other_arrays_are_refused(golden, tmp_path, change, message):
    """Missing, unknown, of another type, or code in disguise."""
    arrays = _arrays(golden, tmp_path)
    change(arrays)
    np.savez(tmp_path / "golden.npz", **arrays)

    with pytest.raises(IntegrityError, match=message):
        load_golden(tmp_path / "golden.npz")


def _huge(path):
    with zipfile.ZipFile(path, "w") as archive, archive.open("series.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f4", "fortran_order": False, "shape": (2**50,)}
        )


def _one_array(path):
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def _cut(path):
    np.savez(path, series=np.zeros((4, 4)))
    path.write_bytes(path.read_bytes()[:100])


def _text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("series", "text")


@pytest.mark.parametrize(
    "plant",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"text"),
        _one_array,
        lambda path: path.unlink(missing_ok=True),
        _cut,
        _huge,
        _text,
    ],
    ids=["empty", "text", "one array", "absent", "cut off", "huge", "no arrays"],
)
def test_other_files_are_refused(tmp_path, plant):
    """Whatever NumPy makes of them, it is one error of ours."""
    path = tmp_path / "golden.npz"
    plant(path)

    with pytest.raises(IntegrityError, match=r"golden.npz (is no golden set|holds one array)"):
        load_golden(path)
