"""Distillation: train a student towards its teacher, and measure it on validation series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from edgedistill.data import Prepared
from edgedistill.distillation.context import distillation_data
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.evaluation import metrics
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.fit import fit
from edgedistill.training.pruning import Pruner, extract_student
from edgedistill.training.weight_search import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilledStudent:
    """A distilled network, and its figures on validation series.

    Attributes:
        network: the student, in evaluation mode.
        history: learning curves, an entry an epoch.
        accuracy: share of the validation series.
        kl: mean KL(teacher || student), nats.
        saliency_pearson: mean over series; None if the teacher has no maps.
    """

    network: nn.Module
    history: list[Epoch]
    accuracy: float
    kl: float
    saliency_pearson: float | None

    def trial(self, weights: Mapping[str, float]) -> Trial:
        """Return the trial of the objectives' weights."""
        return Trial(
            weights=dict(weights),
            accuracy=self.accuracy,
            kl=self.kl,
            saliency_pearson=self.saliency_pearson,
            epochs=len(self.history),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """The pruning of a wide network to the student's width, in training."""

    pruner: Pruner
    student: nn.Module  # of its own width; takes the units that are left


def distill(
    student: nn.Module,
    teacher_outputs: TeacherOutputs,
    data: Prepared,
    objectives: Sequence[WeightedObjective],
    training: FitConfig,
    *,
    plan: PerturbationPlan,
    seed: int,
    outputs: RunOutputs | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    pruning: Pruning | None = None,
    until: int | None = None,
) -> DistilledStudent:
    """Train a student, and return it with its figures on the validation split.

    Args:
        student: network to train, in place; with `pruning` the wide one.
        teacher_outputs: logits and maps of the teacher.
        data: series for training and for the choice of weights.
        objectives: objectives to minimize, each with its weight.
        training: epochs, optimizer, selection, devices.
        plan: plan of the teacher's maps.
        seed: seed of the shuffling.
        outputs: files for checkpoint and TensorBoard events.
        on_epoch: called after every epoch.
        pruning: pruning of the network to the student's width.
        until: epoch after which to stop and keep the checkpoint.
    """
    pruner = None if pruning is None else pruning.pruner
    run = partial(
        fit, student, objectives, distillation_data(data, teacher_outputs), training, seed=seed
    )
    history = run(outputs=outputs, on_epoch=on_epoch, pruner=pruner, until=until)
    network = student if pruning is None else extract_student(student, pruning.student).eval()
    return _measured(network, history, teacher_outputs, data, plan)


def _measured(
    network: nn.Module,
    history: list[Epoch],
    teacher_outputs: TeacherOutputs,
    data: Prepared,
    plan: PerturbationPlan,
) -> DistilledStudent:
    """Measure a network on the validation split."""
    return _evaluated(network, history, data, teacher_outputs, plan)


def _evaluated(
    network: nn.Module,
    history: list[Epoch],
    data: Prepared,
    teacher_outputs: TeacherOutputs,
    plan: PerturbationPlan,
) -> DistilledStudent:
    """Return a network with its figures on the validation split."""
    validation, teacher = data.validation, teacher_outputs.splits["validation"]
    classifier = TorchClassifier(network, classes=data.classes, name="student")
    evaluation = evaluate(classifier, validation.x, validation.y, teacher, plan)
    pearson = evaluation.estimates.get("saliency_pearson")  # absent where the teacher has no maps
    return DistilledStudent(
        network=network,
        history=history,
        accuracy=float(metrics.correct(evaluation.explanation.logits, validation.y).mean()),
        kl=evaluation.estimates["kl"].value,
        saliency_pearson=None if pearson is None else pearson.value,
    )
