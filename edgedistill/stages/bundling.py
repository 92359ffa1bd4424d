"""From an outcome that kept its contract to the bundle that travels."""

from __future__ import annotations

from pathlib import Path

from edgedistill import bundle, metrics
from edgedistill.bundle import Provenance
from edgedistill.device.validate import validate
from edgedistill.errors import ContractError
from edgedistill.golden import Golden, choose_golden
from edgedistill.occlusion import Explanation
from edgedistill.stages.measuring import Outcome
from edgedistill.stages.provenance import now, versions

BUNDLE = "bundle.zip"


def write_bundle(outcome: Outcome, path: Path) -> None:
    """Write the bundle of an outcome that kept its contract, and validate it as a board would.

    Raises:
        ContractError: the contract was broken, or the golden set alone breaks it.
    """
    if outcome.chosen is None or not outcome.kept:
        raise ContractError("Nothing is bundled, because the contract is broken. See the report.")
    recipe, data = outcome.recipe, outcome.data
    bundle.write(
        path,
        name=recipe.name or data.name,
        created=now(),
        class_names=data.class_names,
        preprocessing=data.preprocessing,
        plan=outcome.plan,
        contract=recipe.contract,
        chosen=outcome.chosen,
        models=outcome.models,
        golden=_golden(outcome),
        provenance=Provenance(
            recipe=recipe.to_dict(),
            versions=versions(),
            seeds={"recipe": recipe.seed},
            data=data.fingerprint,
        ),
    )
    with bundle.open_bundle(path) as written:
        validation = validate(written)
    if validation.verdict != "kept":
        path.unlink()
        reasons = "; ".join(c.sentence() for c in validation.clauses if not c.passed)
        raise ContractError(
            f"The whole test split keeps the contract, but the {recipe.golden} golden series that "
            f"would travel do not: {reasons}. Set golden to a larger number."
        )


def _golden(outcome: Outcome) -> Golden:
    teacher, student = outcome.knowledge.splits["test"], outcome.said
    rows = choose_golden(
        outcome.data.test.y,
        metrics.agrees(teacher.logits, student.logits),
        metrics.pearson(teacher.signed, student.signed),
        outcome.recipe.golden,
    )
    fp32 = outcome.student.measured.said
    return Golden(
        series=outcome.data.test.x[rows],
        labels=outcome.data.test.y[rows],
        teacher=_take(teacher, rows),
        student=_take(fp32, rows),
    )


def _take(said: Explanation, rows: metrics.Ints) -> Explanation:
    return Explanation(said.logits[rows], said.kl[rows], said.signed[rows])
