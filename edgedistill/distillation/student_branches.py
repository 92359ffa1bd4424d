"""The stages of a network, and a student's later stages on top of a teacher's earlier ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedistill.distillation.features import record_features
from edgedistill.errors import ConfigError
from edgedistill.models.fcn import FCN
from edgedistill.models.inception import Inception
from edgedistill.models.lite import LITE
from edgedistill.models.resnet import ResNet


class Branch(nn.Module):
    """Map what a teacher's stage gives, (N, C', T), to logits, (N, K), through a student's rest."""

    def __init__(
        self, channels: int, student_channels: int, rest: nn.Module, head: nn.Module
    ) -> None:
        """Put an adapter in front of the rest of a student.

        Args:
            channels: of the teacher's stage.
            student_channels: channels that the rest reads.
            rest: the student's stages after the one that is replaced.
            head: of the student.
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
    """Return the layer that ends each stage of a network, with what follows it up to the mean.

    Raises:
        ConfigError: it is an LSTM, whose layers run as one, or no network of ours.
    """
    if isinstance(network, FCN):  # of a block and its ReLU
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


def branches(teacher: nn.Module, students: list[nn.Module], series: Tensor) -> dict[str, Branch]:
    """Return a branch for each stage but the last that both networks have.

    Args:
        teacher: left as it is.
        students: fresh ones, as many as branches or more; each gives one its later stages.
        series: a few, (N, C, T), to see what stages give.

    Raises:
        ConfigError: a network has no stages, or only one.
    """
    found = {}
    for index, layer in enumerate(branch_layers(teacher, students[0])):
        student = students[index]
        name, rest = list(stages(student).items())[index]
        given = _channels(teacher, layer, series)
        wanted = _channels(student, name, series)
        found[layer] = Branch(given, wanted, rest, student.get_submodule("head"))
    return found


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


@torch.no_grad()
def _channels(network: nn.Module, name: str, series: Tensor) -> int:
    training = network.training
    with record_features(network.eval(), [name]) as found:
        network(series)
    network.train(training)
    return found[name].shape[1]
