"""The objectives as a recipe names them: their settings and defaults, with the usual weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgedistill.distillation.objectives import check_ramp
from edgedistill.errors import ConfigError

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Range(Section):
    """A weight that is drawn between two bounds, evenly on a log scale."""

    low: Positive
    high: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}.")
        return self


# One value, or several or a range of which one is chosen.
Weight = Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | Range


class TermSection(Section):
    """What every objective has."""

    weight: Weight = 1.0
    start: float = Field(0.0, ge=0, lt=1)  # share of the epochs after which it joins
    ramp: float = Field(0.0, ge=0, le=1)  # share over which its weight then grows from 0

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: they do; the message begins with the key of one.
        """
        check_ramp(self.start, self.ramp)

    @model_validator(mode="after")
    def _checked(self) -> TermSection:
        try:
            self.check()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class FeatureTerm(TermSection):
    """An objective that compares layers; None takes the usual ones of a network."""

    student_layer: str | None = None
    teacher_layer: str | None = None


class CrossEntropyTerm(TermSection):
    """Cross-entropy with the labels."""

    name: Literal["cross_entropy"]


class KDTerm(TermSection):
    """Hinton's knowledge distillation."""

    name: Literal["kd"]
    weight: Weight = 0.9
    temperature: float = Field(4.0, gt=0)


class CutMixWindowConfig(TermSection):
    """An objective about windows that show a series of another class."""

    windows: int = Field(50, ge=1)
    bank: int = Field(16, ge=0)  # times `windows` are kept a series; 0: drawn anew at every step
    bank_mib: Positive = 256  # of disk that the kept windows and answers may take


class TSDTerm(CutMixWindowConfig):
    """Temporal Saliency Distillation as published."""

    name: Literal["tsd"]
    width: Count | tuple[Count, ...] = 10  # several share `windows`
    temperature: float = Field(8.0, gt=0)
    form: Literal["summed", "elementwise"] = "summed"
    loss: Literal["smooth_l1", "cosine", "ranking"] = "smooth_l1"
    draw: Literal["uniform", "importance"] = "uniform"  # the latter half by the teacher's map

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the width, or all of them."""
        return self.width if isinstance(self.width, tuple) else (self.width,)

    def check(self) -> None:
        super().check()
        if not self.widths or len(set(self.widths)) < len(self.widths):
            raise ConfigError(
                f"width is {list(self.widths)}. Name at least one width, and each of them once."
            )
        if self.windows < len(self.widths):
            raise ConfigError(
                f"windows is {self.windows} for {len(self.widths)} widths. Let each have at least "
                "one, or name fewer widths."
            )
        if self.loss == "ranking" and self.form == "elementwise":
            raise ConfigError(
                "loss is 'ranking' beside form 'elementwise', which gives a window a score for "
                "each class. Choose form: summed, or another loss."
            )


class CutMixKDTerm(CutMixWindowConfig):
    """KD on the copies that `tsd` asks about."""

    name: Literal["cutmix_kd"]
    windows: int = Field(10, ge=1)
    width: Count = 10
    temperature: float = Field(4.0, gt=0)


class TSDMapsTerm(TermSection):
    """Whole signed maps, by default under the shared plan, matched by correlation."""

    name: Literal["tsd_maps"]
    map: Literal["windows", "timesteps"] = "windows"  # timesteps: from windows at every step
    widths: tuple[Count, ...] = ()  # of windows, a map each; none: the shared plan's own
    sources: tuple[str, ...] = ()  # other teachers whose maps are averaged with the teacher's
    trust: bool = False  # whether a joblib file among them may run the code it contains

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: a width stands twice, or they do as every objective's may.
        """
        super().check()
        if len(set(self.widths)) < len(self.widths):
            raise ConfigError(f"widths is {list(self.widths)}. Name every width once.")


class FitNetsTerm(FeatureTerm):
    """A hint: a layer half way, through a trained regressor."""

    name: Literal["fitnets"]
    weight: Weight = 100.0


class AttentionTerm(FeatureTerm):
    """Attention transfer: where in time a layer is active."""

    name: Literal["at"]
    weight: Weight = 1000.0


class VIDTerm(FeatureTerm):
    """Variational information distillation: the likelihood of the teacher's layer."""

    name: Literal["vid"]


class DT2WTerm(FeatureTerm):
    """Soft-DTW between what layers give over time."""

    name: Literal["dt2w"]
    gamma: float = Field(1.2, gt=0)  # how soft the minimum over warpings is
    steps: int = Field(64, ge=1)  # that are compared; longer sequences are averaged down


class MemKDTerm(FeatureTerm):
    """Relative changes of a layer's state over random subsequences."""

    name: Literal["memkd"]
    subsequences: int = Field(16, ge=1)  # a series and step


class SSKDTerm(TermSection):
    """Views of the series: their classes and similarities; beside cross_entropy .1 and kd .9."""

    name: Literal["sskd"]
    temperature: float = Field(4.0, gt=0)  # of the logits of views
    similarity_temperature: float = Field(0.5, gt=0)
    views_weight: Positive = 2.7  # of the logits of views
    similarity_weight: Positive = 10.0


class DIHTerm(TermSection):
    """Knowledge distillation from linear heads at the teacher's layers, and from the teacher."""

    name: Literal["dih"]
    temperature: float = Field(5.0, gt=0)
    heads: int = Field(2, ge=1)  # that part the network evenly


class DKDTerm(TermSection):
    """Decoupled distillation: the target against the rest, and among the rest."""

    name: Literal["dkd"]
    alpha: float = Field(1.0, ge=0)  # of the target against the rest
    beta: float = Field(8.0, ge=0)  # among the rest
    temperature: float = Field(4.0, gt=0)
    warmup: int = Field(100, ge=0)  # optimizer steps after which it counts in full


class DISTTerm(TermSection):
    """Correlations among the classes of a series, and among the series of a batch."""

    name: Literal["dist"]
    beta: float = Field(1.0, ge=0)  # among classes
    gamma: float = Field(1.0, ge=0)  # among series
    temperature: float = Field(1.0, gt=0)


class RKDTerm(TermSection):
    """Distances and angles among the embeddings of a batch."""

    name: Literal["rkd"]
    distance: float = Field(25.0, ge=0)
    angle: float = Field(50.0, ge=0)


class SPTerm(FeatureTerm):
    """Which series of a batch are alike in a layer."""

    name: Literal["sp"]
    weight: Weight = 3000.0


class CRDTerm(TermSection):
    """Contrast between the embeddings of series of different classes."""

    name: Literal["crd"]
    weight: Weight = 0.8
    size: int = Field(128, ge=1)  # of the projections
    negatives: int = Field(256, ge=1)  # drawn a series and step
    temperature: float = Field(0.07, gt=0)
    momentum: float = Field(0.5, ge=0, lt=1)  # of the memory


class E2KDTerm(TermSection):
    """Whole signed maps under the shared plan, matched by cosine."""

    name: Literal["e2kd"]


class RankingTerm(TermSection):
    """The order of the most important windows under the shared plan."""

    name: Literal["ranking"]
    top: float = Field(0.5, gt=0, le=1)  # share of the windows whose order counts


class EnsembleTerm(TermSection):
    """Knowledge distillation from the teacher and others, weighted for each series."""

    name: Literal["ensemble"]
    weight: Weight = 0.9
    sources: tuple[str, ...] = Field(min_length=1)  # as teacher.source, or folders of `train`
    trust: bool = False  # whether a joblib file among them may run the code it contains
    temperature: float = Field(4.0, gt=0)
    weighting: Literal["correctness", "agreement"] = "correctness"


class XDistillationTerm(TermSection):
    """The student predicts the teacher's signed map, and fuses what it does so from.

    It gives the student an explainer, which nothing else would train: so from the first epoch.
    """

    name: Literal["xdistillation"]
    start: float = Field(0.0, ge=0, le=0)
    ramp: float = Field(0.0, ge=0, le=0)


class ShuffledSaliencyTerm(TermSection):
    """Control: tsd_maps with each map taken from another series."""

    name: Literal["shuffled_saliency"]


class RandomTeacherTerm(TermSection):
    """Control: kd from an untrained network of the teacher's kind, stretched to its spread."""

    name: Literal["random_teacher"]
    weight: Weight = 0.9
    temperature: float = Field(4.0, gt=0)


class RandomSaliencyTerm(TermSection):
    """Control: tsd_maps from an untrained network of the teacher's kind."""

    name: Literal["random_saliency"]


ObjectiveTerm = Annotated[
    CrossEntropyTerm
    | KDTerm
    | TSDTerm
    | CutMixKDTerm
    | TSDMapsTerm
    | FitNetsTerm
    | AttentionTerm
    | VIDTerm
    | DT2WTerm
    | MemKDTerm
    | SSKDTerm
    | DIHTerm
    | DKDTerm
    | DISTTerm
    | RKDTerm
    | SPTerm
    | CRDTerm
    | E2KDTerm
    | RankingTerm
    | EnsembleTerm
    | XDistillationTerm
    | ShuffledSaliencyTerm
    | RandomTeacherTerm
    | RandomSaliencyTerm,
    Field(discriminator="name"),
]
