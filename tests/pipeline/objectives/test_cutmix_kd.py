"""`cutmix_kd` by recipe, and the bank that it shares with `tsd`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import CutMixKD, build_objective
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe import recipe as config

WINDOWS = "windows: 4, width: 6, bank: 4"


def _recipe(recipe, *terms: str):
    return config.parse(config.dump(recipe), [f"student.objectives=[{', '.join(terms)}]"])


def _lesson(changed, data, stages, home, *, maps: bool = True) -> ObjectiveContext:
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    student = networks.build_untrained(changed.student, data, seed=0)
    knowledge = replace(knowledge, maps=maps)
    return objective_context(changed, data, stages / "teacher", knowledge, student, home)


def test_it_keeps_the_settings_of_its_term(recipe, data, stages, tmp_path):
    changed = _recipe(recipe, f"{{name: cutmix_kd, {WINDOWS}, temperature: 3}}")

    found = build_objective(changed.student.objectives[0], _lesson(changed, data, stages, tmp_path))

    assert isinstance(found, CutMixKD)
    assert (found._windows, found._width, found._temperature) == (4, 6, 3)
    assert found._seed == changed.seed


def test_one_bank_serves_it_and_tsd(recipe, data, stages, tmp_path):
    changed = _recipe(recipe, f"{{name: cutmix_kd, {WINDOWS}}}", f"{{name: tsd, {WINDOWS}}}")
    lesson = _lesson(changed, data, stages, tmp_path)

    for term in changed.student.objectives:
        build_objective(term, lesson)

    assert [folder.name for folder in tmp_path.iterdir()] == ["bank-6-16"]


@pytest.mark.parametrize("bank", [0, 4])
def test_it_distills_beside_tsd_maps(recipe, data, stages, tmp_path, bank):
    """With a bank, and asking the teacher at every step."""
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    changed = _recipe(
        recipe,
        f"{{name: cutmix_kd, windows: 4, width: 6, bank: {bank}, start: 0.3}}",
        "{name: tsd_maps}",
    )

    make_student(changed, data, stages / "teacher", out, work)

    (trial,) = read_json(out / "trials.json")["trials"]
    assert trial["weights"] == {"cutmix_kd": 1.0, "tsd_maps": 1.0}
    _, facts = networks.open_network(out)
    assert np.isfinite([epoch["train_loss"] for epoch in facts["history"]]).all()


def test_logits_alone_are_not_enough(recipe, data, stages, tmp_path):
    """A file of them cannot answer new copies."""
    changed = _recipe(recipe, f"{{name: cutmix_kd, {WINDOWS}}}")
    lesson = _lesson(changed, data, stages, tmp_path, maps=False)

    with pytest.raises(ConfigError, match="cutmix_kd asks the teacher about pertur"):
        build_objective(changed.student.objectives[0], lesson)
