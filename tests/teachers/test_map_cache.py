"""A teacher's cached maps against occlusion under the whole plan at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from aeon.datasets import load_basic_motions

from edgedistill.errors import DataError
from edgedistill.models import ModelSpec, build
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers import map_cache as atlas
from edgedistill.teachers.map_cache import mean_maps, open_maps, write_maps

CLASSES, LENGTH = 4, 25
PLAN = PerturbationPlan(length=LENGTH, width=4, stride=1)


class BlackBox:
    """The same network without its faster way to changes."""

    can_explain, changes = True, None
    name = "black box"
    classes = CLASSES

    def __init__(self, teacher: TorchClassifier) -> None:
        self.logits = teacher.logits


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    """Ten series of two channels, (10, 2, 25)."""
    found, _ = load_basic_motions(split="train")
    return np.ascontiguousarray(found[::4, :2, ::4] / 3, dtype=np.float32)


@pytest.fixture(scope="module")
def teacher() -> TorchClassifier:
    torch.manual_seed(0)
    model = build(ModelSpec(family="fcn", width=6), channels=2, classes=CLASSES, length=LENGTH)
    return TorchClassifier(model, classes=CLASSES)


@pytest.mark.parametrize("kind", [lambda teacher: teacher, BlackBox], ids=["followed", "copies"])
@pytest.mark.parametrize("at_once", [1, 70, 10**6], ids=["one", "several", "all"])
def test_cached_maps_are_those_of_occlusion(
    teacher, series, tmp_path, monkeypatch, rng, kind, at_once
):
    """Of the target classes, for any number of series at once."""
    monkeypatch.setattr(atlas, "WINDOWS_AT_ONCE", at_once)
    targets, heard = rng.integers(CLASSES, size=len(series)), []

    write_maps(tmp_path, kind(teacher), series, targets, PLAN, lambda *told: heard.append(told))

    logits = teacher.logits(series)
    found = open_maps(tmp_path, logits)
    expected = occlusion.explain(teacher.logits, series, PLAN, targets=targets)
    np.testing.assert_allclose(found.signed, expected.signed, atol=1e-5)
    np.testing.assert_allclose(found.kl, expected.kl, atol=1e-5)
    np.testing.assert_array_equal(found.logits, logits)
    each = min(10, max(1, at_once // 22))
    assert heard == [(min(done, 10), 10) for done in range(each, 10 + each, each)]


@pytest.mark.parametrize("damage", ["lost", "cut", "empty", "objects", "other series"])
def test_folder_without_maps_is_refused(teacher, series, tmp_path, damage):
    write_maps(tmp_path, teacher, series, np.zeros(10, np.int64), PLAN)
    path, logits = tmp_path / "signed.npy", teacher.logits(series)
    open_maps(tmp_path, logits)
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "objects":
        np.save(path, np.array([[None]]), allow_pickle=True)
    else:
        logits = logits[1:]

    with pytest.raises(DataError, match=r"does not hold a teacher's maps .* Delete the folder"):
        open_maps(tmp_path, logits)


def test_each_teacher_has_the_same_weight(rng):
    """Whatever the scale of its maps, for each series; a map of zeros changes nothing."""
    first, second = (rng.normal(size=(3, 7)).astype(np.float32) for _ in range(2))
    louder = second * np.float32([[1], [10], [1000]])
    second[1] = louder[1] = 0

    found = mean_maps([first, louder])

    for row in range(3):
        parts = [first[row] / np.sqrt((first[row] ** 2).sum())]
        size = np.sqrt((second[row] ** 2).sum())
        parts.append(second[row] / size if row != 1 else second[row])
        np.testing.assert_allclose(found[row], (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-7)
