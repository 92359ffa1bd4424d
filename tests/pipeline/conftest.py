"""One tiny run on real series, whose stage folders the tests look into."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedistill.data import Prepared
from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import ONNX, TRIALS
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.evaluate import Outcome, evaluate_all
from edgedistill.pipeline.stages.export import export_student
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import make_teacher
from edgedistill.pipeline.stages.variants import make_variants
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe

TINY = """
data: {train: ItalyPowerDemand, limit_per_class: 15}
teacher:
  width: 9
  training: {epochs: 20, learning_rate: 0.02, batch_size: 8, accelerator: cpu}
student:
  width: 8
  objectives:
    - {name: cross_entropy, weight: 0.1}
    - {name: kd}
    - {name: tsd_maps, weight: [1.0, 3.0], start: 0.5}
  training: {epochs: 2, batch_size: 8, accelerator: cpu}
optimize: {precisions: [fp32, int8], runs: 10, prefer: size} # the clock decides nothing
golden: 8
contract:
  max_accuracy_drop: 1
  min_agreement: 0
  max_kl: 50
  min_saliency_pearson: -1
  min_saliency_spearman: -1
"""


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return config.parse(TINY)


@pytest.fixture(scope="session")
def data(recipe) -> Prepared:
    return prepare_data(recipe)


@pytest.fixture(scope="session")
def stages(recipe, data, tmp_path_factory) -> Path:
    """A folder with the filled folders teacher, student, model and variants."""
    root = tmp_path_factory.mktemp("stages")
    for name in ("teacher", "student", "model", "variants", "work"):
        (root / name).mkdir()
    make_teacher(recipe, data, root / "teacher", root / "work")
    make_student(recipe, data, root / "teacher", root / "student", root / "work")
    export_student(data, root / "student", root / "model")
    make_variants(
        recipe, data, None, root / "model" / ONNX, root / "variants", root / "work" / "variants"
    )
    return root


@pytest.fixture(scope="session")
def outcome(recipe, data, stages) -> Outcome:
    """What was measured; its contract is kept."""
    return evaluate_all(recipe, data, stages / "teacher", stages / "student", stages / "variants")


@pytest.fixture(scope="session")
def train_student() -> Callable[..., tuple[Any, list[tuple[str, int, int]]]]:
    """A function that distills with other settings, to trials and reported progress."""

    def distill(recipe: Recipe, data: Prepared, stages: Path, folder: Path, *settings: str):
        for name in ("out", "work"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).mkdir()
        progress = []
        make_student(
            config.parse(config.dump(recipe), settings),
            data,
            stages / "teacher",
            folder / "out",
            folder / "work",
            lambda *report: progress.append(report),
        )
        return read_json(folder / "out" / TRIALS), progress

    return distill
