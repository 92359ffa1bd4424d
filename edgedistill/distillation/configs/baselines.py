"""The configs of the objectives of other papers that compare logits or maps, as in `objectives`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgedistill.distillation import seeds
from edgedistill.distillation.configs.config import ObjectiveConfig, Section, Weight
from edgedistill.saliency.occlusion import explain

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgedistill.distillation.context import ObjectiveContext
    from edgedistill.distillation.objectives.objective import Objective

Weighting = Literal["correctness", "agreement"]


class DIHConfig(ObjectiveConfig):
    """Knowledge distillation from linear heads at the teacher's layers, and from the teacher."""

    name: Literal["dih"]
    temperature: float = Field(5.0, gt=0)
    heads: int = Field(2, ge=1)  # at evenly spaced layers

    def build(self, context: ObjectiveContext) -> Objective:
        import torch

        from edgedistill.distillation.features import (
            TeacherFeatures,
            default_layers,
            layer_channels,
        )
        from edgedistill.distillation.objectives.baselines.dih import (
            DIH,
            evenly_spaced_layers,
            head_logits,
        )

        teacher = context.teacher_network(self.name)
        channels = layer_channels(teacher, context.data.sample)
        default_layers(channels)  # refuses a network without layers over time, by name
        layers = evenly_spaced_layers(list(channels), self.heads)
        heads = head_logits(TeacherFeatures(teacher, layers), layers, context.data)
        return DIH(torch.cat([heads, context.logits[None]]), temperature=self.temperature)


class DKDConfig(ObjectiveConfig):
    """Decoupled distillation: the target against the rest, and among the rest."""

    name: Literal["dkd"]
    alpha: float = Field(1.0, ge=0)  # of the target against the rest
    beta: float = Field(8.0, ge=0)  # among the rest
    temperature: float = Field(4.0, gt=0)
    warmup: int = Field(100, ge=0)  # optimizer steps after which it counts in full

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.dkd import DKD

        return DKD(
            context.logits,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            warmup=self.warmup,
        )


class DISTConfig(ObjectiveConfig):
    """Correlations among the classes of a series, and among the series of a batch."""

    name: Literal["dist"]
    beta: float = Field(1.0, ge=0)  # among classes
    gamma: float = Field(1.0, ge=0)  # among series
    temperature: float = Field(1.0, gt=0)

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.dist import DIST

        return DIST(context.logits, beta=self.beta, gamma=self.gamma, temperature=self.temperature)


class E2KDConfig(ObjectiveConfig):
    """Whole signed maps under the shared plan, matched by cosine."""

    name: Literal["e2kd"]
    needs_maps: ClassVar[bool] = True

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.e2kd import E2KD

        return E2KD(context.explanation, context.plan)


class RankingConfig(ObjectiveConfig):
    """The order of the most important windows under the shared plan."""

    name: Literal["ranking"]
    top: float = Field(0.5, gt=0, le=1)  # share of the windows whose order counts
    needs_maps: ClassVar[bool] = True

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.ranking import Ranking

        return Ranking(context.explanation, context.plan, top=self.top)


class EnsembleConfig(ObjectiveConfig):
    """Knowledge distillation from the teacher and others, weighted for each series."""

    name: Literal["ensemble"]
    weight: Weight = 0.9
    sources: tuple[str, ...] = Field(min_length=1)  # as teacher.source, or folders of `train`
    trust: bool = False  # whether a joblib file among them may run the code it contains
    temperature: float = Field(4.0, gt=0)
    weighting: Weighting = "correctness"

    @property
    def other_teachers(self) -> tuple[str, ...]:
        return self.sources

    def build(self, context: ObjectiveContext) -> Objective:
        import torch

        from edgedistill.distillation.objectives.baselines.ensemble import Ensemble

        others = [context.open_source(source, trust=self.trust) for source in self.sources]
        series = context.data.series.numpy()
        return Ensemble(
            [context.logits, *(torch.from_numpy(other.logits(series)) for other in others)],
            context.data.labels,
            labeled=context.data.labeled,
            temperature=self.temperature,
            weighting=self.weighting,
        )


class XDistillationConfig(ObjectiveConfig):
    """The student predicts the teacher's signed map, and fuses the features it comes from.

    It gives the student an explainer, which nothing else would train: so from the first epoch.
    """

    name: Literal["xdistillation"]
    start: float = Field(0.0, ge=0, le=0)
    ramp: float = Field(0.0, ge=0, le=0)
    needs_maps: ClassVar[bool] = True
    predicts_map: ClassVar[bool] = True

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.xdistillation import XDistillation

        return XDistillation(context.explanation, context.plan)


class ShuffledSaliencyConfig(ObjectiveConfig):
    """Control: tsd_maps with each map taken from another series."""

    name: Literal["shuffled_saliency"]
    needs_maps: ClassVar[bool] = True

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.ablation_controls import shuffled_maps
        from edgedistill.distillation.objectives.tsd_maps import TSDMaps

        groups = [context.data.train.numpy(), context.data.validation.numpy()]
        shuffled = shuffled_maps(context.explanation, groups, seed=context.seed)
        return TSDMaps(shuffled, context.plan)


class RandomTeacherConfig(ObjectiveConfig):
    """Control: kd from an untrained network of the teacher's kind, stretched to its spread."""

    name: Literal["random_teacher"]
    weight: Weight = 0.9
    temperature: float = Field(4.0, gt=0)

    def build(self, context: ObjectiveContext) -> Objective:
        import torch

        from edgedistill.distillation.objectives.baselines.ablation_controls import (
            match_logit_scale,
            untrained_teacher,
        )
        from edgedistill.distillation.objectives.kd import KD

        untrained = untrained_teacher(context).logits(context.data.series.numpy())
        logits = match_logit_scale(untrained, context.explanation.logits)
        return KD(torch.from_numpy(logits), temperature=self.temperature)


class RandomSaliencyConfig(ObjectiveConfig):
    """Control: tsd_maps from an untrained network of the teacher's kind."""

    name: Literal["random_saliency"]

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.baselines.ablation_controls import (
            untrained_teacher,
        )
        from edgedistill.distillation.objectives.tsd_maps import TSDMaps

        teacher, series = untrained_teacher(context), context.data.series.numpy()
        maps = explain(teacher.logits, series, context.plan, changes=teacher.changes)
        return TSDMaps(maps, context.plan)


class StudentFriendlyConfig(Section):
    """A teacher trained with branches of the student's layers (SFTN)."""

    cross_entropy: float = Field(1.0, ge=0)  # of the branches with the labels
    kl: float = Field(3.0, ge=0)  # between the branches and the teacher
    temperature: float = Field(1.0, gt=0)  # of both sides of the latter

    def build(
        self,
        teacher: nn.Module,
        build_student: Callable[[int], nn.Module],
        series: Tensor,
        *,
        seed: int,
    ) -> Objective:
        """Return the objective, with a branch for each stage but the last that both have.

        Args:
            teacher: network that will be trained.
            build_student: builds an untrained student from a seed; each branch takes the later
                stages of one.
            series: a few series, (N, C, T), to run for the shapes of layers.
            seed: seed of adapters and students, before their offsets.

        Raises:
            ConfigError: a network has no stages, or only one.
        """
        import torch

        from edgedistill.distillation.objectives.baselines.student_friendly import (
            StudentFriendly,
            branch_layers,
            make_branch,
        )

        branches = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + seeds.BRANCH_ADAPTERS)
            for index, layer in enumerate(branch_layers(teacher, build_student(seed))):
                student = build_student(seed + seeds.BRANCHES + index)
                branches[layer] = make_branch(index, teacher, layer, student, series)
        return StudentFriendly(
            branches, cross_entropy=self.cross_entropy, kl=self.kl, temperature=self.temperature
        )
