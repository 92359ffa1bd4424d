"""Open a series, the models that are explained on it, and a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edgedistill.bundle.reader import MANIFEST, Bundle, open_bundle
from edgedistill.data import Prepared, Split
from edgedistill.device.runtime import is_exact
from edgedistill.errors import UsageError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import read_json
from edgedistill.pipeline.external_teacher import check_columns
from edgedistill.pipeline.run_folder import (
    TEACHER_FACTS,
    TRIALS,
    RunFolder,
    check_plan_length,
    recorded_plan,
)
from edgedistill.pipeline.stages.data import prepare_data, read_source
from edgedistill.pipeline.stages.evaluate import start_on_host
from edgedistill.pipeline.stages.teacher import open_teacher, perturbation_plan
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import TeacherSection
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import Baseline, PerturbationPlan
from edgedistill.teachers.loader import load
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training.config import FACTS
from edgedistill.training.networks import open_classifier

Role = Literal["teacher", "student", "model"]
_LOGITS_ONLY = "is a file of logits, which cannot be asked about perturbed series."
_NO_DATA = "Name the data whose test series are explained, such as --data GunPoint."
_SATURATES = (
    "The .ort file computes INT8 with sums that saturate on this processor, unlike on a board. "
    "Bundle its ONNX file too, which is exact: optimize.formats: [onnx, ort]."
)
_ONLY_GOLDEN = (
    "The bundle holds its teacher's maps of golden series under its own plan only, so the student "
    "stands alone. Name the teacher with --teacher."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedModel:
    """A classifier in its role."""

    role: Role
    name: str
    classifier: Classifier

    @property
    def network(self) -> TorchClassifier | None:
        """The classifier if it is a torch module, which has gradients."""
        return self.classifier if isinstance(self.classifier, TorchClassifier) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExplanation:
    """The recorded explanation of a teacher that is not at hand."""

    role: Role
    name: str
    explanation: Explanation  # of the one series, under the plan of the input


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOverrides:
    """Changes to a plan; None leaves a value."""

    width: int | None = None
    stride: int | None = None  # None beside a width: half of it
    baseline: Baseline | None = None

    def apply(self, plan: PerturbationPlan) -> PerturbationPlan:
        """Return the plan with these changes."""
        usual = plan.stride if self.width is None else max(1, self.width // 2)
        return replace(
            plan,
            width=plan.width if self.width is None else self.width,
            stride=usual if self.stride is None else self.stride,
            baseline=self.baseline or plan.baseline,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationInput:
    """One series, the models that are explained on it, and the plan."""

    series: Floats  # (1, C, T), preprocessed
    index: int
    origin: str  # such as "test series 3 of GunPoint"
    label: str
    class_names: tuple[str, ...]
    plan: PerturbationPlan
    models: tuple[ExplainedModel | RecordedExplanation, ...]  # the teacher first, if it is there
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """One series and its origin."""

    series: Floats  # (1, C, T)
    origin: str
    label: str


def open_input(
    path: Path,
    index: int,
    *,
    recipe: Recipe | None = None,
    teacher: str | None = None,
    trust: bool = False,
    windows: PlanOverrides | None = None,
) -> ExplanationInput:
    """Open a model, its teacher if there is one, and a series for them.

    Args:
        path: an ONNX file, the folder of a run or of its teacher or student, or a bundle.
        index: index of the series, from 0: among the test series of the recipe's data, or among
            the golden series of a bundle without a recipe.
        recipe: recipe that names the data; needed for all but a bundle.
        teacher: a brought teacher, or the folder of a teacher stage; it takes the place of
            the one that a run or a bundle has.
        trust: whether a joblib teacher may run the code it contains.
        windows: changes to the plan of the run or bundle, or to the default plan.

    Raises:
        UsageError: nothing that can be explained, no such series, or data is not named.
        DataError: data or a model that cannot be used, or that do not fit each other.
        IntegrityError: a bundle that cannot be trusted.
    """
    windows = windows or PlanOverrides()
    if not path.exists():
        raise UsageError(f"There is no {path}. Check the path.")
    if path.suffix.lower() == ".zip" or (path / MANIFEST).is_file():
        with open_bundle(path) as bundle:
            return _bundle_input(bundle, index, recipe, teacher, trust, windows)
    if recipe is None:
        raise UsageError(_NO_DATA)
    return _test_input(path, index, recipe, teacher, trust, windows)


def named_teacher(
    spec: str,
    names: tuple[str, ...],
    split: Split,
    section: TeacherSection,
    trust: bool,
) -> ExplainedModel:
    """Open a named teacher: as `train` takes it, or a folder that `train` wrote.

    Args:
        spec: as `edgedistill.teachers.load` takes it, or a folder.
        names: class names.
        split: series and labels that the teacher is tried on.
        section: names the weights, if the spec is a factory, and the order of its columns.
        trust: whether a joblib file may run the code it contains.

    Raises:
        UsageError: it takes no perturbed series, or is not trusted.
        DataError: it cannot be used, or not for these series; or its columns stand in another
            order of the classes.
    """
    if Path(spec).is_dir():
        return explained_model("teacher", open_classifier(Path(spec), names, split.x, name=spec))
    weights = section.weights if ":" in spec else None  # a factory's
    found = load(
        spec,
        class_names=names,
        train=split.x,
        weights=None if weights is None else Path(weights),
        trust=trust,
        columns=section.class_names,
    )
    if not found.can_explain:
        raise UsageError(f"{spec} {_LOGITS_ONLY} Name the model that gave them.")
    if section.class_names is None:
        check_columns(found, (split,), names, allows_chance=True)
    return explained_model("teacher", found)


def explained_model(role: Role, classifier: Classifier) -> ExplainedModel:
    """Return a classifier in a role, under its own name."""
    return ExplainedModel(role=role, name=classifier.name, classifier=classifier)


def _test_input(
    path: Path,
    index: int,
    recipe: Recipe,
    teacher: str | None,
    trust: bool,
    windows: PlanOverrides,
) -> ExplanationInput:
    data = prepare_data(recipe)
    recorded = recorded_plan(path, *([] if teacher is None else [Path(teacher)]))
    plan = windows.apply(recorded or perturbation_plan(recipe, data.length))
    explained, own, notes = _open_models(path, recipe, data, has_own_teacher=teacher is not None)
    if teacher is not None:
        own = named_teacher(teacher, data.class_names, data.train, recipe.teacher, trust)
        if explained.role == "model":
            explained = replace(explained, role="student")
    chosen = _test_series(data, index)
    return ExplanationInput(
        series=chosen.series,
        index=index,
        origin=chosen.origin,
        label=chosen.label,
        class_names=data.class_names,
        plan=check_plan_length(plan, data.length),
        models=(explained,) if own is None else (own, explained),
        notes=notes,
    )


def _open_models(
    path: Path, recipe: Recipe, data: Prepared, *, has_own_teacher: bool
) -> tuple[ExplainedModel, ExplainedModel | None, tuple[str, ...]]:
    """Return the model of a file or folder, the teacher of a run, and notes for the reader."""
    own = data.class_names, data.train.x
    if path.suffix.lower() == ".onnx":
        return explained_model("model", OnnxClassifier(path, classes=data.classes)), None, ()
    run = RunFolder(path)
    if run.is_run():
        student = explained_model("student", open_classifier(run.student, *own))
        if has_own_teacher:
            return student, None, ()
        teacher = open_teacher(recipe, data, run.teacher)
        if not teacher.can_explain:
            return student, None, (f"The teacher {_LOGITS_ONLY} The student stands alone.",)
        return student, explained_model("teacher", teacher), ()
    if (path / TEACHER_FACTS).is_file():
        name = read_json(path / TEACHER_FACTS)["name"]
        if not (path / FACTS).is_file():
            raise UsageError(
                f"{path} holds the answers of {name}, which was brought. Explain that model itself."
            )
        return (
            explained_model(
                "student" if has_own_teacher else "teacher", open_classifier(path, *own)
            ),
            None,
            (),
        )
    if (path / FACTS).is_file():
        who: Role = "student" if (path / TRIALS).is_file() else "model"
        return explained_model(who, open_classifier(path, *own)), None, ()
    raise UsageError(
        f"{path} is nothing that can be explained. Name an .onnx file, the folder of a run, a "
        "folder that `train` or `distill` wrote, or a bundle (a folder or a .zip)."
    )


def _bundle_input(
    bundle: Bundle,
    index: int,
    recipe: Recipe | None,
    teacher: str | None,
    trust: bool,
    windows: PlanOverrides,
) -> ExplanationInput:
    plan, names, model = windows.apply(bundle.plan), bundle.class_names, bundle.model()
    chosen = _golden(bundle, index) if recipe is None else _raw_series(recipe, bundle, index)
    student = ExplainedModel(role="student", name=model.name, classifier=start_on_host(model))
    models: tuple[ExplainedModel | RecordedExplanation, ...] = (student,)
    notes: tuple[str, ...] = ()
    if teacher is not None:
        golden = Split(x=bundle.golden().series, y=bundle.golden().labels)
        section = TeacherSection() if recipe is None else recipe.teacher
        models = (named_teacher(teacher, names, golden, section, trust), student)
    elif recipe is None and plan == bundle.plan:
        models = (_recorded_teacher(bundle, index), student)
    else:
        notes = (_ONLY_GOLDEN,)
    if not is_exact(model):
        notes = (*notes, _SATURATES)
    return ExplanationInput(
        series=chosen.series,
        index=index,
        origin=chosen.origin,
        label=chosen.label,
        class_names=names,
        plan=plan,
        models=models,
        notes=notes,
    )


def _golden(bundle: Bundle, index: int) -> _Series:
    golden = bundle.golden()
    _check_index(index, len(golden.labels), f"golden series in {bundle.name}")
    return _Series(
        series=golden.series[index : index + 1],
        origin=f"golden series {index} of {bundle.name}",
        label=bundle.class_names[golden.labels[index]],
    )


def _recorded_teacher(bundle: Bundle, index: int) -> RecordedExplanation:
    said, own = bundle.golden().teacher, slice(index, index + 1)
    found = Explanation(said.logits[own], said.kl[own], said.signed[own])
    return RecordedExplanation(role="teacher", name="recorded in the bundle", explanation=found)


def _raw_series(recipe: Recipe, bundle: Bundle, index: int) -> _Series:
    """Return a series as the bundle's own preprocessing makes it."""
    source = read_source(recipe)
    raw, split = (source.train, "") if source.test is None else (source.test, "test ")
    _check_index(index, len(raw.labels), f"{split}series in {source.name}")
    return _Series(
        series=bundle.preprocessing.apply(raw.series[index : index + 1]),
        origin=f"{split}series {index} of {source.name}",
        label=raw.labels[index],
    )


def _test_series(data: Prepared, index: int) -> _Series:
    _check_index(index, len(data.test.y), f"test series in {data.name}")
    return _Series(
        series=data.test.x[index : index + 1],
        origin=f"test series {index} of {data.name}",
        label=data.class_names[data.test.y[index]],
    )


def _check_index(index: int, count: int, what: str) -> None:
    if not 0 <= index < count:
        raise UsageError(
            f"There is no series {index}: {count} {what}, counted from 0. Choose 0 to {count - 1}."
        )
