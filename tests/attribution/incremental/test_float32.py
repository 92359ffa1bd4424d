"""Scores in float32 against the kernels' in float64."""

from __future__ import annotations

import edgedistill_kernels as kernels
import numpy as np
import pytest
import torch

from edgedistill.attribution.incremental.float32 import window_scores


@pytest.mark.parametrize("temperature", [1.0, 8.0, 40.0])
@pytest.mark.parametrize("size", [1e-3, 0.3, 1.0, 8.0, 30.0, 1000.0])
def test_scores_are_exact_whatever_the_size_of_the_changes(size, temperature, rng):
    """To float32's rounding, from scores where plain terms would cancel to those of hundreds."""
    logits = rng.normal(size=(4, 5)) * 3
    changes = rng.normal(size=(4, 9, 5)) * size
    logits, changes = logits.astype(np.float32), changes.astype(np.float32)
    exact = logits.astype(np.float64), changes.astype(np.float64)
    expected = kernels.window_saliency(
        exact[0], exact[0][:, None] + exact[1], temperature=temperature
    )

    found = window_scores(
        torch.from_numpy(logits), torch.from_numpy(changes), temperature=temperature
    ).numpy()

    assert (found >= 0).all()
    np.testing.assert_allclose(found, expected, rtol=5e-5, atol=1e-6 * expected.max())


def test_log_softmax_alone_is_not_exact(rng):
    """The test above can fail: the difference of two float32 log-softmaxes is mostly rounding."""
    logits = torch.from_numpy(rng.normal(size=(4, 5)).astype(np.float32))
    changes = torch.from_numpy(rng.normal(size=(4, 9, 5)).astype(np.float32)) * 1e-3
    log_p = (logits / 8).log_softmax(-1)[:, None]
    log_q = ((logits[:, None] + changes) / 8).log_softmax(-1)

    naive = (log_p.exp() * (log_p - log_q)).sum(-1) * 64

    exact = window_scores(logits, changes, temperature=8.0)
    assert ((naive - exact).abs() / exact).max() > 0.1


def test_no_change_scores_nothing():
    scores = window_scores(torch.randn(2, 3), torch.zeros(2, 4, 3), temperature=8.0)

    assert not scores.any()
