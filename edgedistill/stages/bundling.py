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
        ContractError: the contract was broken, or the bundle does not keep it when validated.
    """
    if outcome.chosen is None or not outcome.kept:
        raise ContractError("Nothing is bundled, because the contract is broken. See the report.")
    count = outcome.recipe.golden
    while not _keeps(outcome, path, count):
        if count >= len(outcome.data.test.y):
            path.unlink()
            raise ContractError(
                "The model keeps the contract when it is measured here, but its bundle does not "
                "when it is validated. Run `edgedistill compress` again; if it happens again, "
                "leave more room in the contract."
            )
        count *= 2


def _keeps(outcome: Outcome, path: Path, count: int) -> bool:
    """Write the bundle with `count` golden series, and say whether a board would find it kept.

    A few series cannot always stand for the whole test split: a share of 64 moves in
    steps of 1/64. Then more of them have to travel.
    """
    recipe, data = outcome.recipe, outcome.data
    bundle.write(
        path,
        name=recipe.name or data.name,
        created=now(),
        class_names=data.class_names,
        preprocessing=data.preprocessing,
        plan=outcome.plan,
        contract=recipe.contract,
        chosen=outcome.judged,
        models=outcome.models,
        golden=_golden(outcome, count),
        provenance=Provenance(
            recipe=recipe.to_dict(),
            versions=versions(),
            seeds={"recipe": recipe.seed},
            data=data.fingerprint,
        ),
    )
    with bundle.open_bundle(path) as written:
        return validate(written).verdict == "kept"


def _golden(outcome: Outcome, count: int) -> Golden:
    teacher, student = outcome.knowledge.splits["test"], outcome.said
    rows = choose_golden(
        outcome.data.test.y,
        metrics.agrees(teacher.logits, student.logits),
        metrics.pearson(teacher.signed, student.signed),
        count,
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
