"""Train, distill and compress in Python, and the results of it.

Each call writes a recipe and runs stages into the folder of a run, as the command line does; what
is there already and unchanged is not made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill import set_library_defaults
from edgedistill.api.bundles import BundleFile
from edgedistill.api.datasets import Dataset, to_dataset
from edgedistill.api.display import Progress, callbacks, html_table
from edgedistill.api.networks import Teacher, student_section, teacher
from edgedistill.errors import UsageError, brief
from edgedistill.evaluation.contract import Contract
from edgedistill.io.files import read_json
from edgedistill.io.progress import ignore_progress

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.explain.attribution import ExplanationReport
    from edgedistill.pipeline.keys import Stage
    from edgedistill.recipe.recipe import Recipe
    from edgedistill.report.facts import Report

Settings = Mapping[str, Any]  # keys of a recipe with dots, such as "student.training.batch_size"


class Student:
    """A distilled network, and its figures on validation series."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def network(self) -> nn.Module:
        """The network with its weights, in evaluation mode."""
        from edgedistill.training import networks

        module, _ = networks.open_network(self.folder)
        return module

    @property
    def figures(self) -> dict[str, float | None]:
        """Accuracy, KL from the teacher in nats, and Pearson correlation of the maps."""
        search = read_json(self.folder / "trials.json")
        trial = search["trials"][search["chosen"]]
        return {name: trial[name] for name in ("accuracy", "kl", "saliency_pearson")}

    def __repr__(self) -> str:
        return f"Student {str(self.folder)!r}: {', '.join(' '.join(row) for row in self._rows())}"

    def _repr_html_(self) -> str:
        return html_table(f"Student {self.folder}", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        return [(k, "none" if v is None else f"{v:.3f}") for k, v in self.figures.items()]


class Run:
    """A finished run: verdict, report, bundle, explanations.

    Args:
        path: folder of the run.

    Raises:
        UsageError: no run was finished there.

    >>> Run("absent")
    Traceback (most recent call last):
    edgedistill.errors.UsageError: absent is no finished run. Check the path, or finish it.
    """

    def __init__(self, path: str | Path) -> None:
        from edgedistill.pipeline.run_folder import RunFolder

        self.path = Path(path)
        self._folder = RunFolder(self.path)
        if not self._folder.report.is_file():
            raise UsageError(f"{path} is no finished run. Check the path, or finish it.")

    @property
    def verdict(self) -> str:
        """Whether the contract is "kept" or "broken"."""
        return self.report.verdict

    @property
    def report(self) -> Report:
        """All measurements."""
        from edgedistill.report.encoding import from_json

        return from_json(read_json(self._folder.report))

    @property
    def page(self) -> Path:
        """Path of the report as a page."""
        return self._folder.page

    @property
    def recipe(self) -> Path:
        """Path of the recipe, with which `edgedistill compress` repeats the run."""
        return self._folder.recipe

    @property
    def notes(self) -> tuple[str, ...]:
        """How your own teacher was understood, where there was a choice."""
        return tuple(read_json(self._folder.teacher / "teacher.json").get("notes", ()))

    @property
    def bundle(self) -> BundleFile:
        """The bundle.

        Raises:
            ContractError: the contract is broken, so there is none; the message has the reasons.
        """
        return BundleFile(self.path)

    def explain(self, index: int = 0) -> ExplanationReport:
        """Explain a test series by teacher and student.

        Args:
            index: index of the series, from 0.

        Raises:
            UsageError: there is no such series.
        """
        from edgedistill.explain.attribution import explain
        from edgedistill.explain.inputs import open_input
        from edgedistill.recipe.recipe import load

        input_ = open_input(self.path, index, recipe=load(self.recipe))
        return explain(input_, "occlusion", ignore_progress)

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name}: {value}" for name, value in self._rows())
        return f"Run {str(self.path)!r}\n{rows}"

    def _repr_html_(self) -> str:
        return html_table(f"Run {self.path}", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        from edgedistill.report import format as fmt
        from edgedistill.report.verdict import verdict

        report = self.report
        rows = [("verdict", verdict(report)), ("result", fmt.headline(report))]
        for clause in report.contract:
            measured = fmt.clause_number(clause)(clause.measured.value)
            limit = f"{fmt.threshold(clause)}, {fmt.outcome(clause)}"
            rows.append((fmt.clause_label(clause), f"{measured} ({limit})"))
        return [*rows, *(("note", note) for note in self.notes), ("report", str(self.page))]


def train(
    data: Dataset | str | Path,
    *,
    family: str = "fcn",
    width: int | None = None,
    depth: int | None = None,
    epochs: int | None = None,
    settings: Settings | None = None,
    out: str | Path | None = None,
    progress: Progress = False,
) -> Teacher:
    """Train a teacher, and store its logits and saliency maps for every series.

    Args:
        data: data set, or what `load` takes.
        family: family of networks.
        width: width of the network; None: its published one.
        depth: depth, likewise.
        epochs: epochs of the training.
        settings: further settings of the recipe, such as `{"teacher.training.batch_size": 16}`.
        out: folder of the run; None: runs/NAME of the data.
        progress: whether to draw bars on stderr, or a callback of stage, done and total.

    Raises:
        ConfigError: a setting is not allowed.
        DataError: data that cannot be used.

    >>> from edgedistill import load
    >>> from tempfile import mkdtemp
    >>> data = load("ItalyPowerDemand", limit_per_class=15)
    >>> trained = train(
    ...     data, width=4, epochs=1, settings={"references.ceiling": False}, out=mkdtemp()
    ... )
    >>> trained.settings["width"], trained.folder.name
    (4, 'teacher')
    """
    data = to_dataset(data)
    network = {"family": family, "width": width, "depth": depth}
    section: dict[str, Any] = dict(network)
    if epochs is not None:
        section["training"] = {"epochs": epochs}
    folder = _folder(data, out)
    recipe = _recipe(data, folder, {"teacher": section}, settings)
    _run(recipe, folder, progress, until="teacher")
    trained = recipe.teacher.model_dump(mode="json")
    return Teacher(settings=trained, folder=folder / "teacher")


def distill(
    model: Any,
    data: Dataset | str | Path,
    *,
    student: Any = "fcn:16",
    objectives: Sequence[str | Settings] | None = None,
    epochs: int | None = None,
    settings: Settings | None = None,
    out: str | Path | None = None,
    progress: Progress = False,
) -> Student:
    """Distill a student from a teacher.

    Args:
        model: teacher, or what `teacher` takes.
        data, epochs, settings, out, progress: as for `train`, of the student.
        student: a family and its width, `package.module:factory`, what makes a torch module, or a
            torch module, which training starts from.
        objectives: names of objectives, or mappings with their settings, such as
            `{"name": "kd", "temperature": 2}`; None: those of the default recipe.

    Raises:
        ConfigError: a setting is not allowed.
        UsageError: no such teacher or student.
        ModelError: teacher or student does not fit the data.

    >>> from functools import partial
    >>> from edgedistill import load
    >>> from tempfile import mkdtemp
    >>> from edgedistill.models import FCN
    >>> data, folder = load("ItalyPowerDemand", limit_per_class=15), mkdtemp()
    >>> own = train(data, width=4, epochs=1, settings={"references.ceiling": False}, out=folder)
    >>> small = partial(FCN, width=2, depth=1)
    >>> student = distill(own, data, student=small, objectives=["kd"], epochs=1, out=folder)
    >>> sum(each.numel() for each in student.network.parameters())
    28
    """
    data, folder = to_dataset(data), _folder(data, out)
    sections = {"student": _training(objectives, epochs)}
    recipe = _recipe(data, folder, sections, settings, model, student)
    _run(recipe, folder, progress, until="student")
    return Student(folder / "student")


def compress(
    data: Dataset | str | Path,
    model: Any = None,
    *,
    student: Any = "fcn:16",
    objectives: Sequence[str | Settings] | None = None,
    epochs: int | None = None,
    contract: Contract | Settings | None = None,
    settings: Settings | None = None,
    out: str | Path | None = None,
    progress: Progress = False,
) -> Run:
    """Distill, export and optimize a student, and judge it under a contract.

    Args:
        data, epochs, settings, out, progress: as for `train`, of the student.
        model: teacher, or what `teacher` takes; None: one is trained.
        student, objectives: as for `distill`.
        contract: thresholds; None: those of the default recipe.

    Raises:
        EdgeDistillError: as for `distill`; a broken contract raises nothing: see `Run.verdict`.

    >>> from edgedistill import load
    >>> from tempfile import mkdtemp
    >>> data = load("ItalyPowerDemand", limit_per_class=15)
    >>> quick = {"teacher.training.epochs": 1, "teacher.width": 4, "references.ceiling": False}
    >>> quick |= {"optimize.runs": 10, "optimize.precisions": ["fp32"]}
    >>> loose = Contract(max_accuracy_drop=1, min_agreement=0, max_kl=99,
    ...                  min_saliency_pearson=-1, min_saliency_spearman=-1)
    >>> run = compress(data, student="fcn:2", objectives=["kd"], epochs=1, contract=loose,
    ...                settings=quick, out=mkdtemp())
    >>> run.verdict, run.bundle.class_names
    ('kept', ('1', '2'))
    """
    data, folder = to_dataset(data), _folder(data, out)
    sections: dict[str, Any] = {"student": _training(objectives, epochs)}
    if contract is not None:
        sections["contract"] = asdict(contract) if isinstance(contract, Contract) else contract
    recipe = _recipe(data, folder, sections, settings, model, student)
    _run(recipe, folder, progress, until="result")
    return Run(folder)


def _folder(data: Dataset | str | Path, out: str | Path | None) -> Path:
    return Path("runs") / to_dataset(data).name if out is None else Path(out)


def _training(objectives: Sequence[str | Settings] | None, epochs: int | None) -> dict[str, Any]:
    section: dict[str, Any] = {}
    if objectives is not None:
        section["objectives"] = [
            {"name": each} if isinstance(each, str) else dict(each) for each in objectives
        ]
    if epochs is not None:
        section["training"] = {"epochs": epochs}
    return section


def _recipe(
    data: Dataset,
    folder: Path,
    sections: Mapping[str, Any],
    settings: Settings | None,
    model: Any = None,
    student: Any = None,
) -> Recipe:
    """Return the recipe of a call; what is in memory is written into the folder of the run."""
    from edgedistill.pipeline.stages.data import prepare_data
    from edgedistill.recipe.recipe import default_settings, parse

    overrides = [f"{key}={_json(key, value)}" for key, value in (settings or {}).items()]
    values: dict[str, Any] = {**sections, "data": data.write(folder / "data"), "name": data.name}
    if model is not None or student is not None:
        only_data = [each for each in overrides if each.startswith(("data.", "seed="))]
        of_data = parse("", only_data, file_overrides={"data": values["data"]}, origin="the call")
        prepared = prepare_data(of_data)
        values["student"] = student_section(student, folder, prepared) | values["student"]
        if model is not None:
            section = teacher(model).write(folder, data, prepared)
            usual = default_settings(None, teacher=section.get("source"))
            values = {**usual, **values, "teacher": section}
    return parse("", overrides, file_overrides=values, origin="the call")


def _json(key: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"settings has {brief(value)} for {key}; a recipe holds plain values. {error}."
        ) from error


def _run(recipe: Recipe, folder: Path, progress: Progress, *, until: Stage) -> None:
    set_library_defaults()
    from edgedistill.pipeline.run import run_stages

    with callbacks(progress) as (on_progress, on_data):
        run_stages(recipe, folder, on_progress, on_data, until=until)
