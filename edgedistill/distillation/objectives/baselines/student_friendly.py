"""Student-friendly teachers: train the teacher with branches of its student's stages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.distillation.features import record_features
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.errors import ConfigError
from edgedistill.models.families import FCN, Inception, ResNet
from edgedistill.models.lite import LITE


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
            branches: networks from the layer's output, (N, C', T), to logits, (N, K).
            cross_entropy: weight of the cross-entropy with the labels.
            kl: weight of the divergence.
            temperature: softmax temperature of the divergence, which is multiplied by its square.
        """
        super().__init__()
        self.layers = tuple(branches)
        self.branches = nn.ModuleList(branches.values())
        self._weights, self._temperature = (cross_entropy, kl), temperature

    def forward(self, batch: Batch, outputs: StudentOutputs) -> Tensor:
        """Return the loss, a scalar."""
        # Validation uses the running statistics and does not update them.
        self.branches.train(torch.is_grad_enabled())
        labels, divergence = self._weights
        teacher = functional.log_softmax(outputs.logits / self._temperature, dim=-1)
        losses = []
        for layer, branch in zip(self.layers, self.branches, strict=True):
            logits = branch(outputs.features[layer])
            student = functional.log_softmax(logits / self._temperature, dim=-1)
            kl = functional.kl_div(teacher, student, log_target=True, reduction="batchmean")
            entropy = functional.cross_entropy(logits, batch.labels)
            losses.append(labels * entropy + divergence * self._temperature**2 * kl)
        return torch.stack(losses).mean()


class Branch(nn.Module):
    """A student's later stages on the output of a teacher's stage: (N, C', T) -> (N, K)."""

    def __init__(
        self, channels: int, student_channels: int, rest: nn.Module, head: nn.Module
    ) -> None:
        """Put an adapter in front of the rest of a student.

        Args:
            channels: channels of the teacher's stage.
            student_channels: channels that the rest reads.
            rest: the student's stages after the replaced one.
            head: head of the student.
        """
        super().__init__()
        adapter = [
            nn.Conv1d(channels, student_channels, 1, bias=False),
            nn.BatchNorm1d(student_channels),
            nn.ReLU(),
        ]
        self.path = nn.Sequential(*adapter, rest)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (N, K)."""
        logits: Tensor = self.head(self.path(x).mean(dim=2))
        return logits


def stages(network: nn.Module) -> dict[str, nn.Module]:
    """Return the layer that ends each stage of a network, with the stages after it.

    Raises:
        ConfigError: the network is an LSTM, whose layers run as one, or no network of ours.
    """
    if isinstance(network, FCN):  # a stage is a block and its ReLU
        return {f"blocks.{i}": network.blocks[i + 1 :] for i in range(1, len(network.blocks), 2)}
    if isinstance(network, ResNet):
        return {f"blocks.{i}": network.blocks[i + 1 :] for i in range(len(network.blocks))}
    if isinstance(network, Inception):
        return {f"stages.{i}": network.stages[i + 1 :] for i in range(len(network.stages))}
    if isinstance(network, LITE):
        layers = {f"layers.{i}": network.layers[i + 1 :] for i in range(len(network.layers))}
        return {"activation": network.layers, **layers}
    raise ConfigError(
        f"teacher.student_friendly needs networks of several stages, and {type(network).__name__} "
        "has none to branch from. Choose fcn, resnet, inception or lite for teacher and student."
    )


def branch_layers(teacher: nn.Module, student: nn.Module) -> list[str]:
    """Return the teacher's layers that branches start from.

    Raises:
        ConfigError: a network has no stages, or only one.
    """
    names, others = list(stages(teacher)), list(stages(student))
    common = min(len(names), len(others)) - 1
    if common < 1:
        raise ConfigError(
            f"teacher.student_friendly branches after every stage but the last; the teacher has "
            f"{len(names)}, the student {len(others)}. Give both a larger depth."
        )
    return names[:common]


def make_branch(
    index: int, teacher: nn.Module, layer: str, student: nn.Module, series: Tensor
) -> Branch:
    name, rest = list(stages(student).items())[index]
    channels = _channels(teacher, layer, series), _channels(student, name, series)
    return Branch(*channels, rest, student.get_submodule("head"))


@torch.no_grad()
def _channels(network: nn.Module, name: str, series: Tensor) -> int:
    training = network.training
    with record_features(network.eval(), [name]) as features:
        network(series)
    network.train(training)
    return features[name].shape[1]
