"""Student-friendly teachers against their definition."""

from __future__ import annotations

import math

import pytest
import torch

from edgedistill.distillation.objectives import Batch, StudentOutputs
from edgedistill.distillation.objectives.baselines.student_friendly import StudentFriendly


def test_the_loss_is_cross_entropy_and_divergence_of_each_branch(rng):
    """One number after the other; the teacher stands on the right of KL(branch || teacher)."""
    logits, labels = torch.from_numpy(rng.normal(size=(2, 3))), torch.tensor([2, 0])
    said = [torch.from_numpy(rng.normal(size=(2, 3))) for _ in range(2)]
    branches = {name: torch.nn.Identity() for name in "ab"}
    objective = StudentFriendly(branches, cross_entropy=0.5, kl=3.0, temperature=2.0)
    answer = StudentOutputs(logits, features=dict(zip("ab", said, strict=True)))

    found = objective(Batch(torch.arange(2), torch.zeros(2, 1, 4), labels), answer)

    expected = 0.0
    for branch in said:
        for row in range(2):
            p, q = (torch.softmax(v[row] / 2.0, 0).tolist() for v in (branch, logits))
            kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            entropy = -math.log(torch.softmax(branch[row], 0)[labels[row]])
            expected += (0.5 * entropy + 3.0 * 4.0 * kl) / 4
    assert float(found) == pytest.approx(expected, rel=1e-6)
