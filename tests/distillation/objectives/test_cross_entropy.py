"""Cross-entropy against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from edgedistill.distillation.objectives import CrossEntropy


def test_cross_entropy_is_minus_the_log_probability_of_the_label(world, network_outputs):
    """The mean over the batch, computed in float64."""
    batch = world.batch(0, 5, 9, 15)
    outputs = network_outputs(world.student, CrossEntropy(), batch)

    loss = CrossEntropy()(batch, outputs)

    log_p = log_softmax(outputs.logits.detach().numpy().astype(np.float64), axis=1)
    expected = -np.mean([log_p[i, label] for i, label in enumerate(batch.labels.tolist())])
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_needs_no_windows(world):
    """Nothing but the series themselves; none still has the shape of a batch."""
    assert CrossEntropy().windows(world.batch(0, 1)) is None
