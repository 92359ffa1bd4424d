"""Sections of a recipe: each setting with its default and its allowed values.

Sections that belong to another room (training, contract, drift) are its own dataclasses, so that
each default is defined once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    WrapValidator,
    model_validator,
)

from edgedistill.bundle.drift_reference import DriftLimits
from edgedistill.distillation.configs.baselines import StudentFriendlyConfig
from edgedistill.distillation.configs.config import Section
from edgedistill.distillation.configs.objectives import CrossEntropyConfig, KDConfig, TSDMapsConfig
from edgedistill.errors import ConfigError
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.preference import Preference
from edgedistill.models.spec import LARGEST, FactorySpec, ModelSpec, NetworkSpec
from edgedistill.optimize.precision_support import Precision, RuntimeName, check_forms
from edgedistill.preprocessing import transforms as preprocess
from edgedistill.recipe.objectives import ObjectiveSection
from edgedistill.saliency import perturbation
from edgedistill.training.config import FitConfig

Family = Literal["lstm", "fcn", "resnet", "inception", "lite"]
PRUNED_FAMILIES = ("fcn", "lstm")
COLUMN_SETTINGS = (  # of data
    *("label", "id", "time", "group", "ignore", "values", "time_format", "resample"),
)


def _located(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Turn an error of another room's section into one of pydantic, with its place."""
    try:
        return validate(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _listed(value: Any) -> Any:
    """Take a single column for a list of one."""
    return [value] if isinstance(value, str | int) else value


TrainingSettings = Annotated[FitConfig, WrapValidator(_located)]
ContractSettings = Annotated[Contract, WrapValidator(_located)]
DriftSettings = Annotated[DriftLimits, WrapValidator(_located)]


Column = StrictStr | StrictInt  # name in the header; without one the number, from 1, -1 the last
Columns = Annotated[tuple[Column, ...], BeforeValidator(_listed)]


class ResampleSection(Section):
    """An even grid for series with times."""

    step: float = Field(gt=0)  # in the unit of the times; of dates and durations seconds


class DataSection(Section):
    """The series, and how they become arrays (N, C, T)."""

    train: str = "GunPoint"  # a bundled set's name, a file or a folder
    test: str | None = None  # None: NAME_TEST beside NAME_TRAIN, else split off
    unlabeled: str | None = None  # a file of series to learn from without labels
    # Columns of a table; None: told from their names
    label: Column | None = None
    id: Column | None = None  # of the series
    time: Column | None = None
    group: Column | None = None  # of series that belong together, such as those of a person
    ignore: Columns = ()
    values: Columns = ()  # empty: told from their names; `first..last` is a range
    time_format: str | None = None  # of strptime; None: numbers, durations, clock times, ISO 8601
    resample: ResampleSection | None = None  # None: steps count as even
    length: int | None = Field(None, ge=2)  # T; None: the longest training series
    max_length: int | None = Field(None, ge=2)  # upper bound of T where length is None
    sizing: preprocess.Sizing = "resample"
    # None: "series" for one channel; for several "train", because their levels tell them apart
    normalization: preprocess.Normalization | None = None
    features: preprocess.Features = "none"
    limit_per_class: int | None = Field(None, ge=1)
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    test_fraction: float = Field(0.2, gt=0, lt=1)


# Of a factory: no texts, with which any function of any package could be made to do something.
Arguments = dict[str, StrictBool | StrictInt | StrictFloat]


class ModelSection(Section):
    """A network of one of our families."""

    family: Family = "fcn"
    width: int | None = Field(None, ge=1, le=LARGEST["width"])
    depth: int | None = Field(None, ge=1, le=LARGEST["depth"])

    @property
    def explained(self) -> bool:
        """Whether the network predicts a saliency map, too."""
        return False

    @property
    def spec(self) -> ModelSpec:
        """The architecture of the network."""
        return ModelSpec(
            family=self.family, width=self.width, depth=self.depth, explained=self.explained
        )


class PruneSection(Section):
    """Pruning of a student that starts as its teacher, to its own width (HomoDistil)."""

    until: float = Field(0.7, gt=0, le=1)  # share of the training after which its width stays
    smoothing: float = Field(0.85, ge=0, lt=1)  # share of the old importance kept at a step


def _as_class_name(value: Any) -> Any:
    """Take a number for a class name; what YAML read as a boolean cannot be spelled back."""
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - pydantic wants a ValueError
            f"a class name is text or a number, and YAML reads yes, no, on and off as {value}. "
            "Put it in quotes."
        )
    return str(value) if isinstance(value, int | float) else value


ClassName = Annotated[str, BeforeValidator(_as_class_name)]


class TeacherSection(ModelSection):
    """The teacher: trained here, or external."""

    source: str | None = None  # None trains one; .onnx, module:factory, .joblib or .npz of logits
    weights: str | None = None  # safetensors of module:factory
    # Of module:factory, besides channels, classes and length
    arguments: Arguments = Field(default_factory=dict)
    trust: bool = False  # whether a joblib file may run the code it contains
    # Classes of an external teacher's columns, in their order; None: as in the data, and checked
    class_names: tuple[ClassName, ...] | None = Field(None, min_length=2)
    width: int | None = Field(64, ge=1, le=LARGEST["width"])
    student_friendly: StudentFriendlyConfig | None = None  # None: trained by itself
    training: TrainingSettings = FitConfig(learning_rate=0.003)

    @model_validator(mode="after")
    def _trained_here(self) -> TeacherSection:
        if self.student_friendly is not None and self.source is not None:
            raise ValueError(
                f"student_friendly trains the teacher, and {self.source} is trained already. "
                "Leave teacher.source out, or leave teacher.student_friendly out."
            )
        return self


class SearchSection(Section):
    """Search for the objective weights that the recipe leaves open."""

    method: Literal["full", "halving"] = "full"  # whether all candidates train to the end
    points: int = Field(8, ge=1)  # number of candidates where weights are ranges
    eta: int = Field(3, ge=2)  # one of so many candidates goes on after each halving stage
    first: float = Field(0.1, gt=0, le=1)  # least share of the epochs in the first halving stage


class StudentSection(ModelSection):
    """The student and its objectives."""

    source: str | None = None  # module:factory of a torch module; None: one of our families
    weights: str | None = None  # safetensors that training starts from; None: random weights
    # Of module:factory, besides channels, classes and length
    arguments: Arguments = Field(default_factory=dict)
    width: int | None = Field(16, ge=1, le=LARGEST["width"])
    prune_from_teacher: PruneSection | None = None  # None: starts from random weights
    objectives: tuple[ObjectiveSection, ...] = Field(
        (
            CrossEntropyConfig(name="cross_entropy", weight=0.1),
            KDConfig(name="kd", weight=0.9),
            TSDMapsConfig(name="tsd_maps", weight=(1.0, 2.0, 5.0), start=1 / 3),
        ),
        min_length=1,
    )
    search: SearchSection = SearchSection()
    training: TrainingSettings = FitConfig(epochs=200, learning_rate=0.01, select="objective")

    @property
    def explained(self) -> bool:
        """Whether an objective trains the network to predict a saliency map."""
        return any(config.predicts_map for config in self.objectives)

    @property
    def network(self) -> NetworkSpec:
        """What makes the network: a factory, or one of our families."""
        if self.source is None:
            return self.spec
        return FactorySpec(source=self.source, arguments=self.arguments)


class SaliencySection(Section):
    """The perturbation plan for teacher, student, variants and boards alike."""

    width: int | None = Field(None, ge=1)  # steps; None: a sixteenth of the series
    stride: int | None = Field(None, ge=1)  # steps; None: half the width
    baseline: perturbation.Baseline = "mean"
    temperature: float = Field(8.0, gt=0)


class NodeSearchSection(Section):
    """The search for an INT8 model that keeps the contract with the fewest nodes in float32."""

    method: Literal["sensitivity"] = "sensitivity"
    budget_s: float = Field(300, gt=0)  # seconds after which no new candidate is measured
    # Largest loss against the float32 model, beside the contract; None: the contract alone
    agreement_loss: float | None = Field(None, ge=0)
    saliency_loss: float | None = Field(None, ge=0)


class RecoverSection(Section):
    """Quantization-aware training of a student that breaks the contract in INT8."""

    epochs: int = Field(20, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    target: Literal["teacher", "student"] = "teacher"  # model whose logits and maps are learned
    always: bool = False  # also where plain INT8 keeps the contract


def _expand_switch(value: Any) -> Any:
    """Expand `recover: true` and `recover: false`."""
    return {} if value is True else None if value is False else value


class OptimizeSection(Section):
    """Variants to make, and the preference among those that keep the contract."""

    # The first runtime with a variant that keeps the contract is chosen
    runtimes: tuple[RuntimeName, ...] = Field(("onnxruntime",), min_length=1)
    precisions: tuple[Precision, ...] = Field(("fp32", "fp16", "int8"), min_length=1)
    batch: int | None = Field(None, ge=1)  # series that files for TensorRT take; None: any number
    prefer: Preference = "balanced"  # among variants that keep the contract
    calibration: int = Field(256, ge=1)  # training series for the calibration of INT8 ranges
    runs: int = Field(200, ge=10)  # timed runs of each variant
    formats: tuple[Literal["onnx", "ort"], ...] = Field(("onnx",), min_length=1)
    tune: bool = False  # whether session settings are tuned here for the bundle's models
    search: NodeSearchSection | None = None  # None: all nodes in INT8
    recover: Annotated[RecoverSection | None, BeforeValidator(_expand_switch)] = None  # None: never

    @model_validator(mode="after")
    def _recovery_is_searched(self) -> OptimizeSection:
        if self.recover is not None and self.search is None:
            raise ValueError(
                "recover trains what a search found to break the contract. Set optimize.search "
                "too, or leave recover out."
            )
        return self

    @model_validator(mode="after")
    def _has_forms(self) -> OptimizeSection:
        try:
            check_forms(self.runtimes, self.precisions)
        except ConfigError as error:
            raise ValueError(f"precisions cannot all be made. {error}") from error
        return self


class ReferencesSection(Section):
    """References of saliency agreement."""

    floor: bool = True  # an untrained student
    ceiling: bool = True  # a second teacher from another seed, if the teacher is trained here
