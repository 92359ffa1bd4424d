"""What would help where a contract is broken or a verdict undecided: settings to run again with.

They follow from the clauses that decided: how far each is from its threshold, on how many series,
and whether the student breaks it in float32 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgedistill.evaluation.contract import ContractClause
from edgedistill.models.spec import FAMILIES, LARGEST
from edgedistill.pipeline.stages.evaluate import Outcome
from edgedistill.report import NextStep, Report
from edgedistill.report import format as fmt
from edgedistill.teachers.class_order import fit_order

_MOST = 3  # the first ones; loosening the contract is always the last
_COSTS = {"size_bytes", "latency_p95_ms"}  # clauses that no teacher is needed for
_MOST_VALIDATION = 0.5  # of the training series
_ROOM = 0.9  # of a threshold, to aim at
_FEW_EPOCHS = 20
_FALLING = 0.05  # share of the loss between the last fifth of the epochs and the one before


def next_steps(outcome: Outcome, report: Report) -> tuple[NextStep, ...]:
    """Return up to three steps for a report that is broken or undecided; none otherwise.

    Args:
        outcome: the measurements.
        report: their report, without steps.
    """
    undecided = report.undecided()
    broken = [clause for clause in report.deciding_clauses() if not clause.passed]
    clauses = broken or list(undecided)
    if not clauses:
        return ()
    quality = [clause for clause in clauses if clause.name not in _COSTS]
    at_chance = _teacher_at_chance(outcome) if quality else ""
    steps = list(_longer_training(outcome, at_chance)) if quality else []
    is_trained_long = not steps
    if not at_chance:
        steps += _more_validation(outcome, undecided) if outcome.choice is None else ()
        steps += _quality(outcome, quality, is_trained_long=is_trained_long)
    steps += _costs(outcome, [clause for clause in clauses if clause.name in _COSTS])
    return (*steps[: _MOST - 1], _loosen(clauses))


def _teacher_at_chance(outcome: Outcome) -> str:
    """Return a sentence on a teacher of ours that is no better than chance; else nothing."""
    if outcome.recipe.teacher.source is not None:
        return ""
    splits, data = outcome.teacher_outputs.splits, outcome.data
    fit = fit_order(
        np.concatenate([splits[name].logits for name in ("train", "validation")]),
        np.concatenate([data.train.y, data.validation.y]),
    )
    if not fit.is_at_chance:
        return ""
    return (
        f"The teacher itself is right in {fmt.percent(fit.accuracy)} of the training and "
        f"validation series, no more than chance ({fmt.percent(fit.chance)})."
    )


def _longer_training(outcome: Outcome, at_chance: str) -> Iterator[NextStep]:
    """Yield a longer training of what was trained for few epochs, or was still learning.

    Args:
        outcome: the measurements.
        at_chance: sentence on a teacher of ours that is no better than chance, if it is none.
    """
    recipe = outcome.recipe
    reasons, settings = [at_chance] if at_chance else [], []
    for name, section, history in (
        ("teacher", recipe.teacher, outcome.teacher.history),
        ("student", recipe.student, outcome.student.history),
    ):
        reason = _training_stopped_early(history)
        if reason:
            reasons.append(f"The {name} {reason}.")
        if reason or (at_chance and name == "teacher"):
            epochs = max(2 * section.training.epochs, type(section)().training.epochs)
            settings.append(f"{name}.training.epochs={epochs}")
    if settings:
        yield NextStep(reason=" ".join([*reasons, "Train longer."]), settings=tuple(settings))


def _training_stopped_early(history: Sequence[Mapping[str, Any]]) -> str:
    """Return what shows that more epochs would probably help; nothing if that is not shown.

    Args:
        history: learning curves, an entry an epoch; empty of a network that was not trained here.
    """
    count = len(history)
    if not history:
        return ""
    if count < _FEW_EPOCHS:
        return f"was trained for {count} epoch{'s' if count > 1 else ''} only"
    fifth = count // 5
    losses = [epoch["validation_loss"] for epoch in history]
    before, last = (float(np.mean(part)) for part in (losses[-2 * fifth : -fifth], losses[-fifth:]))
    if before > 0 and last <= (1 - _FALLING) * before:
        share = fmt.percent(1 - last / before)
        return f"was still learning: its validation loss fell by {share} in the last {fifth} epochs"
    return ""


def _more_validation(outcome: Outcome, undecided: Sequence[ContractClause]) -> Iterator[NextStep]:
    """Yield the larger validation split with which undecided clauses would probably be decided."""
    if not undecided:
        return
    have, fraction = len(outcome.data.validation.y), outcome.recipe.data.validation_fraction
    needed = max(_needed(clause, have) for clause in undecided)
    wanted = min(_MOST_VALIDATION, fraction * needed / have)
    if wanted <= fraction:
        return
    labels = ", ".join(fmt.clause_label(clause) for clause in undecided)
    yield NextStep(
        reason=f"{have} validation series do not decide {labels}; about {needed:,} would. Take "
        "more of the training series for it.",
        settings=(f"data.validation_fraction={math.ceil(100 * wanted - 1e-6) / 100:g}",),
    )


def _needed(clause: ContractClause, series: int) -> int:
    """Return the series with which the interval would end at the threshold: 1 / sqrt(N)."""
    value, threshold = clause.measured.value, clause.threshold
    end = clause.measured.high if threshold > value else clause.measured.low
    margin = max(abs(threshold - value), abs(end - value) / 10)
    return math.ceil(series * ((end - value) / margin) ** 2)


def _quality(
    outcome: Outcome, clauses: Sequence[ContractClause], *, is_trained_long: bool
) -> Iterator[NextStep]:
    """Yield better 8 bits if these alone break the clauses, else a larger student."""
    if not clauses:
        return
    optimize = outcome.recipe.optimize
    judged = next(model for model in outcome.models if model.name == outcome.judged_name)
    names = {clause.name for clause in clauses}
    if judged.precision in {"int8", "mixed"} and not names & _broken_in_float32(outcome):
        settings = ["optimize.search={}"] if optimize.search is None else []
        settings += ["optimize.recover=true"] if optimize.recover is None else []
        if settings and "onnxruntime" in optimize.runtimes:
            yield NextStep(
                reason="The student keeps it in float32: leave the sensitive nodes in float32, and "
                "train in 8 bits.",
                settings=tuple(settings),
            )
            return
    yield from _larger(outcome, is_trained_long=is_trained_long)


def _broken_in_float32(outcome: Outcome) -> set[str]:
    """Return the clauses that the float32 variants break on validation series."""
    float32 = [model.name for model in outcome.models if model.precision == "fp32"]
    return {clause.name for name in float32 for clause in outcome.failures[name]}


def _larger(outcome: Outcome, *, is_trained_long: bool) -> Iterator[NextStep]:
    """Yield a wider student; a longer training where it cannot be widened, and none is advised."""
    student, teacher = outcome.recipe.student, outcome.recipe.teacher
    longer = f"student.training.epochs={2 * student.training.epochs}"
    width = 2 * (student.width or FAMILIES[student.family].width) if student.source is None else 0
    of_teacher = teacher.width or FAMILIES[teacher.family].width
    is_as_wide = teacher.source is None and teacher.family == student.family and width > of_teacher
    if student.source is None and not is_as_wide and width <= LARGEST["width"]:
        yield NextStep(
            reason="A wider student comes nearer to its teacher.",
            settings=(f"student.width={width}",),
        )
    elif is_trained_long:
        reason = (
            f"{student.source} is your own: train it longer, or enlarge it."
            if student.source is not None
            else "The student is as wide as is useful: train it longer."
        )
        yield NextStep(reason=reason, settings=(longer,))


def _costs(outcome: Outcome, clauses: Sequence[ContractClause]) -> Iterator[NextStep]:
    """Yield the fastest choice, INT8, or a narrower student, for clauses on size and latency."""
    optimize, student = outcome.recipe.optimize, outcome.recipe.student
    if not clauses:
        return
    if "int8" not in optimize.precisions:
        precisions = ", ".join([*optimize.precisions, "int8"])
        yield NextStep(
            reason="INT8 is smallest, and fastest on most boards.",
            settings=(f"optimize.precisions=[{precisions}]",),
        )
    if student.source is not None:
        return
    share = min(_ROOM * clause.threshold / clause.measured.value for clause in clauses)
    width = student.width or FAMILIES[student.family].width
    # Weights grow with the square of the width.
    narrower = max(1, math.floor(width * math.sqrt(max(share, 0.0))))
    if narrower < width:
        yield NextStep(
            reason="A narrower student is smaller and faster.",
            settings=(f"student.width={narrower}",),
        )


def _loosen(clauses: Sequence[ContractClause]) -> NextStep:
    """Return the thresholds that the model keeps, undecided clauses with their whole interval."""
    labels = ", ".join(fmt.clause_label(clause) for clause in clauses)
    return NextStep(
        reason=f"Or loosen what is good enough: {labels}.",
        settings=tuple(_loosened(clause) for clause in clauses),
    )


def _loosened(clause: ContractClause) -> str:
    """Return the setting of a threshold just beyond the measured value, in three digits."""
    lower = clause.comparison == ">="
    measured = clause.measured
    value = measured.value if clause.decided else measured.low if lower else measured.high
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2) if value else 0.0
    if step:
        value = (math.floor if lower else math.ceil)(round(value / step, 6)) * step
    return f"contract.{'min' if lower else 'max'}_{clause.name}={value:.10g}"
