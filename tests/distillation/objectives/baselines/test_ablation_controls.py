"""Controls keep what they claim to keep, and take away the rest."""

from __future__ import annotations

import numpy as np

from edgedistill.distillation.objectives.baselines.ablation_controls import (
    match_logit_scale,
    shuffled_maps,
)
from edgedistill.saliency.occlusion import Explanation


def _explanation(rng) -> Explanation:
    return Explanation(*(rng.normal(size=(20, size)).astype(np.float32) for size in (3, 7, 7)))


def test_every_map_goes_to_another_series_of_its_group(rng):
    known = _explanation(rng)
    groups = [np.arange(14), np.arange(14, 20)]

    mixed = shuffled_maps(known, groups, seed=3)

    for rows in groups:
        before = {row.tobytes() for row in known.signed[rows]}
        assert {row.tobytes() for row in mixed.signed[rows]} == before
    assert (mixed.signed != known.signed).any(axis=1).all()
    np.testing.assert_array_equal(mixed.logits, known.logits)
    np.testing.assert_array_equal(mixed.kl, known.kl)


def test_seed_decides_the_shuffling(rng):
    known = _explanation(rng)
    groups = [np.arange(20)]

    first, again, other = (shuffled_maps(known, groups, seed=seed).signed for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_series_alone_in_its_group_keeps_its_map(rng):
    known = _explanation(rng)

    mixed = shuffled_maps(known, [np.array([4]), np.array([], dtype=np.int64)], seed=0)

    np.testing.assert_array_equal(mixed.signed, known.signed)


def _around_means(logits: np.ndarray) -> np.ndarray:
    return np.array([row - row.mean() for row in logits])


def test_scaled_logits_have_the_spread_of_the_teachers(rng):
    """Without a favorite class, and otherwise the same but for their scale."""
    random = (0.01 * rng.normal(size=(20, 3)) + [1, 2, 5]).astype(np.float32)
    teacher = (7 * rng.normal(size=(20, 3)) + 4).astype(np.float32)

    found = match_logit_scale(random, teacher)

    assert found.dtype == np.float32
    spread = _around_means(teacher).std()
    np.testing.assert_allclose(_around_means(found).std(), spread, rtol=1e-3)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
    for k in range(3):
        assert np.corrcoef(found[:, k], random[:, k])[0, 1] > 0.9999


def test_constant_logits_stay_zero():
    assert (
        match_logit_scale(np.full((4, 2), 3, np.float32), np.eye(4, 2, dtype=np.float32)) == 0
    ).all()
