"""What would help a broken or undecided contract, computed from what broke and by how much."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest

from edgedistill.cli import cli
from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.pipeline.next_steps import next_steps
from edgedistill.pipeline.stages.result import make_report
from edgedistill.recipe import recipe as config
from edgedistill.report.verdict import command

pytestmark = pytest.mark.slow

KL_KEPT = ContractClause("kl", "<=", 0.5, Estimate(0.1, 0.05, 0.2), True, True)
KL_BROKEN = ContractClause("kl", "<=", 0.5, Estimate(0.7123, 0.6, 0.8), False, True)
KL_OPEN = ContractClause("kl", "<=", 0.5, Estimate(0.6, 0.4, 0.8), False, False)
KL_KEPT_OPEN = ContractClause("kl", "<=", 0.5, Estimate(0.45, 0.3, 0.61), True, False)
PEARSON = ContractClause("saliency_pearson", ">=", 0.75, Estimate(0.6, 0.55, 0.65), False, True)
SIZE = ContractClause("size_bytes", "<=", 4000, Estimate(8123, 8123, 8123), False, True)
LATENCY = ContractClause("latency_p95_ms", "<=", 0.02, Estimate(0.05, 0.04, 0.06), False, True)


def curve(*losses: float) -> list[dict[str, float]]:
    """Learning curve with these losses on validation series, an epoch each."""
    return [
        {"epoch": at, "train_loss": loss, "validation_loss": loss, "validation_accuracy": 0.5}
        for at, loss in enumerate(losses, start=1)
    ]


LEARNED = curve(*[1.0] * 40)  # of a training that could not be longer with profit
LOOSENED = "contract.max_kl=0.713"


def falling(share: float) -> list[dict[str, float]]:
    """Learning curve of 40 epochs whose loss falls by a share from the fourth to the last fifth."""
    return curve(*[1.0] * 32, *[1.0 - share] * 8)


def settings(
    outcome, *changes, test=(KL_KEPT,), int8=None, fp32=None, teacher=LEARNED, student=LEARNED
):
    """Return the settings of all steps; clauses of the variants on validation series."""
    return [
        step.settings
        for step in steps(
            outcome,
            *changes,
            test=test,
            int8=int8,
            fp32=fp32,
            teacher=teacher,
            student=student,
        )
    ]


def steps(outcome, *changes, test=(KL_KEPT,), int8=None, fp32=None, teacher, student):
    recipe = config.parse(config.dump(outcome.recipe), changes)
    chosen = outcome.choice if int8 is None else None
    validation = {"ort-fp32": fp32 or int8 or (KL_KEPT,), "ort-int8": int8 or (KL_KEPT,)}
    changed = replace(
        outcome,
        recipe=recipe,
        choice=chosen,
        clauses=test,
        validation=validation,
        teacher=replace(outcome.teacher, history=teacher),
        student=replace(outcome.student, history=student),
    )
    if chosen is None:
        changed = replace(changed, validation=dict(reversed(validation.items())))  # INT8 is judged
    report = replace(make_report(changed), next_steps=())
    return next_steps(changed, report)


def test_certain_and_kept_needs_nothing(outcome):
    assert settings(outcome) == []


def test_student_that_breaks_it_in_float32_too_becomes_wider(outcome):
    assert settings(outcome, "student.width=4", int8=(KL_BROKEN, PEARSON)) == [
        ("student.width=8",),
        ("contract.max_kl=0.713", "contract.min_saliency_pearson=0.6"),
    ]


def test_teacher_at_chance_is_trained_longer_first(outcome):
    """Neither a wider student nor more validation series would help."""
    splits = {
        name: replace(one, logits=np.zeros_like(one.logits))
        for name, one in outcome.teacher_outputs.splits.items()
    }
    chance = replace(outcome, teacher_outputs=replace(outcome.teacher_outputs, splits=splits))

    assert settings(chance, int8=(KL_OPEN,)) == [
        ("teacher.training.epochs=100",),
        ("contract.max_kl=0.8",),
    ]
    assert settings(chance, "teacher.source=own:build", int8=(KL_BROKEN,))[0] == (
        "student.width=16",
    )
    assert settings(chance, test=(SIZE,)) == settings(outcome, test=(SIZE,))


def test_few_epochs_are_told_first(outcome):
    """As many as a recipe has by default, or twice as many."""
    found = settings(outcome, "student.width=4", int8=(KL_BROKEN,), student=LEARNED[:2])

    assert found == [("student.training.epochs=200",), ("student.width=8",), (LOOSENED,)]
    many = "student.training.epochs=150"
    assert settings(outcome, many, int8=(KL_BROKEN,), student=LEARNED[:19])[0] == (
        "student.training.epochs=300",
    )
    assert settings(outcome, int8=(KL_OPEN,), teacher=LEARNED[:1], student=LEARNED[:1])[0] == (
        "teacher.training.epochs=100",
        "student.training.epochs=200",
    )
    assert settings(outcome, test=(SIZE,), student=LEARNED[:2]) == settings(outcome, test=(SIZE,))


@pytest.mark.parametrize(("share", "advised"), [(0.06, True), (0.04, False), (-0.5, False)])
def test_loss_that_still_falls_is_told_first(share, advised, outcome):
    named = {"teacher": LEARNED, "student": falling(share)}

    found = steps(outcome, "student.width=4", int8=(KL_BROKEN,), **named)

    assert (found[0].settings == ("student.training.epochs=200",)) == advised
    if advised:
        assert found[0].reason == (
            "The student was still learning: its validation loss fell by 6.0 % in the last 8 "
            "epochs. Train longer."
        )


def test_teacher_that_was_not_trained_here_is_not_trained_longer(outcome):
    external = "teacher.source=own:build"

    assert settings(outcome, external, "student.width=4", int8=(KL_BROKEN,), teacher=())[0] == (
        "student.width=8",
    )


def test_student_at_the_largest_width_is_trained_longer(outcome):
    changes = ("student.width=2049", "teacher.width=4096")

    assert settings(outcome, *changes, int8=(KL_BROKEN,))[0] == ("student.training.epochs=4",)


def test_student_as_wide_as_its_teacher_is_trained_longer(outcome):
    assert settings(outcome, "student.width=8", int8=(KL_BROKEN,)) == [
        ("student.training.epochs=4",),
        ("contract.max_kl=0.713",),
    ]


def test_clause_that_8_bits_alone_break_is_searched_and_recovered(outcome):
    broken = {"int8": (KL_BROKEN,), "fp32": (KL_KEPT, SIZE)}

    assert settings(outcome, **broken)[0] == ("optimize.search={}", "optimize.recover=true")
    assert settings(outcome, "optimize.search={}", **broken)[0] == ("optimize.recover=true",)
    searched = ("optimize.search={}", "optimize.recover=true")
    assert settings(outcome, *searched, "student.width=4", **broken)[0] == ("student.width=8",)


def test_few_validation_series_become_as_many_as_would_decide(outcome):
    """The interval shrinks with the root of their number: half as wide needs four times as many."""
    count = len(outcome.data.validation.y)

    found = settings(outcome, "data.validation_fraction=0.1", int8=(KL_OPEN,))

    assert found[0] == ("data.validation_fraction=0.4",)
    assert found[-1] == ("contract.max_kl=0.8",)  # the end of the interval
    assert len(found) == 3
    validation = {"ort-int8": (KL_OPEN,), "ort-fp32": (KL_OPEN,)}
    report = make_report(
        replace(
            outcome,
            choice=None,
            validation=validation,
            teacher=replace(outcome.teacher, history=LEARNED),
            student=replace(outcome.student, history=LEARNED),
        )
    )
    assert report.next_steps[0].reason.startswith(
        f"{count} validation series do not decide KL from the teacher, nats; about {4 * count} "
    )


def test_undecided_but_kept_gets_steps_too(outcome):
    """The test series do not grow: more room below the threshold, or a looser one."""
    assert settings(outcome, test=(KL_KEPT_OPEN,)) == [
        ("optimize.search={}", "optimize.recover=true"),
        ("contract.max_kl=0.61",),
    ]


@pytest.mark.parametrize("clause", [SIZE, LATENCY], ids=lambda clause: clause.name)
def test_costs_ask_for_int8_or_a_narrower_student(outcome, clause):
    found = settings(outcome, "optimize.precisions=[fp32]", "student.width=8", test=(clause,))

    assert found[0] == ("optimize.precisions=[fp32, int8]",)
    assert found[1][0].startswith("student.width=")
    assert 1 <= int(found[1][0].partition("=")[2]) < 8
    assert settings(outcome, test=(SIZE,))[-1] == ("contract.max_size_bytes=8130",)


@pytest.mark.parametrize(
    "history", [LEARNED, LEARNED[:3], falling(0.3)], ids=["long", "few", "fell"]
)
@pytest.mark.parametrize(
    "clauses", [(KL_BROKEN, PEARSON), (KL_OPEN,), (SIZE, LATENCY), (SIZE, KL_BROKEN)], ids=str
)
@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("student.width=4",),
        ("student.width=4096", "teacher.width=4096"),
        ("optimize.precisions=[fp32]", "student.width=8"),
        ("optimize.search={}", "data.validation_fraction=0.1"),
        ("teacher.source=own:build",),
    ],
    ids=str,
)
def test_every_command_is_one_that_the_command_line_takes(
    history, clauses, changes, outcome, tmp_path
):
    """Parsed by click, and its settings by the recipe, as where it is copied into a shell."""
    for broken in (
        {"test": clauses},
        {"int8": clauses},
        {"int8": clauses, "fp32": (KL_KEPT, SIZE)},
    ):
        found = steps(outcome, *changes, **broken, teacher=history, student=history)
        recipe = config.parse(config.dump(outcome.recipe), changes)
        (tmp_path / "recipe.yaml").write_text(config.dump(recipe))
        assert len(found) >= 2
        for step in found:
            program, name, *words = shlex.split(command(step, tmp_path))
            assert program == "edgedistill"
            context = cli.commands[name].make_context(name, words)
            assert context.params["recipe"] == tmp_path / "recipe.yaml"
            config.load(context.params["recipe"], context.params["settings"])
