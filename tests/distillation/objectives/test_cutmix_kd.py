"""KD on copies with windows of another class, against a slow definition of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from edgedistill.distillation.objectives import TSD, CutMixKD
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.window_cache import WindowCacheSpec, open_window_cache, write_window_cache

WINDOWS, WIDTH = 6, 5


def _objective(world, teacher=None, **changes) -> CutMixKD:
    settings = {"windows": WINDOWS, "width": WIDTH, "temperature": 4.0, **changes}
    return CutMixKD(teacher or world.logits, world.series, world.labels, **settings)


def _slow_loss(world, batch, starts, donors, student, temperature):
    """KL(teacher || student) a copy, by SciPy in float64, the mean over all copies."""
    found = []
    for n, w in np.ndindex(starts.shape):
        copy = batch.series[n].numpy().copy()
        stretch = slice(starts[n, w], starts[n, w] + WIDTH)
        copy[:, stretch] = world.series[donors[n, w], :, stretch]
        p, q = (
            softmax(outputs(copy[None])[0].astype(np.float64) / temperature)
            for outputs in (world.logits, student)
        )
        found.append(entropy(p, q))
    return np.mean(found) * temperature**2


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_agrees_with_a_slow_definition(world, network_outputs, temperature):
    objective = _objective(world, temperature=temperature)
    batch = world.batch(0, 4, 9, 13, 2, step=3)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    student = TorchClassifier(world.student, classes=4).logits
    slow = _slow_loss(world, batch, *objective._draw(batch), student, temperature)
    assert loss.item() == pytest.approx(slow, rel=1e-4)


def test_loss_from_a_cache_is_that_of_the_teacher_at_every_step(world, network_outputs, tmp_path):
    """About the very same windows."""
    plan = WindowCacheSpec(
        series=world.series, labels=world.labels, donor_count=16, width=WIDTH, number=20
    )
    write_window_cache(tmp_path, TorchClassifier(world.teacher, classes=4), plan)
    objective, batch = _objective(world, open_window_cache(tmp_path)), world.batch(0, 4, 9, step=3)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    assert loss.item() > 1e-3
    assert loss.item() == pytest.approx(_objective(world)(batch, outputs).item(), rel=1e-4)


def test_windows_are_those_of_tsd(world):
    """With the same seed, so that one bank serves both."""
    batch = world.batch(0, 1, 2, step=7)
    settings = {"windows": WINDOWS, "width": WIDTH, "temperature": 8.0, "seed": 5}

    mine = _objective(world, seed=5).windows(batch)
    theirs = TSD(world.logits, world.series, world.labels, **settings).windows(batch)

    assert mine.starts.equal(theirs.starts)
    assert mine.patches.equal(theirs.patches)


def test_loss_of_the_teacher_is_zero(world, network_outputs):
    objective, batch = _objective(world), world.batch(0, 5, 10)

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-6
    assert objective(batch, network_outputs(world.student, objective, batch)).item() > 1e-3


def test_gradient_reaches_the_student_alone(world, network_outputs):
    objective, batch = _objective(world), world.batch(0, 5, 10)

    objective(batch, network_outputs(world.student, objective, batch)).backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in world.student.parameters())
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []
