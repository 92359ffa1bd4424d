"""All outputs of a student from one forward pass: here, those of views."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.features import EMBEDDING, record_features
from edgedistill.distillation.objectives import CrossEntropy, Objective, WeightedObjective, Windows
from edgedistill.models import ModelSpec, build
from edgedistill.training.config import FitConfig
from edgedistill.training.fit import fit
from edgedistill.training.multi_output_student import MultiOutputStudent


@pytest.fixture
def student():
    torch.manual_seed(0)
    return build(ModelSpec(family="fcn", width=3), channels=2, classes=3, length=24).eval()


@pytest.mark.parametrize("with_windows", [True, False])
def test_views_are_computed_beside_all_other_outputs(student, with_windows):
    """Each set by itself, with the layers of each; no set, no output."""
    series, views = torch.randn(4, 2, 24), torch.randn(5, 4, 2, 24)
    windows = Windows(torch.tensor([[0, 5]]), torch.zeros(4, 2, 2, 4)) if with_windows else None

    logits, changes, found, told = MultiOutputStudent(student)(
        series, [windows, None], ["blocks.1", EMBEDDING], [None, views]
    )

    assert told[0] is None
    assert (changes[0] is None) != with_windows
    with record_features(student, ["blocks.1", EMBEDDING]) as clean:
        torch.testing.assert_close(logits, student(series))
    torch.testing.assert_close(dict(found), clean)
    for v in range(5):
        with record_features(student, ["blocks.1", EMBEDDING]) as expected:
            torch.testing.assert_close(told[1][0][v], student(views[v]))
        torch.testing.assert_close({k: x[v] for k, x in told[1][1].items()}, expected)


class Mirrored(Objective):
    """The cross-entropy of the reversed series, with a record of its arguments."""

    layers = (EMBEDDING,)

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[bool, tuple[int, ...], tuple[int, ...]]] = []

    def views(self, batch):
        return batch.series.flip(2)[None]

    def forward(self, batch, answer):
        seen = answer.other_views()
        assert torch.equal(seen.series[0], batch.series.flip(2))
        shapes = tuple(seen.logits.shape), tuple(seen.features[EMBEDDING].shape)
        self.heard.append((torch.is_grad_enabled(), *shapes))
        return functional.cross_entropy(seen.logits[0], batch.labels)


def test_the_loop_hands_views_to_their_objective(student):
    """In training and in validation, beside an objective without views."""
    torch.manual_seed(0)
    series, labels = torch.randn(12, 2, 24), torch.arange(12) % 3
    rows = torch.arange(12)
    data = TrainingData(series=series, labels=labels, train=rows[:8], validation=rows[8:])
    mirrored = Mirrored()
    terms = [WeightedObjective(objective=CrossEntropy()), WeightedObjective(objective=mirrored)]

    fit(student, terms, data, FitConfig(epochs=1, batch_size=8, accelerator="cpu"), seed=0)

    assert mirrored.heard == [(True, (1, 8, 3), (1, 8, 3)), (False, (1, 4, 3), (1, 4, 3))]
