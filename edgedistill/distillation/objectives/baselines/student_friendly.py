"""A teacher that learns with branches of its student, so that what it says can be learned."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class StudentFriendly(Objective):
    """Cross-entropy of the branches, and KL(branch || teacher); the mean over branches.

    Source: SFTN, "Learning Student-Friendly Teacher Networks for Knowledge Distillation",
    arXiv:2102.07650. From the paper: branches of the student's later stages behind adapters,
    after every stage but the last, trained along with the teacher on both losses, and thrown
    away. Our choices: adapters of one step's width, the mean in place of the sum, so that
    depth does not decide the weights, and the gradient of the KL into both sides.
    """

    def __init__(
        self,
        branches: Mapping[str, nn.Module],
        *,
        cross_entropy: float,
        kl: float,
        temperature: float,
    ) -> None:
        """Keep the branches, by the teacher's layer that they start from.

        Args:
            branches: map what the layer gives, (N, C', T), to logits, (N, K).
            cross_entropy: weight of the labels.
            kl: weight of the divergence.
            temperature: of both sides of the divergence, which is multiplied by its square.
        """
        super().__init__()
        self.layers = tuple(branches)
        self.branches = nn.ModuleList(branches.values())
        self._weights, self._temperature = (cross_entropy, kl), temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        # Validation judges by running statistics and leaves them alone.
        self.branches.train(torch.is_grad_enabled())
        labels, divergence = self._weights
        teacher = functional.log_softmax(outputs.logits / self._temperature, dim=-1)
        losses = []
        for layer, branch in zip(self.layers, self.branches, strict=True):
            logits = branch(outputs.features[layer])
            said = functional.log_softmax(logits / self._temperature, dim=-1)
            kl = functional.kl_div(teacher, said, log_target=True, reduction="batchmean")
            entropy = functional.cross_entropy(logits, batch.labels)
            losses.append(labels * entropy + divergence * self._temperature**2 * kl)
        return torch.stack(losses).mean()
