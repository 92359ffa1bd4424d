"""The teacher stage: trained or brought, asked once."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from edgedistill.distillation.context import training_data
from edgedistill.errors import ConfigError, DataError
from edgedistill.pipeline.run_folder import TEACHER_FACTS
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    branch_terms,
    make_teacher,
    open_teacher,
    open_teacher_outputs,
    perturbation_plan,
)
from edgedistill.recipe import recipe as config
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import default_plan
from edgedistill.teachers.outputs import SPLITS
from edgedistill.training import networks

pytestmark = pytest.mark.slow


def plan(*settings: str):
    return perturbation_plan(config.parse("", settings), 96)


def test_the_plan_of_a_recipe():
    """What the recipe leaves open is the default; a width alone brings its own stride."""
    assert plan() == default_plan(96)
    assert plan("saliency.width=8") == default_plan(96, width=8)
    chosen = plan("saliency.width=8", "saliency.stride=8", "saliency.baseline=zero")
    assert (chosen.width, chosen.stride, chosen.baseline) == (8, 8, "zero")
    assert plan("saliency.temperature=2").temperature == 2


def test_a_window_longer_than_the_series():
    with pytest.raises(DataError, match="A window of 97 steps does not fit a series of 96"):
        plan("saliency.width=97")


def test_training_knows_no_test_series(data):
    table = training_data(data)

    series = table.series.numpy()
    np.testing.assert_array_equal(series[table.train], data.train.x)
    np.testing.assert_array_equal(series[table.validation], data.validation.x)
    np.testing.assert_array_equal(table.labels[table.validation], data.validation.y)
    assert len(series) == len(data.train.x) + len(data.validation.x)


def test_the_teacher_of_a_folder_is_the_one_that_was_asked(recipe, data, stages):
    """So that its kept answers are its answers."""
    knowledge, facts = open_teacher_outputs(stages / "teacher")
    teacher = open_teacher(recipe, data, stages / "teacher")

    assert facts["source"] is None
    for name in SPLITS:
        said = explain(teacher.logits, getattr(data, name).x, perturbation_plan(recipe, 24))
        np.testing.assert_allclose(knowledge.splits[name].logits, said.logits, atol=1e-5)
        np.testing.assert_allclose(knowledge.splits[name].signed, said.signed, atol=1e-5)


def test_the_ceiling_is_another_teacher(data, stages):
    """One correlation a test series; it is no copy of the first."""
    _, facts = open_teacher_outputs(stages / "teacher")

    assert len(facts["ceiling"]) == len(data.test.y)
    assert -1 <= min(facts["ceiling"]) <= max(facts["ceiling"]) <= 1
    assert np.mean(facts["ceiling"]) < 0.999


def test_a_brought_teacher_is_asked_but_not_kept(recipe, data, stages, tmp_path):
    source = stages / "model" / "student.onnx"
    settings = [f"teacher.source={source}", "teacher.class_names=[1, 2]"]
    brought = config.parse(config.dump(recipe), settings)

    make_teacher(brought, data, tmp_path, tmp_path / "work")

    assert {path.name for path in tmp_path.iterdir()} == {"knowledge.npz", TEACHER_FACTS}
    facts = json.loads((tmp_path / TEACHER_FACTS).read_text())
    assert facts["source"] == str(source)
    assert "ceiling" not in facts
    teacher = open_teacher(brought, data, tmp_path)
    knowledge, _ = open_teacher_outputs(tmp_path)
    np.testing.assert_allclose(
        knowledge.splits["test"].logits, teacher.logits(data.test.x), atol=1e-6
    )


def test_a_folder_without_a_teacher(recipe, data, tmp_path):
    with pytest.raises(DataError, match=r"teacher\.json"):
        open_teacher(recipe, data, tmp_path)
    with pytest.raises(DataError, match=r"knowledge\.npz does not hold a teacher's answers"):
        open_teacher_outputs(tmp_path)


def test_a_trained_teacher_repeats_itself(recipe, data, stages, tmp_path):
    """The same recipe gives the same bits, so a stage made anew fits those made from the old."""
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    alone = config.parse(config.dump(recipe), ["references.ceiling=false"])

    make_teacher(alone, data, tmp_path / "out", tmp_path / "work")

    assert "ceiling" not in open_teacher_outputs(tmp_path / "out")[1]
    weights = "weights.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (stages / "teacher" / weights).read_bytes()


FAMILIES = {"fcn": 3, "resnet": 2, "inception": 6, "lite": 2}


def friendly(recipe, *settings: str):
    return config.parse(config.dump(recipe), ["teacher.student_friendly={}", *settings])


def both(key: str, value: object) -> list[str]:
    return [f"{who}.{key}={value}" for who in ("teacher", "student")]


@pytest.mark.parametrize("teacher", FAMILIES)
@pytest.mark.parametrize("student", FAMILIES)
def test_branches_of_all_families(recipe, data, teacher, student):
    """Each branch sees its stage, and teaches the teacher's layers below it."""
    settings = [f"teacher.family={teacher}", f"teacher.depth={FAMILIES[teacher]}"]
    settings += [f"student.family={student}", f"student.depth={FAMILIES[student]}"]
    changed = friendly(recipe, "teacher.width=3", "student.width=2", *settings)
    model = networks.build_untrained(changed.teacher.spec, data, seed=0)
    known = training_data(data)

    (term,) = branch_terms(changed, data, model)
    layer = term.objective.layers[0]
    series = known.series[:4]
    below: dict[str, torch.Tensor] = {}
    handle = model.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: below.update({layer: output})
    )
    model(series)
    handle.remove()
    logits = term.objective.branches[0](below[layer])
    logits.sum().backward()

    assert logits.shape == (4, 2)
    assert any(p.grad is not None for p in model.parameters())


def test_student_friendly_teacher_is_saved_as_a_plain_network(recipe, data, stages, tmp_path):
    """Of the same tensors as without branches, with other values; a student learns from it."""
    changed = friendly(recipe, "student.training.epochs=1")
    for name in ("teacher", "out", "work"):
        (tmp_path / name).mkdir()

    make_teacher(changed, data, tmp_path / "teacher", tmp_path / "work")
    make_student(changed, data, tmp_path / "teacher", tmp_path / "out", tmp_path / "work")

    found, facts = networks.open_network(tmp_path / "teacher")
    plain, expected = networks.open_network(stages / "teacher")
    assert facts["spec"] == expected["spec"]
    assert list(found.state_dict()) == list(plain.state_dict())
    assert not torch.equal(found.head.weight, plain.head.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (both("family", "lstm"), "LSTM has none to branch from"),
        (both("depth", 1), "the teacher has 1, the student 1. Give both a larger depth"),
        (["student.depth=1"], "the teacher has 3, the student 1"),
    ],
    ids=str,
)
def test_networks_without_stages_have_no_branches(recipe, data, settings, message):
    changed = friendly(recipe, *settings)

    with pytest.raises(ConfigError, match=message):
        branch_terms(changed, data, networks.build_untrained(changed.teacher.spec, data, seed=0))


def test_external_teacher_has_no_branches(recipe):
    with pytest.raises(ConfigError, match=r"student_friendly trains the teacher, and a\.onnx is"):
        friendly(recipe, "teacher.source=a.onnx")
