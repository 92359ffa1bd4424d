"""The folder of a run: where its recipe, its stages and what they made are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TEACHER_OUTPUTS, TEACHER_FACTS = "knowledge.npz", "teacher.json"  # of the teacher stage
TRIALS = "trials.json"  # of the student stage
ONNX, EXPORT_FACTS = "student.onnx", "export.json"  # of the model stage
REPORT_JSON, REPORT_HTML, REPORT_MD = "report.json", "report.html", "report.md"  # of the result
BUNDLE = "bundle.zip"  # of the result
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
        return self.path / "recipe.yaml"

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
        return self.path / "result"

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
