"""The run folder: paths of the recipe, the stages and their results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedistill.bundle import location
from edgedistill.errors import ShapeError
from edgedistill.io.files import read_json
from edgedistill.saliency.perturbation import PerturbationPlan

TEACHER_OUTPUTS, TEACHER_FACTS = "knowledge.npz", "teacher.json"  # of the teacher stage
TRIALS = "trials.json"  # of the student stage
ONNX, EXPORT_FACTS = "student.onnx", "export.json"  # of the model stage
BUNDLE, REPORT_JSON = location.BUNDLE, location.REPORT_JSON  # of the result
REPORT_HTML, REPORT_MD = "report.html", "report.md"  # of the result
WORK = ".work"  # beside stage folders: what a killed run resumes from, and caches


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths in the folder that `compress` fills, or single stages one after the other.

    Attributes:
        path: path of the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """Path of the recipe of the run."""
        return self.path / location.RECIPE

    @property
    def teacher(self) -> Path:
        """Folder of the teacher stage."""
        return self.path / "teacher"

    @property
    def student(self) -> Path:
        """Folder of the student stage."""
        return self.path / "student"

    @property
    def model(self) -> Path:
        """Folder of the exported student."""
        return self.path / "model"

    @property
    def onnx(self) -> Path:
        """Path of the exported student."""
        return self.model / ONNX

    @property
    def variants(self) -> Path:
        """Folder of the typed variants."""
        return self.path / "variants"

    @property
    def result(self) -> Path:
        """Folder of the report and the bundle."""
        return self.path / location.RESULT

    @property
    def report(self) -> Path:
        """Path of the report as JSON."""
        return self.result / REPORT_JSON

    @property
    def page(self) -> Path:
        """Path of the report as a page."""
        return self.result / REPORT_HTML

    @property
    def bundle(self) -> Path:
        """Path of the bundle, which is there if the contract is kept."""
        return self.result / BUNDLE

    @property
    def work(self) -> Path:
        """Folder of checkpoints and caches."""
        return self.path / WORK

    def is_run(self) -> bool:
        """Whether the folder has the recipe of a run."""
        return self.recipe.is_file()


def recorded_plan(*folders: Path) -> PerturbationPlan | None:
    """Return the plan that is recorded in the first of the folders of runs or teachers."""
    for folder in (folder for place in folders for folder in (RunFolder(place).teacher, place)):
        if (folder / TEACHER_FACTS).is_file():
            return PerturbationPlan.from_dict(read_json(folder / TEACHER_FACTS)["plan"])
    return None


def check_plan_length(plan: PerturbationPlan, length: int) -> PerturbationPlan:
    """Return a plan unless it is of series of another length, in steps.

    Raises:
        ShapeError: it is.
    """
    if plan.length != length:
        raise ShapeError(
            f"The plan is of series of {plan.length} steps; these have {length}. Name the data of "
            f"the run, or set their length: --set data.length={plan.length}."
        )
    return plan
