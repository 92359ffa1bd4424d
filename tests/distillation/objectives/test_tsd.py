"""Temporal saliency distillation against a slow definition of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from edgedistill.distillation.objectives import TSD, StudentOutputs
from edgedistill.errors import DataError, ShapeError
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.window_cache import (
    WindowCache,
    WindowCacheSpec,
    open_window_cache,
    write_window_cache,
)

WINDOWS, WIDTH, TEMPERATURE = 6, 5, 8.0


def _tsd(world, **changes):
    settings = {"windows": WINDOWS, "width": WIDTH, "temperature": TEMPERATURE, **changes}
    return TSD(world.logits, world.series, world.labels, **settings)


def _slow_saliency(ask, series, copies, form):
    """The paper's scores of a batch, a window at a time, in float64."""
    scores = []
    for n, w in np.ndindex(copies.shape[:2]):
        p, q = (
            softmax(ask(x[None])[0].astype(np.float64) / TEMPERATURE)
            for x in (series[n], copies[n, w])
        )
        terms = [
            pk * (np.log(pk) - np.log(qk)) * TEMPERATURE**2 for pk, qk in zip(p, q, strict=True)
        ]
        scores.append([sum(terms)] if form == "summed" else terms)
    flat = np.array(scores)
    return flat / (flat[flat > 0].mean() + 1e-8)


def _slow_loss(world, batch, starts, donors, form):
    """The published loss for given draws."""
    series = batch.series.numpy()
    copies = np.stack([[x] * WINDOWS for x in series])
    for n, w in np.ndindex(starts.shape):
        for t in range(starts[n, w], starts[n, w] + WIDTH):
            copies[n, w, :, t] = world.series[donors[n, w], :, t]

    def student(x):
        return world.student(torch.from_numpy(x)).detach().numpy()

    gap = _slow_saliency(student, series, copies, form) - _slow_saliency(
        world.logits, series, copies, form
    )
    size = np.abs(gap)
    return copies, np.where(size < 1, 0.5 * size**2, size - 0.5).mean()


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_tsd_agrees_with_a_slow_definition(world, network_outputs, copies, form):
    """The copies are exactly the same, the loss is the same up to float32."""
    objective = _tsd(world, form=form)
    batch = world.batch(0, 4, 9, 13, 2, step=3)
    outputs = network_outputs(world.student, objective, batch)

    loss = objective(batch, outputs)

    slow, expected = _slow_loss(world, batch, *objective._draw(batch), form)
    np.testing.assert_array_equal(copies(batch, outputs.windows).numpy(), slow)
    assert loss.item() == pytest.approx(expected, rel=1e-2)


def test_forms_are_different_losses(world, network_outputs):
    """The switch does something."""
    batch = world.batch(0, 4, 9)

    losses = {
        _tsd(world, form=form)(batch, network_outputs(world.student, _tsd(world), batch)).item()
        for form in ("summed", "elementwise")
    }

    assert len(losses) == 2


def _slow_cosine(student, teacher):
    """1 - cosine of all scores of a series, a series at a time."""
    pairs = [(s.ravel(), t.ravel()) for s, t in zip(student, teacher, strict=True)]
    return np.mean([1 - s @ t / np.linalg.norm(s) / np.linalg.norm(t) for s, t in pairs])


def _slow_ranking(student, teacher):
    """How likely the first half of the teacher's order is, drawn place by place."""
    nats = []
    for s, t in zip(student[..., 0], teacher[..., 0], strict=True):
        left = sorted(range(WINDOWS), key=lambda w, t=t: -t[w])
        for _ in range(WINDOWS // 2):
            nats.append(-np.log(np.exp(s[left[0]]) / np.exp(s[left]).sum()))
            left.pop(0)
    return np.mean(nats)


@pytest.mark.parametrize(
    ("loss", "form", "slow"),
    [
        ("cosine", "summed", _slow_cosine),
        ("cosine", "elementwise", _slow_cosine),
        ("ranking", "summed", _slow_ranking),
    ],
)
def test_other_losses_agree_with_slow_definitions(world, network_outputs, copies, loss, form, slow):
    """Of the same normalized scores as the published one."""
    objective, batch = _tsd(world, form=form, loss=loss), world.batch(0, 4, 9, 13, 2, step=3)
    outputs = network_outputs(world.student, objective, batch)

    found = objective(batch, outputs)
    found.backward()

    pair = batch.series.numpy(), copies(batch, outputs.windows).numpy()
    student, teacher = (
        _slow_saliency(logits, *pair, form).reshape(5, WINDOWS, -1)
        for logits in (lambda x: world.student(torch.from_numpy(x)).detach().numpy(), world.logits)
    )
    assert found.item() == pytest.approx(slow(student, teacher), rel=1e-2)
    assert world.student[0].weight.grad.abs().sum() > 0


def test_losses_are_different(world, network_outputs):
    batch = world.batch(0, 4, 9)

    losses = {
        _tsd(world, loss=loss)(batch, network_outputs(world.student, _tsd(world), batch)).item()
        for loss in ("smooth_l1", "cosine", "ranking")
    }

    assert len(losses) == 3


def test_constant_saliency_has_finite_gradients(world, network_outputs):
    """A student that reacts to nothing has no direction yet."""
    for loss in ("cosine", "ranking"):
        objective, batch = _tsd(world, loss=loss), world.batch(0, 4)
        outputs = network_outputs(world.teacher, objective, batch)
        deaf = torch.zeros_like(outputs.changes).requires_grad_()

        objective(batch, StudentOutputs(outputs.logits.detach(), outputs.windows, deaf)).backward()

        assert torch.isfinite(deaf.grad).all()


def test_starts_are_drawn_by_the_weights_of_their_series(world):
    """The rows are those of the batch; where a chance is 0 no window begins."""
    chances = np.zeros((16, 20 - WIDTH + 1))
    chances[np.arange(16), np.arange(16)] = 1
    objective = _tsd(world, start_weights=chances)

    starts, donors = objective._draw(world.batch(11, 3, 7))

    assert starts.tolist() == [[11] * WINDOWS, [3] * WINDOWS, [7] * WINDOWS]
    assert (world.labels[donors] != world.labels[[11, 3, 7]][:, None]).all()
    patches = objective.windows(world.batch(11, 3, 7)).patches
    np.testing.assert_array_equal(patches[1, 2], world.series[donors[1, 2], :, 3 : 3 + WIDTH])


def test_windows_come_from_series_of_other_classes(world, copies):
    """Each copy differs from its series in one window, which an opposing series has there."""
    batch = world.batch(*range(16))

    made = copies(batch, _tsd(world).windows(batch)).numpy()

    starts = set()
    for n, w in np.ndindex(made.shape[:2]):
        changed = np.flatnonzero((made[n, w] != world.series[n]).any(axis=0))
        assert changed[-1] - changed[0] < WIDTH
        stretch = slice(changed[0], changed[-1] + 1)
        donors = [
            m
            for m in range(16)
            if np.array_equal(world.series[m, :, stretch], made[n, w, :, stretch])
        ]
        assert donors
        assert all(world.labels[donors] != world.labels[n])
        starts.add(int(changed[0]))
    assert {0, 20 - WIDTH} <= starts  # both borders, the last start included


def test_draws_depend_on_seed_step_and_batch(world):
    """The same step draws the same; another step, seed or batch of the epoch does not."""
    batch = world.batch(0, 1, 2, step=7)
    first = _tsd(world, seed=1).windows(batch)

    again = _tsd(world, seed=1).windows(batch)
    step = _tsd(world, seed=1).windows(world.batch(0, 1, 2, step=8))
    seed = _tsd(world, seed=2).windows(batch)

    assert torch.equal(first.patches, again.patches)
    assert torch.equal(first.starts, again.starts)
    assert not torch.equal(first.patches, step.patches)
    assert not torch.equal(first.patches, seed.patches)
    draws = [_tsd(world)._draw(world.batch(*rows))[0] for rows in ((0, 1), (2, 1))]
    assert (draws[0] != draws[1]).any()


def test_loss_of_the_teacher_is_zero(world, network_outputs):
    """It runs on the same copies as the student."""
    objective, batch = _tsd(world), world.batch(0, 5, 10)

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-6
    assert objective(batch, network_outputs(world.student, objective, batch)).item() > 1e-2


def test_scale_of_the_logits_alone_has_a_small_loss(world, network_outputs):
    """Scores are normalized a batch, so a student that is surer of the same reasons is close."""
    objective, batch = _tsd(world), world.batch(0, 5, 10)
    outputs = network_outputs(world.teacher, objective, batch)

    surer = objective(
        batch, StudentOutputs(outputs.logits * 3, outputs.windows, outputs.changes * 3)
    )

    assert surer < 0.1 * objective(batch, network_outputs(world.student, objective, batch))


def test_gradient_reaches_the_student_alone(world, network_outputs):
    """Through the clean and through the perturbed pass; never into the teacher."""
    objective, batch = _tsd(world), world.batch(0, 5, 10)
    outputs = network_outputs(world.student, objective, batch)
    outputs.logits.retain_grad()
    outputs.changes.retain_grad()

    objective(batch, outputs).backward()

    assert outputs.logits.grad.abs().sum() > 0
    assert outputs.changes.grad.abs().sum() > 0
    assert world.student[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in world.teacher.parameters())
    assert list(objective.parameters()) == []


def test_donors_of_one_class_are_refused(world):
    """There is nothing to oppose."""
    objective = TSD(
        world.logits, world.series, np.zeros(16, np.int64), windows=2, width=5, temperature=8.0
    )

    with pytest.raises(DataError, match="so none opposes it"):
        objective.windows(world.batch(0))


def test_window_longer_than_the_series_is_refused(world):
    """The message names both lengths."""
    with pytest.raises(DataError, match="window of 21 steps does not fit a series of 20"):
        _tsd(world, width=21).windows(world.batch(0))


@pytest.fixture
def cache(world, tmp_path) -> WindowCache:
    """Twenty windows of each of 12 training and 4 validation series."""
    order = np.r_[0:3, 4:7, 8:11, 12:15, 3:16:4]
    world.series[:], world.labels[:] = world.series[order], world.labels[order]
    plan = WindowCacheSpec(
        series=world.series, labels=world.labels, donor_count=12, width=WIDTH, number=20
    )
    write_window_cache(tmp_path, TorchClassifier(world.teacher, classes=4), plan)
    return open_window_cache(tmp_path)


def _cached_tsd(world, cache, **changes):
    settings = {"windows": WINDOWS, "width": WIDTH, "temperature": TEMPERATURE, **changes}
    return TSD(cache, world.series[:12], world.labels[:12], **settings)


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_loss_from_a_cache_is_that_of_the_teacher_at_every_step(
    world, cache, network_outputs, form
):
    """About the very same windows, of training and of validation series."""
    for rows in ((0, 4, 9, 11, 2), (12, 13, 14, 15)):
        batch = world.batch(*rows, step=3)
        objective = _cached_tsd(world, cache, form=form)
        outputs = network_outputs(world.student, objective, batch)

        loss = objective(batch, outputs)

        slow = _slow_loss(world, batch, *objective._draw(batch), form)[1]
        without_cache = _tsd(world, form=form)(batch, outputs)
        assert loss.item() == pytest.approx(without_cache.item(), abs=1e-4)
        assert loss.item() == pytest.approx(slow, rel=1e-2)


def test_windows_from_a_cache_are_its_own(world, cache):
    """W different ones of the series' own, with what a training series has there."""
    batch = world.batch(7, 2, 14)
    objective = _cached_tsd(world, cache)

    starts, donors = objective._draw(batch)
    windows = objective.windows(batch)

    for n, row in enumerate(batch.rows.tolist()):
        known = sorted(zip(cache.starts[row].tolist(), cache.donors[row].tolist(), strict=True))
        drawn = sorted(zip(starts[n].tolist(), donors[n].tolist(), strict=True))
        assert all(drawn.count(pair) <= known.count(pair) for pair in drawn)
        assert (world.labels[donors[n]] != world.labels[row]).all()
        for w in range(WINDOWS):
            stretch = slice(starts[n, w], starts[n, w] + WIDTH)
            expected = world.series[donors[n, w], :, stretch]
            np.testing.assert_array_equal(windows.patches[n, w].numpy(), expected)
    np.testing.assert_array_equal(windows.starts.numpy(), starts)


def test_draws_from_a_cache_depend_on_seed_and_step(world, cache):
    """Called twice, as in the loop, a step draws the same; in time all windows come up."""
    batch = world.batch(0, 1, 2, step=7)
    first = _cached_tsd(world, cache, seed=1)._draw(batch)

    again = _cached_tsd(world, cache, seed=1)._draw(batch)
    step = _cached_tsd(world, cache, seed=1)._draw(world.batch(0, 1, 2, step=8))
    seed = _cached_tsd(world, cache, seed=2)._draw(batch)

    np.testing.assert_array_equal(first, again)
    assert (np.array(first) != np.array(step)).any()
    assert (np.array(first) != np.array(seed)).any()
    many = [_cached_tsd(world, cache)._draw(world.batch(5, step=s))[0] for s in range(60)]
    assert set(np.concatenate(many).ravel()) == set(cache.starts[5])


def test_loss_of_the_teacher_of_a_cache_is_zero(world, cache, network_outputs):
    """So all logits are those of the window they are drawn with."""
    objective, batch = _cached_tsd(world, cache), world.batch(0, 5, 10)

    assert objective(batch, network_outputs(world.teacher, objective, batch)).item() < 1e-6
    assert objective(batch, network_outputs(world.student, objective, batch)).item() > 1e-2


@pytest.mark.parametrize("other", [{"windows": 21}, {"width": 6}], ids=str)
def test_cache_of_other_windows_is_refused(world, cache, other):
    """It cannot give more windows than it has, nor windows of another width."""
    with pytest.raises(ShapeError, match="The bank holds 20 windows of 5 steps a series"):
        _cached_tsd(world, cache, **other)
    assert _cached_tsd(world, cache, windows=20)._draw(world.batch(0))[0].shape == (1, 20)
