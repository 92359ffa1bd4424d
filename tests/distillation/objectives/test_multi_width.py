"""Windows of several widths at once against one width at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.attribution import perturb
from edgedistill.distillation.objectives import TSD, MultiWidthObjective, StudentOutputs
from edgedistill.distillation.objectives.multi_width import split_windows
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.window_cache import WindowCacheSpec, open_window_cache, write_window_cache
from edgedistill.training.multi_output_student import MultiOutputStudent

WIDTHS, NUMBERS = (5, 12, 2), (4, 3, 3)
ROWS = (0, 4, 9, 13, 2)


@pytest.fixture(params=["teacher", "cache"])
def parts(request, world, tmp_path) -> list[TSD]:
    """The published objective at three widths, with and without caches."""
    made = []
    for width, number in zip(WIDTHS, NUMBERS, strict=True):
        teacher = world.logits
        if request.param == "cache":
            known = {"series": world.series, "labels": world.labels, "donor_count": 16}
            folder = tmp_path / str(width)
            folder.mkdir()
            plan = WindowCacheSpec(**known, width=width, number=2 * number)
            write_window_cache(folder, TorchClassifier(world.teacher, classes=4), plan)
            teacher = open_window_cache(folder)
        settings = {"windows": number, "width": width, "temperature": 8.0}
        made.append(TSD(teacher, world.series, world.labels, **settings))
    return made


def _said(network, objective, batch):
    """A network's outputs for the windows, computed as the training loop does."""
    windows = objective.windows(batch)
    logits, (changes,), _, _ = MultiOutputStudent(network)(batch.series, [windows])
    return StudentOutputs(logits, windows, changes)


def test_changes_are_those_of_written_out_copies_width_by_width(world, parts):
    batch = world.batch(*ROWS, step=3)

    outputs = _said(world.student, MultiWidthObjective(parts, NUMBERS), batch)

    copies = []
    for part in parts:
        windows = part.windows(batch)
        copies.append(perturb(batch.series, windows.starts, windows.patches))
    perturbed = world.student(torch.cat(copies, dim=1).flatten(0, 1)).reshape(5, 10, 4)
    torch.testing.assert_close(outputs.changes, perturbed - outputs.logits[:, None])


def test_the_loss_is_the_mean_over_widths_by_their_windows(world, parts):
    """Each width is normalized by itself, because it is an objective by itself."""
    batch, scales = world.batch(*ROWS, step=3), MultiWidthObjective(parts, NUMBERS)

    loss = scales(batch, _said(world.student, scales, batch))
    loss.backward()

    alone = [part(batch, _said(world.student, part, batch)).item() for part in parts]
    assert len({round(each, 6) for each in alone}) == 3
    expected = sum(n * each for n, each in zip(NUMBERS, alone, strict=True)) / sum(NUMBERS)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert world.student[0].weight.grad.abs().sum() > 0


def test_loss_of_the_teacher_is_zero(world, parts):
    batch, scales = world.batch(*ROWS), MultiWidthObjective(parts, NUMBERS)

    assert scales(batch, _said(world.teacher, scales, batch)).item() < 1e-6


@pytest.mark.parametrize(
    ("windows", "widths", "expected"), [(50, 1, [50]), (50, 3, [18, 16, 16]), (2, 2, [1, 1])]
)
def test_windows_are_shared_evenly(windows, widths, expected):
    assert split_windows(windows, widths) == expected
    assert np.sum(expected) == windows
