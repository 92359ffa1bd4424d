"""A student that is pruned from its teacher, through the whole stage."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.student import initial_student, make_student
from edgedistill.pipeline.stages.teacher import make_teacher
from edgedistill.recipe import recipe as config
from edgedistill.training import networks

TERMS = "[{name: cross_entropy}, {name: tsd, windows: 4, width: 6, bank: 8}, {name: tsd_maps}]"


@pytest.mark.parametrize("family", ["fcn", "lstm"])
def test_a_pruned_student_is_a_plain_network_of_its_width(recipe, data, tmp_path, family):
    """Distilled beside both objectives that ask about windows."""
    settings = (
        *(f"{who}.family={family}" for who in ("teacher", "student")),
        *(f"{who}.depth=2" for who in ("teacher", "student")),
        "teacher.training.epochs=2",
        "student.width=4",
        "student.prune_from_teacher={until: 0.5}",
        f"student.objectives={TERMS}",
        "references.ceiling=false",
    )
    changed = config.parse(config.dump(recipe), settings)
    for name in ("teacher", "out", "work"):
        (tmp_path / name).mkdir()
    make_teacher(changed, data, tmp_path / "teacher", tmp_path / "work")

    make_student(changed, data, tmp_path / "teacher", tmp_path / "out", tmp_path / "work")

    model, facts = networks.open_network(tmp_path / "out")
    assert facts["spec"] == {"family": family, "width": 4, "depth": 2, "explained": False}
    assert len(facts["history"]) == 2
    found = read_json(tmp_path / "out" / TRIALS)
    with torch.no_grad():
        said = model(torch.from_numpy(data.validation.x)).numpy()
    hits = (said.argmax(axis=1) == data.validation.y).mean()
    assert found["trials"][0]["accuracy"] == pytest.approx(float(hits))
    assert np.isfinite(said).all()


def test_training_begins_with_the_teacher(recipe, data, stages):
    """Bit for bit; without the section, with weights of the student's own seed."""
    pruned = config.parse(config.dump(recipe), ["student.prune_from_teacher={}"])
    teacher, _ = networks.open_network(stages / "teacher")

    model, pruner = initial_student(pruned, data, stages / "teacher")
    plain, nothing = initial_student(recipe, data, stages / "teacher")

    for name, value in teacher.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert pruner is not None
    assert pruner.pruner.until == 0.7
    assert nothing is None
    assert plain.head.in_features == 8


def test_a_folder_with_a_brought_teacher(recipe, data, tmp_path):
    """The recipe may have another teacher in mind than the folder that is named."""
    pruned = config.parse(config.dump(recipe), ["student.prune_from_teacher={}"])

    with pytest.raises(ConfigError, match="starts from a teacher that was trained here, and"):
        initial_student(pruned, data, tmp_path)
