"""Relational distillation: match the distances and angles among embeddings."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.distillation.features import Pair
from edgedistill.distillation.objectives.baselines.layers import LayerObjective
from edgedistill.distillation.objectives.objective import Batch, StudentOutputs


class RKD(LayerObjective):
    """SmoothL1 of normalized distances and of angles among the embeddings of a batch.

    Distances are divided by the mean of those above 0, for student and teacher apart, so
    their embeddings may have any size and length. The mean is taken over all pairs and
    triplets, a series with itself included, as the published code does. A batch of one has
    neither, and costs nothing.

    Source: Park et al. 2019, arXiv:1904.05068.
    """

    def __init__(self, pair: Pair, *, distance: float, angle: float) -> None:
        """Keep the embeddings and the weights.

        Args:
            pair: embeddings of both networks.
            distance: weight of the distances.
            angle: weight of the angles.
        """
        super().__init__(pair)
        self._distance, self._angle = distance, angle

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        student, teacher = self.layer_outputs(batch, outputs)
        distance = functional.smooth_l1_loss(_distances(student), _distances(teacher))
        angle = functional.smooth_l1_loss(_angles(student), _angles(teacher))
        return self._distance * distance + self._angle * angle


def _distances(embeddings: Tensor) -> Tensor:
    """Return the distances of all pairs in units of their mean, (N, N)."""
    # Through a product, as torch has it by default, close embeddings lose their digits.
    apart = torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")
    mean = apart.sum() / (apart > 0).sum().clamp(min=1)
    scaled: Tensor = apart / (mean + 1e-8)
    return scaled


def _angles(embeddings: Tensor) -> Tensor:
    """Return the cosine at each series between each two others, (N, N, N)."""
    arms = embeddings[None] - embeddings[:, None]
    length = torch.linalg.vector_norm(arms, dim=2, keepdim=True)
    # An arm of no length has no direction, and nothing to learn.
    directions: Tensor = arms / length.where(length > 0, 1)
    return directions @ directions.transpose(1, 2)
