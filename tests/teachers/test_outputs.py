"""A teacher's logits and maps, computed once and saved."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.data import Prepared, load, prepare
from edgedistill.errors import DataError
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import PerturbationPlan, default_plan, unseen_plan
from edgedistill.teachers.outputs import (
    SPLITS,
    TeacherOutputs,
    compute_teacher_outputs,
)
from edgedistill.teachers.table import TableClassifier


class Slopes:
    """A teacher of two lines: each class weighs the time steps its own way."""

    name, classes, can_explain, changes = "slopes", 2, True, None

    def logits(self, x: np.ndarray) -> np.ndarray:
        steps = np.linspace(-1, 1, x.shape[2], dtype=np.float32)
        return np.stack([x[:, 0] @ steps, x[:, 0] @ -steps], axis=1)


@pytest.fixture(scope="module")
def data() -> Prepared:
    source = load("ItalyPowerDemand")
    return prepare(source, length=None, sizing="resample", normalization="series", seed=0)


@pytest.fixture(scope="module")
def plan() -> PerturbationPlan:
    return default_plan(24)


def test_every_split_is_explained_under_the_plan(data, plan):
    """Each by the teacher's own class; the test split under the unseen plan besides."""
    teacher = Slopes()

    knowledge = compute_teacher_outputs(teacher, data, plan)

    assert knowledge.maps
    for name in SPLITS:
        expected = explain(teacher.logits, getattr(data, name).x, plan)
        np.testing.assert_array_equal(knowledge.splits[name].signed, expected.signed)
    unseen = explain(teacher.logits, data.test.x, unseen_plan(plan))
    np.testing.assert_array_equal(knowledge.unseen.kl, unseen.kl)


def test_a_table_of_logits_has_no_maps(data, plan):
    """It has logits, its maps are zero, and it never gets other series."""
    x = np.concatenate([getattr(data, name).x for name in SPLITS])
    teacher = TableClassifier(x, Slopes().logits(x))

    knowledge = compute_teacher_outputs(teacher, data, plan)

    assert not knowledge.maps
    for name in SPLITS:
        said = knowledge.splits[name]
        np.testing.assert_allclose(said.logits, Slopes().logits(getattr(data, name).x), rtol=1e-5)
        assert said.signed.shape == (len(said.logits), len(plan.starts))
        assert not said.signed.any()
        assert not said.kl.any()


def test_saved_outputs_are_opened(data, plan, tmp_path):
    knowledge = compute_teacher_outputs(Slopes(), data, plan)

    knowledge.save(tmp_path / "knowledge.npz")
    opened = TeacherOutputs.open(tmp_path / "knowledge.npz")

    assert opened.maps
    assert list(opened.splits) == list(SPLITS)
    for saved, found in [
        (knowledge.unseen, opened.unseen),
        *((knowledge.splits[name], opened.splits[name]) for name in SPLITS),
    ]:
        for field in ("logits", "kl", "signed"):
            np.testing.assert_array_equal(getattr(saved, field), getattr(found, field))


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "bare", "text", "empty"])
def test_a_file_that_is_not_ours(data, plan, tmp_path, damage):
    path = tmp_path / "knowledge.npz"
    if damage == "truncated":
        compute_teacher_outputs(Slopes(), data, plan).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif damage == "foreign":
        np.savez(path, x=np.zeros(3))
    elif damage == "bare":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    elif damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("no arrays")

    with pytest.raises(DataError, match="does not hold a teacher's answers"):
        TeacherOutputs.open(path)
