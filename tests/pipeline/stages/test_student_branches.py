"""A teacher that is trained with branches of its student, which are gone afterwards."""

from __future__ import annotations

import math

import pytest
import torch

from edgedistill.distillation.context import training_data
from edgedistill.distillation.objectives import Batch, StudentOutputs
from edgedistill.distillation.objectives.baselines.student_friendly import StudentFriendly
from edgedistill.errors import ConfigError
from edgedistill.pipeline import networks
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.student_branches import branch_terms
from edgedistill.pipeline.stages.teacher import make_teacher
from edgedistill.recipe import recipe as config

FAMILIES = {"fcn": 3, "resnet": 2, "inception": 6, "lite": 2}


def friendly(recipe, *settings: str):
    return config.parse(config.dump(recipe), ["teacher.student_friendly={}", *settings])


def both(key: str, value: object) -> list[str]:
    return [f"{who}.{key}={value}" for who in ("teacher", "student")]


def test_the_loss_is_cross_entropy_and_divergence_of_each_branch(rng):
    """One number after the other; the teacher stands on the right of KL(branch || teacher)."""
    logits, labels = torch.from_numpy(rng.normal(size=(2, 3))), torch.tensor([2, 0])
    said = [torch.from_numpy(rng.normal(size=(2, 3))) for _ in range(2)]
    branches = {name: torch.nn.Identity() for name in "ab"}
    objective = StudentFriendly(branches, cross_entropy=0.5, kl=3.0, temperature=2.0)
    answer = StudentOutputs(logits, features=dict(zip("ab", said, strict=True)))

    found = objective(Batch(torch.arange(2), torch.zeros(2, 1, 4), labels), answer)

    expected = 0.0
    for branch in said:
        for row in range(2):
            p, q = (torch.softmax(v[row] / 2.0, 0).tolist() for v in (branch, logits))
            kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
            entropy = -math.log(torch.softmax(branch[row], 0)[labels[row]])
            expected += (0.5 * entropy + 3.0 * 4.0 * kl) / 4
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("teacher", FAMILIES)
@pytest.mark.parametrize("student", FAMILIES)
def test_branches_of_all_families(recipe, data, teacher, student):
    """Each branch sees its stage, and teaches the teacher's layers below it."""
    settings = [f"teacher.family={teacher}", f"teacher.depth={FAMILIES[teacher]}"]
    settings += [f"student.family={student}", f"student.depth={FAMILIES[student]}"]
    changed = friendly(recipe, "teacher.width=3", "student.width=2", *settings)
    model = networks.build_untrained(changed.teacher, data, seed=0)
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


def test_the_saved_teacher_is_a_plain_network(recipe, data, stages, tmp_path):
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
def test_networks_without_stages(recipe, data, settings, message):
    changed = friendly(recipe, *settings)

    with pytest.raises(ConfigError, match=message):
        branch_terms(changed, data, networks.build_untrained(changed.teacher, data, seed=0))


def test_a_brought_teacher_has_no_branches(recipe):
    with pytest.raises(ConfigError, match=r"student_friendly trains the teacher, and a\.onnx is"):
        friendly(recipe, "teacher.source=a.onnx")
