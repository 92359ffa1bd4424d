"""What objectives see of unlabeled series, through all of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgedistill.distillation.context import distillation_data, training_data, training_explanation
from edgedistill.distillation.objectives import Batch, CrossEntropy, StudentOutputs
from edgedistill.distillation.objectives.baselines.ensemble import Ensemble
from edgedistill.pipeline import run as pipeline
from edgedistill.pipeline.run_folder import RunFolder
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.teacher import make_teacher, open_teacher_outputs
from edgedistill.recipe import recipe as config
from edgedistill.teachers.outputs import UNLABELED

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def with_unlabeled(recipe, tmp_path_factory):
    """The recipe of a tiny run with 9 series more than it has labels for."""
    folder = tmp_path_factory.mktemp("unlabeled")
    x = np.random.default_rng(5).normal(size=(9, 1, 24)).astype(np.float32)
    np.savez(folder / "more.npz", x=x)
    settings = [
        f"data.unlabeled={folder / 'more.npz'}",
        "student.objectives=[{name: cross_entropy}, {name: kd}, {name: tsd_maps, start: 0.5},"
        " {name: tsd, windows: 4, width: 5, bank: 2}]",
        "references={ceiling: false}",
        "teacher.training.epochs=2",
    ]
    return config.parse(config.dump(recipe), settings)


@pytest.fixture(scope="module")
def data(with_unlabeled):
    return prepare_data(with_unlabeled)


@pytest.fixture(scope="module")
def teacher_outputs(with_unlabeled, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    make_teacher(with_unlabeled, data, folder, tmp_path_factory.mktemp("work"))
    return open_teacher_outputs(folder)[0]


def test_student_learns_from_all_rows_with_the_teacher_classes_as_labels(data, teacher_outputs):
    """Teacher outputs, donors and labels stand in the order of the rows."""
    table = distillation_data(data, teacher_outputs)

    n, u = len(data.train.y), 9
    assert table.labeled is not None
    assert table.labeled.tolist() == [True] * n + [False] * u + [True] * len(data.validation.y)
    assert table.train.tolist() == list(range(n + u))
    classes = teacher_outputs.splits[UNLABELED].logits.argmax(1)
    np.testing.assert_array_equal(table.labels[n : n + u], classes)
    donors, donor_labels = table.donors()
    np.testing.assert_array_equal(donors[n:], data.unlabeled)
    np.testing.assert_array_equal(donor_labels[n:], classes)
    np.testing.assert_array_equal(table.series[table.validation], data.validation.x)
    explanation = training_explanation(teacher_outputs)
    expected = [teacher_outputs.splits[name].signed for name in ("train", UNLABELED, "validation")]
    np.testing.assert_array_equal(explanation.signed, np.concatenate(expected))


def test_teacher_learns_from_labeled_rows_alone(data):
    table = training_data(data)

    assert len(table.series) == len(data.train.y) + len(data.validation.y)
    assert table.labeled is None


def test_nothing_of_the_test_split_is_a_row(data, teacher_outputs):
    rows = {one.numpy().tobytes() for one in distillation_data(data, teacher_outputs).series}

    assert not rows & {one.tobytes() for one in data.test.x}


def test_cross_entropy_is_of_labeled_rows(rng):
    """A batch without any has none, and no gradient."""
    logits = torch.from_numpy(rng.normal(size=(5, 3))).requires_grad_()
    labels, labeled = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([True, False, True, False, False])
    rows, series = torch.arange(5), torch.zeros(5, 1, 4)

    def loss(mask):
        batch = Batch(rows, series, labels, labeled=mask)
        return CrossEntropy()(batch, StudentOutputs(logits))

    expected = functional.cross_entropy(logits[labeled], labels[labeled])
    assert loss(labeled).item() == pytest.approx(expected.item())
    assert loss(None).item() == pytest.approx(functional.cross_entropy(logits, labels).item())
    none = loss(torch.zeros(5, dtype=torch.bool))
    none.backward()
    assert none.item() == 0
    assert not logits.grad.any()


def test_ensemble_trusts_labels_of_labeled_rows_only(rng):
    """The others are weighted as without labels."""
    teachers = [torch.from_numpy(rng.normal(size=(4, 3), scale=3)) for _ in range(2)]
    labels, labeled = torch.tensor([0, 1, 2, 0]), torch.tensor([True, True, False, False])

    def mean(weighting, mask=None):
        return Ensemble(teachers, labels, labeled=mask, temperature=1, weighting=weighting).teacher

    mixed = mean("correctness", labeled)
    torch.testing.assert_close(mixed[:2], mean("correctness")[:2])
    torch.testing.assert_close(mixed[2:], mean("agreement")[2:])
    assert not torch.allclose(mean("correctness")[2:], mean("agreement")[2:])


def test_run_with_unlabeled_series_ends_in_a_bundle(with_unlabeled, tmp_path):
    """And is found done the next time; without them the teacher is made anew."""
    result = pipeline.compress(with_unlabeled, tmp_path / "run")

    outputs, _ = open_teacher_outputs(RunFolder(tmp_path / "run").teacher)
    assert len(outputs.splits[UNLABELED].logits) == 9
    assert result.bundle is not None
    assert not any(pipeline.compress(with_unlabeled, tmp_path / "run").stages.values())
