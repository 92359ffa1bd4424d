"""Every objective of the union, by recipe, and a new one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import edgedistill
from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.recipe import recipe as config
from edgedistill.recipe.objectives import ObjectiveSection

pytestmark = pytest.mark.slow

CONFIGS = {
    get_args(each.model_fields["name"].annotation)[0]: each
    for each in get_args(get_args(ObjectiveSection)[0])
}
TSD = "name: tsd, windows: 4, width: 6, bank: 4"
OTHERS = "name: cross_entropy", TSD
NEEDED = {  # settings without a default, and those that make a tiny run tiny
    "ensemble": "sources: [STUDENT]",
    "cutmix_kd": "windows: 4, width: 6, bank: 4",
}


@pytest.fixture(scope="module")
def plain(distill, weights_of) -> np.ndarray:
    """The weights of a student of the other objectives alone."""
    return weights_of(distill(*OTHERS))


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"cross_entropy", "tsd"}))
def test_objective_changes_the_student_by_its_name_alone(stages, distill, weights_of, plain, name):
    """Two epochs beside cross-entropy and TSD, with the default weight."""
    settings = NEEDED.get(name, "").replace("STUDENT", str(stages / "student"))

    folder = distill(*OTHERS, ", ".join(filter(None, (f"name: {name}", settings))))

    (trial,) = read_json(folder / TRIALS)["trials"]
    default = CONFIGS[name].model_fields["weight"].default
    assert trial["weights"] == {"cross_entropy": 1, "tsd": 1, name: default}
    weights = weights_of(folder)
    assert len(weights) != len(plain) or np.abs(weights - plain).max() > 1e-4


NEW_MODULE = '''
from typing import Literal

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives.objective import ObjectiveConfig
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs


class LogitMatchingConfig(ObjectiveConfig):
    """Mean squared difference of logits."""

    name: Literal["logit_matching"]
    scale: float = 1.0

    def build(self, context: ObjectiveContext) -> Objective:
        return LogitMatching(context.logits, self.scale)


class LogitMatching(Objective):
    def __init__(self, teacher, scale) -> None:
        super().__init__()
        self.register_buffer("teacher", teacher, persistent=False)
        self._scale = scale

    def forward(self, batch: Batch, outputs: StudentOutputs):
        return self._scale * (outputs.logits - self.teacher[batch.rows]).square().mean()
'''
NEW_IMPORT = "from edgedistill.distillation.objectives.logit_matching import LogitMatchingConfig\n"


def test_new_objective_is_one_file_and_one_line_of_the_union(recipe, stages, tmp_path):
    """In a copy of the package: the command trains with it, and the recipe checks its keys."""
    copy = tmp_path / "edgedistill"
    shutil.copytree(
        Path(edgedistill.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "distillation" / "objectives" / "logit_matching.py").write_text(NEW_MODULE)
    union = copy / "recipe" / "objectives.py"
    lines = union.read_text().splitlines(keepends=True)
    lines.insert(lines.index("    | KDConfig\n"), "    | LogitMatchingConfig\n")
    lines.insert(lines.index("from typing import Annotated\n"), NEW_IMPORT)
    union.write_text("".join(lines))
    (tmp_path / "recipe.yaml").write_text(config.dump(recipe))

    def distill(settings: str) -> subprocess.CompletedProcess[str]:
        objectives = f"student.objectives=[{{name: logit_matching, {settings}}}]"
        options = ("--teacher", str(stages / "teacher"), "--out", "out", "--set", objectives)
        return subprocess.run(
            [sys.executable, "-m", "edgedistill", "distill", "recipe.yaml", *options],
            cwd=tmp_path,  # the first place that `-m` looks for the package
            capture_output=True,
            text=True,
            check=False,
        )

    assert distill("scale: 2.0").returncode == 0
    (trial,) = read_json(tmp_path / "out" / TRIALS)["trials"]
    assert trial["weights"] == {"logit_matching": 1.0}
    assert "there is no key student.objectives.0.scal. Did you mean scale?" in distill(
        "scal: 1"
    ).stderr.replace("\n", " ")
