"""The recipe: everything a run depends on, in one YAML file.

Sections that a lower room owns (training, contract, model) are its own
dataclasses, so a default stands in one place only. A mistake is told with file,
line, key, what was found, what is allowed and the nearest valid key.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import ErrorDetails

from edgedistill import perturbation, preprocess, targets
from edgedistill.contract import Contract
from edgedistill.data.wav_folders import wav_files
from edgedistill.distill.fit import FitConfig
from edgedistill.distill.optimize.forms import Precision, RuntimeName, check_forms
from edgedistill.distill.presets import PRESETS
from edgedistill.errors import ConfigError
from edgedistill.models import FAMILIES
from edgedistill.terms import (
    CrossEntropyTerm,
    KDTerm,
    ObjectiveTerm,
    Range,
    Section,
    TSDMapsTerm,
    XDistillationTerm,
)

Family = Literal["lstm", "fcn", "resnet", "inception", "lite"]
PRUNED_FAMILIES = ("fcn", "lstm")
SOUND_FRAMES = 64  # of 10 ms: most spoken words


def _located(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Turn what a section of a lower room refuses into a fault that knows its place."""
    try:
        return validate(value)
    except ConfigError as error:
        raise ValueError(str(error)) from error


Training = Annotated[FitConfig, WrapValidator(_located)]
Terms = Annotated[Contract, WrapValidator(_located)]


class DataSection(Section):
    """Which series, and how they become arrays (N, C, T)."""

    train: str = "GunPoint"  # a bundled set's name, a file or a folder
    test: str | None = None  # None: NAME_TEST beside NAME_TRAIN, else split off
    length: int | None = Field(None, ge=2)  # T; None: the longest training series
    max_length: int | None = Field(None, ge=2)  # what a T of None may grow to
    sizing: preprocess.Sizing = "resample"
    # None: "series" for one channel; for several "train", because their levels tell them apart
    normalization: preprocess.Normalization | None = None
    features: preprocess.Features = "none"
    limit_per_class: int | None = Field(None, ge=1)
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    test_fraction: float = Field(0.2, gt=0, lt=1)


class ModelSection(Section):
    """A network of ours."""

    family: Family = "fcn"
    width: int | None = Field(None, ge=1)
    depth: int | None = Field(None, ge=1)

    @property
    def explained(self) -> bool:
        """Return whether the network predicts a saliency map too."""
        return False


class StudentFriendlySection(Section):
    """A teacher trained with branches of the student's layers (SFTN)."""

    cross_entropy: float = Field(1.0, ge=0)  # of the branches with the labels
    kl: float = Field(3.0, ge=0)  # between the branches and the teacher
    temperature: float = Field(1.0, gt=0)  # of both sides of the latter


class PruneSection(Section):
    """A student that starts as its teacher and is pruned to its own width (HomoDistil)."""

    until: float = Field(0.7, gt=0, le=1)  # share of the training after which its width stays
    smoothing: float = Field(0.85, ge=0, lt=1)  # share of the old importance kept at a step


class TeacherSection(ModelSection):
    """The teacher: trained here, or brought."""

    source: str | None = None  # None trains one; .onnx, module:factory, .joblib or .npz of logits
    weights: str | None = None  # safetensors of module:factory
    trust: bool = False  # whether a joblib file may run the code it contains
    width: int | None = Field(64, ge=1)
    student_friendly: StudentFriendlySection | None = None  # None: trained by itself
    training: Training = FitConfig(learning_rate=0.003)

    @model_validator(mode="after")
    def _trained_here(self) -> TeacherSection:
        if self.student_friendly is not None and self.source is not None:
            raise ValueError(
                f"student_friendly trains the teacher, and {self.source} is trained already. "
                "Leave teacher.source out, or leave teacher.student_friendly out."
            )
        return self


class SearchSection(Section):
    """How the weights that the recipe leaves open are tried."""

    method: Literal["full", "halving"] = "full"  # how far every candidate trains
    points: int = Field(8, ge=1)  # drawn where weights are ranges
    eta: int = Field(3, ge=2)  # of how many candidates one goes on, at every rung
    first: float = Field(0.1, gt=0, le=1)  # least share of the epochs before the first rung


class StudentSection(ModelSection):
    """The student and what it learns from."""

    width: int | None = Field(16, ge=1)
    prune_from_teacher: PruneSection | None = None  # None: starts from random weights
    objectives: tuple[ObjectiveTerm, ...] = Field(
        (
            CrossEntropyTerm(name="cross_entropy", weight=0.1),
            KDTerm(name="kd", weight=0.9),
            TSDMapsTerm(name="tsd_maps", weight=(1.0, 2.0, 5.0), start=1 / 3),
        ),
        min_length=1,
    )
    search: SearchSection = SearchSection()
    training: Training = FitConfig(epochs=200, learning_rate=0.01, select="objective")

    @property
    def explained(self) -> bool:
        """Return whether an objective trains the network to."""
        return any(isinstance(term, XDistillationTerm) for term in self.objectives)


class SaliencySection(Section):
    """The plan under which teacher, student, variants and the board are compared."""

    width: int | None = Field(None, ge=1)  # steps; None: a sixteenth of the series
    stride: int | None = Field(None, ge=1)  # steps; None: half the width
    baseline: perturbation.Baseline = "mean"
    temperature: float = Field(8.0, gt=0)


class NodeSearchSection(Section):
    """The search for an INT8 model that keeps the contract with the fewest nodes in float32."""

    method: Literal["sensitivity"] = "sensitivity"
    budget_s: float = Field(300, gt=0)  # seconds after which no new candidate is measured
    # How far it may fall behind the float32 model, beside the contract; None: as the contract says
    agreement_loss: float | None = Field(None, ge=0)
    saliency_loss: float | None = Field(None, ge=0)


class RecoverSection(Section):
    """A short training in 8 bits of a student that breaks the contract in INT8."""

    epochs: int = Field(20, ge=1)
    learning_rate: float = Field(0.001, gt=0)
    target: Literal["teacher", "student"] = (
        "teacher"  # whose answers and maps: or the float32 one's
    )
    always: bool = False  # also where plain INT8 keeps the contract


def _switched(value: Any) -> Any:
    """Return what `recover: true` and `recover: false` stand for."""
    return {} if value is True else None if value is False else value


class OptimizeSection(Section):
    """Which variants are made, and which of those that keep the contract is taken."""

    # The first runtime that has a variant which keeps the contract is taken
    runtimes: tuple[RuntimeName, ...] = Field(("onnxruntime",), min_length=1)
    precisions: tuple[Precision, ...] = Field(("fp32", "fp16", "int8"), min_length=1)
    batch: int | None = Field(None, ge=1)  # series that files for TensorRT take; None: any number
    prefer: Literal["size", "latency"] = "size"
    calibration: int = Field(256, ge=1)  # training series that INT8 ranges are taken from
    runs: int = Field(200, ge=10)  # timed runs of each variant
    formats: tuple[Literal["onnx", "ort"], ...] = Field(("onnx",), min_length=1)
    tune: bool = False  # whether the bundle's models get session settings found here
    search: NodeSearchSection | None = None  # None: INT8 is made as it is, in all nodes
    recover: Annotated[RecoverSection | None, BeforeValidator(_switched)] = None  # None: never

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
    """What saliency agreement is printed beside."""

    floor: bool = True  # an untrained student
    ceiling: bool = True  # a second teacher from another seed, if the teacher is trained here


class Recipe(Section):
    """Everything a run depends on."""

    name: str | None = None  # of the bundle; None: the data set's
    preset: Literal["default", "paper"] = "default"
    target: str | None = None  # a board of deploy/targets; sets what suits it
    seed: int = Field(0, ge=0)
    data: DataSection = DataSection()
    teacher: TeacherSection = TeacherSection()
    student: StudentSection = StudentSection()
    saliency: SaliencySection = SaliencySection()
    references: ReferencesSection = ReferencesSection()
    optimize: OptimizeSection = OptimizeSection()
    contract: Terms = Contract()
    golden: int = Field(64, ge=1)  # held-out series that travel with the bundle

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON and YAML can hold."""
        return self.model_dump(mode="json")


def load(
    path: Path, overrides: Iterable[str] = (), *, above: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe in a YAML file.

    Args:
        path: the file.
        overrides: `a.b=value` settings that win over the file.
        above: settings that win over the file, but not over `overrides`.

    Raises:
        ConfigError: the file or a setting makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the recipe {path}: {error}. Check the path.") from error
    return parse(text, overrides, above=above, origin=str(path))


def parse(
    text: str,
    overrides: Iterable[str] = (),
    *,
    above: Mapping[str, Any] | None = None,
    origin: str = "recipe",
    whole: bool = True,
) -> Recipe:
    """Return the recipe in a YAML text; `origin` names it in messages.

    One that is not `whole` lacks sections that others must fit, so that is not asked.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not valid YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin} holds {type(values).__name__}, a recipe is a mapping of sections. "
            "Start from `edgedistill init`."
        )
    values = _merge(values, above or {})
    for setting in overrides:
        _set(values, setting)
    try:
        recipe = Recipe.model_validate(_merge(_base(values), values))
        if whole:
            _check_pruning(recipe.teacher, recipe.student)
    except ValidationError as error:
        lines = dict(_lines(node)) if node is not None else {}
        raise ConfigError("\n".join(_sentences(error, lines, origin))) from error
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    return recipe


def sensible(
    data: str | None,
    test: str | None = None,
    *,
    teacher: str | None = None,
    target: str | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Return the settings that suit what a person names without a recipe.

    Sounds become log-mel frames, because a waveform says little to a small network. A
    file of logits cannot be asked for reasons, so nothing asks it.

    Args:
        data: a bundled set's name, a file or a folder.
        test: test series, where they are a file of their own.
        teacher: a brought one.
        target: a board.
        trust: whether a joblib teacher may run the code it contains.
    """
    found: dict[str, Any] = {}
    if data is not None:
        found["data"] = {"train": data}
        if Path(data).is_dir() and wav_files(Path(data)):
            found["data"] |= {"features": "log_mel", "sizing": "pad", "normalization": "train"}
            found["data"]["max_length"] = SOUND_FRAMES
    if test is not None:
        found.setdefault("data", {})["test"] = test
    if teacher is not None:
        found["teacher"] = {"source": teacher, "trust": trust}
        if Path(teacher).suffix == ".npz":
            found["contract"] = {"min_saliency_pearson": None, "min_saliency_spearman": None}
            found["student"] = {"objectives": [{"name": "cross_entropy", "weight": 0.1}]}
            found["student"]["objectives"].append({"name": "kd", "weight": 0.9})
    if target is not None:
        found["target"] = target
    return found


def _check_pruning(teacher: TeacherSection, student: StudentSection) -> None:
    """Refuse a student that its teacher cannot be pruned to."""
    if student.prune_from_teacher is None:
        return
    if teacher.source is not None:
        raise ConfigError(
            "student.prune_from_teacher starts from a teacher that is trained here, and "
            f"{teacher.source} is brought. Leave one of the two out."
        )
    if student.explained:
        raise ConfigError(
            "student.prune_from_teacher starts from the teacher, which predicts no map as the "
            "objective xdistillation needs. Leave one of the two out."
        )
    if student.family not in PRUNED_FAMILIES:
        raise ConfigError(
            f"student.prune_from_teacher prunes {' or '.join(PRUNED_FAMILIES)}, not "
            f"{student.family}. Choose one of those for teacher and student."
        )
    wide, narrow = (_sizes(section) for section in (teacher, student))
    if wide[:2] != narrow[:2] or wide[2] <= narrow[2]:
        raise ConfigError(
            "student.prune_from_teacher needs the teacher's family and depth and a smaller width; "
            f"the teacher is {_told(wide)}, the student {_told(narrow)}."
        )


def _sizes(section: ModelSection) -> tuple[str, int, int]:
    """Return family, depth and width, the published ones where the recipe leaves them open."""
    usual = FAMILIES[section.family]
    return section.family, section.depth or usual.depth, section.width or usual.width


def _told(sizes: tuple[str, int, int]) -> str:
    return "{} of depth {} and width {}".format(*sizes)


def dump(recipe: Recipe) -> str:
    """Return the recipe as YAML that `load` reads back."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def _base(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a recipe starts from: our defaults, its preset, its target."""
    preset = PRESETS.get(str(values.get("preset", "default")), {})
    target = values.get("target")
    board = {} if target is None else targets.settings(str(target))
    return _merge(_merge(Recipe().to_dict(), preset), board)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with the settings of `above`, section by section.

    A section whose lines are all commented out is None in YAML, and changes nothing.
    """
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        if isinstance(inner, Mapping) and (value is None or isinstance(value, Mapping)):
            value = _merge(inner, value or {})
        merged[key] = value
    return merged


def _set(values: dict[str, Any], setting: str) -> None:
    """Put one `a.b=value` into nested values."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes a.b=value, got {setting!r}. Example: student.width=16.")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {setting}: {section} holds {inner!r}, so it has no keys.")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {setting}: {text!r} is not valid YAML.") from error


def _lines(node: yaml.Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield the line, from 1, of every key in a YAML tree."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), key.start_mark.line + 1
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, str(index)), value.start_mark.line + 1
            yield from _lines(value, (*path, str(index)))


def _sentences(
    error: ValidationError, lines: Mapping[tuple[str, ...], int], origin: str
) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong."""
    faults: dict[tuple[str, ...], ErrorDetails] = {}
    for fault in error.errors(include_url=False):
        path = _path(fault["loc"])
        # The other arm of a union says it again, or the one that was meant says it better.
        if path not in faults or fault["type"] == "value_error":
            faults[path] = fault
    for path, fault in faults.items():
        if any(other != path and other[: len(path)] == path for other in faults):
            continue  # what is wrong inside says it better
        key = ".".join(path)
        if fault["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            sentence = f"there is no key {key}. {_nearest(path)}"
        elif fault["type"] == "value_error":  # of _located, which names the key within the section
            sentence = f"{key}.{str(fault['ctx']['error']).removeprefix(f'{key}.')}"
            path = tuple(sentence.split()[0].split("."))
        else:
            sentence = f"{key} is {fault['input']!r}. {fault['msg']}."
        line = lines.get(path) or lines.get(path[:-1])
        yield f"{origin}, line {line}: {sentence}" if line else f"{origin}: {sentence}"


def _path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the keys of a location, without the names of union arms that pydantic adds."""
    arms = set(_term_names())
    return tuple(
        str(part) for part in loc if part not in arms and not str(part).startswith(_UNION_MARKS)
    )


_UNION_MARKS = ("float", "tuple[", "constrained", "function-", "Range")


def _nearest(path: tuple[str, ...]) -> str:
    """Say which keys stand at this place, the nearest first."""
    known = _keys(path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{hint}Allowed here: {', '.join(known)}."


def _keys(path: tuple[str, ...]) -> list[str]:
    """Return the keys that a section allows."""
    section: Any = Recipe
    for part in path:
        if part == "objectives":
            return list(Range.model_fields) if path[-1] == "weight" else _term_keys()
        annotation = section.model_fields[part].annotation
        section = next((arm for arm in get_args(annotation) if arm is not NoneType), annotation)
    names = getattr(section, "model_fields", None) or section.__dataclass_fields__
    return [str(name) for name in names if name != "__pydantic_config__"]


def _term_keys() -> list[str]:
    return list(dict.fromkeys(name for term in _terms() for name in term.model_fields))


def _term_names() -> list[str]:
    return [get_args(term.model_fields["name"].annotation)[0] for term in _terms()]


def _terms() -> tuple[Any, ...]:
    return get_args(get_args(ObjectiveTerm)[0])
