"""The recipe: everything a run depends on, in one YAML file.

An error message has file, line, key, the value, the allowed values and the nearest valid key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from edgedistill import targets
from edgedistill.bundle.drift_reference import DriftLimits
from edgedistill.data.wav_folders import wav_files
from edgedistill.distillation.configs.config import Section
from edgedistill.errors import ConfigError
from edgedistill.evaluation.contract import Contract
from edgedistill.models.spec import FAMILIES
from edgedistill.recipe import yaml_text
from edgedistill.recipe.presets import PRESETS
from edgedistill.recipe.schema import (
    PRUNED_FAMILIES,
    ContractSettings,
    DataSection,
    DriftSettings,
    ModelSection,
    OptimizeSection,
    ReferencesSection,
    SaliencySection,
    StudentSection,
    TeacherSection,
)
from edgedistill.recipe.validation_errors import lines, validation_messages

SOUND_FRAMES = 64  # of 10 ms: most spoken words


class Recipe(Section):
    """Everything a run depends on."""

    name: str | None = None  # name of the bundle; None: of the data set
    preset: Literal["default", "paper"] = "default"
    target: str | None = None  # a board of deploy/targets, which sets defaults of its own
    seed: int = Field(0, ge=0, lt=1 << 32)  # what NumPy's and scikit-learn's generators take
    data: DataSection = DataSection()
    teacher: TeacherSection = TeacherSection()
    student: StudentSection = StudentSection()
    saliency: SaliencySection = SaliencySection()
    references: ReferencesSection = ReferencesSection()
    optimize: OptimizeSection = OptimizeSection()
    contract: ContractSettings = Contract()
    golden: int = Field(64, ge=1)  # held-out series that travel with the bundle
    drift: DriftSettings = DriftLimits()  # limits of drift from the test split

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON and YAML can hold."""
        return self.model_dump(mode="json")


def load(
    path: Path, overrides: Iterable[str] = (), *, file_overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Read the recipe in a YAML file.

    Args:
        path: path of the file.
        overrides: settings `a.b=value` that win over the file.
        file_overrides: settings that win over the file, but not over `overrides`.

    Raises:
        ConfigError: the file or a setting is invalid.
    """
    text = yaml_text.read_text(path, "recipe")
    return parse(text, overrides, file_overrides=file_overrides, origin=str(path))


def parse(
    text: str,
    overrides: Iterable[str] = (),
    *,
    file_overrides: Mapping[str, Any] | None = None,
    origin: str = "recipe",
    is_complete: bool = True,
) -> Recipe:
    """Parse the recipe in a YAML text; `origin` names it in messages.

    One that is not complete lacks sections, so that no section is checked against others.
    """
    node, values = yaml_text.parse(text, origin)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{origin} holds {type(values).__name__}, a recipe is a mapping of sections. "
            "Start from `edgedistill init`."
        )
    values = _merge(values, file_overrides or {})
    for setting in overrides:
        _set(values, setting)
    try:
        recipe = Recipe.model_validate(_merge(_base(values), values))
        if is_complete:
            _check_factories(recipe.teacher, recipe.student)
            _check_pruning(recipe.teacher, recipe.student)
    except ValidationError as error:
        places = dict(lines(node)) if node is not None else {}
        raise ConfigError("\n".join(validation_messages(error, places, origin, Recipe))) from error
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    return recipe


def default_settings(
    data: str | None,
    test: str | None = None,
    *,
    teacher: str | None = None,
    target: str | None = None,
    trust: bool = False,
    unlabeled: str | None = None,
) -> dict[str, Any]:
    """Return the settings that suit data and teacher named without a recipe.

    Sounds become log-mel frames, because a small network learns little from a waveform. A
    file of logits has no saliency, so neither objectives nor contract use it.

    Args:
        data: name of a bundled set, or path of a file or folder.
        test: path of the test series, where they are a file of their own.
        teacher: an external teacher, as `teacher.source` of a recipe.
        target: name of a board.
        trust: whether a joblib teacher may run the code it contains.
        unlabeled: path of series without labels.
    """
    settings: dict[str, Any] = {}
    if data is not None:
        settings["data"] = {"train": data}
        if Path(data).is_dir() and wav_files(Path(data)):
            settings["data"] |= {"features": "log_mel", "sizing": "pad", "normalization": "train"}
            settings["data"]["max_length"] = SOUND_FRAMES
    if test is not None:
        settings.setdefault("data", {})["test"] = test
    if unlabeled is not None:
        settings.setdefault("data", {})["unlabeled"] = unlabeled
    if teacher is not None:
        settings["teacher"] = {"source": teacher, "trust": trust}
        if Path(teacher).suffix == ".npz":
            settings["contract"] = {"min_saliency_pearson": None, "min_saliency_spearman": None}
            settings["student"] = {"objectives": [{"name": "cross_entropy", "weight": 0.1}]}
            settings["student"]["objectives"].append({"name": "kd", "weight": 0.9})
    if target is not None:
        settings["target"] = target
    return settings


def _check_factories(teacher: TeacherSection, student: StudentSection) -> None:
    """Refuse settings that a torch module of the user's own cannot have."""
    for name, section in (("teacher", teacher), ("student", student)):
        if section.arguments and section.source is None:
            raise ConfigError(
                f"{name}.arguments go to a factory, and none is named. Set {name}.source to "
                "package.module:factory, or leave them out."
            )
    if student.source is None:
        return
    if ":" not in student.source:
        raise ConfigError(
            f"student.source is {student.source!r}. Name what makes the torch module as "
            "package.module:factory, or leave it out for one of our families."
        )
    reasons = {
        "student.prune_from_teacher": student.prune_from_teacher is not None,
        "teacher.student_friendly": teacher.student_friendly is not None,
        "the objective xdistillation": student.explained,
    }
    for setting, is_set in reasons.items():
        if is_set:
            raise ConfigError(
                f"{setting} knows the layers of our families only, and student.source names "
                f"{student.source}. Leave one of the two out."
            )


def _check_pruning(teacher: TeacherSection, student: StudentSection) -> None:
    """Refuse a student that its teacher cannot be pruned to."""
    if student.prune_from_teacher is None:
        return
    if student.weights is not None:
        raise ConfigError(
            "student.prune_from_teacher starts from the teacher, and student.weights from "
            f"{student.weights}. Leave one of the two out."
        )
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
            f"the teacher is {_describe_size(wide)}, the student {_describe_size(narrow)}."
        )


def _sizes(section: ModelSection) -> tuple[str, int, int]:
    """Family, depth and width, the published ones where the recipe leaves them open."""
    published = FAMILIES[section.family]
    return section.family, section.depth or published.depth, section.width or published.width


def _describe_size(sizes: tuple[str, int, int]) -> str:
    return "{} of depth {} and width {}".format(*sizes)


def dump(recipe: Recipe) -> str:
    """Write the recipe as YAML that `load` reads back."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def _base(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a recipe starts from: our defaults, its preset, its target."""
    preset = PRESETS.get(str(values.get("preset", "default")), {})
    target = values.get("target")
    board = {} if target is None else targets.settings(str(target))
    return _merge(_merge(Recipe().to_dict(), preset), board)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings section by section; those of `file_overrides` win.

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
    """Set one `a.b=value` in nested values."""
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes a.b=value, got {setting!r}. Example: student.width=16.")
    *sections, last = key.split(".")
    if len(sections) > yaml_text.MAX_DEPTH:
        raise ConfigError(
            f"--set takes a.b=value, and no recipe has a key of {len(sections)} dots."
        )
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {setting}: {section} holds {inner!r}, so it has no keys.")
        values = inner
    _, values[last] = yaml_text.parse(text, f"--set {key}")
