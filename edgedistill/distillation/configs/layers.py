"""The configs of the objectives of other papers that compare layers, as in `objectives`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from edgedistill.distillation.configs.config import ObjectiveConfig, Positive, Weight

if TYPE_CHECKING:
    from edgedistill.distillation.context import ObjectiveContext
    from edgedistill.distillation.features import Pair
    from edgedistill.distillation.objectives.objective import Objective


class LayerConfig(ObjectiveConfig):
    """An objective that compares layers; None takes the default ones of a network."""

    student_layer: str | None = None
    teacher_layer: str | None = None

    def layer_pair(self, context: ObjectiveContext, *, hint: bool = False) -> Pair:
        """Return the configured layers, or the last ones over time; for a hint those half way.

        Raises:
            ConfigError: the teacher has no layers to compare, or a name is wrong.
        """
        from edgedistill.distillation.features import Pair, TeacherFeatures, layer_channels
        from edgedistill.distillation.objectives.baselines.layers import choose_layer

        teacher = context.teacher_network(self.name)
        teacher_channels = layer_channels(teacher, context.data.sample)
        student_channels = layer_channels(context.student, context.data.sample)
        default = 0 if hint else 1
        student_layer = choose_layer(self.student_layer, student_channels, "student", default)
        teacher_layer = choose_layer(self.teacher_layer, teacher_channels, "teacher", default)
        return Pair(
            student=student_layer,
            student_channels=student_channels[student_layer],
            teacher=teacher_layer,
            teacher_channels=teacher_channels[teacher_layer],
            features=TeacherFeatures(teacher, [teacher_layer]),
        )


class FitNetsConfig(LayerConfig):
    """A hint: a layer half way, through a trained regressor."""

    name: Literal["fitnets"]
    weight: Weight = 100.0

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.fitnets import FitNets

        return FitNets(self.layer_pair(context, hint=True))


class AttentionConfig(LayerConfig):
    """Attention transfer: where in time a layer is active."""

    name: Literal["at"]
    weight: Weight = 1000.0

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.attention import AttentionTransfer

        return AttentionTransfer(self.layer_pair(context))


class VIDConfig(LayerConfig):
    """Variational information distillation: the likelihood of the teacher's layer."""

    name: Literal["vid"]

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.vid import VID

        return VID(self.layer_pair(context))


class DT2WConfig(LayerConfig):
    """Soft-DTW between the outputs of layers over time."""

    name: Literal["dt2w"]
    gamma: float = Field(1.2, gt=0)  # softness of the minimum over warpings
    steps: int = Field(64, ge=1)  # that are compared; longer sequences are averaged down

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.dt2w import DT2W

        return DT2W(self.layer_pair(context), gamma=self.gamma, steps=self.steps)


class MemKDConfig(LayerConfig):
    """Relative changes of a layer's state over random subsequences."""

    name: Literal["memkd"]
    subsequences: int = Field(16, ge=1)  # a series and step

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.memkd import MemKD

        pair = self.layer_pair(context)
        return MemKD(pair, subsequences=self.subsequences, seed=context.seed)


class SPConfig(LayerConfig):
    """Which series of a batch are alike in a layer."""

    name: Literal["sp"]
    weight: Weight = 3000.0

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.sp import SP

        return SP(self.layer_pair(context))


class RKDConfig(ObjectiveConfig):
    """Distances and angles among the embeddings of a batch."""

    name: Literal["rkd"]
    distance: float = Field(25.0, ge=0)
    angle: float = Field(50.0, ge=0)

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.layers import embedding_pair
        from edgedistill.distillation.objectives.baselines.rkd import RKD

        pair = embedding_pair(self.name, context)
        return RKD(pair, distance=self.distance, angle=self.angle)


class CRDConfig(ObjectiveConfig):
    """Contrast between the embeddings of series of different classes."""

    name: Literal["crd"]
    weight: Weight = 0.8
    size: int = Field(128, ge=1)  # of the projections
    negatives: int = Field(256, ge=1)  # drawn a series and step
    temperature: float = Field(0.07, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)  # of the memory

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.crd import CRD
        from edgedistill.distillation.objectives.baselines.layers import embedding_pair

        return CRD(
            embedding_pair(self.name, context),
            context.data.labels[context.data.train].numpy(),
            size=self.size,
            negatives=self.negatives,
            temperature=self.temperature,
            momentum=self.momentum,
            seed=context.seed,
        )


class SSKDConfig(ObjectiveConfig):
    """Views of the series: their classes and similarities; beside cross_entropy .1 and kd .9."""

    name: Literal["sskd"]
    temperature: float = Field(4.0, gt=0)  # of the logits of views
    similarity_temperature: float = Field(0.5, gt=0)
    views_weight: Positive = 2.7  # of the logits of views
    similarity_weight: Positive = 10.0

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.features import embedding_size
        from edgedistill.distillation.objectives.baselines.sskd import SSKD

        teacher = context.teacher_network(self.name)
        for network in (teacher, context.student):
            embedding_size(
                network, context.data.sample
            )  # refuses one without an embedding, by name
        return SSKD(
            teacher,
            temperature=self.temperature,
            similarity_temperature=self.similarity_temperature,
            views_weight=self.views_weight,
            similarity_weight=self.similarity_weight,
            seed=context.seed,
        )
