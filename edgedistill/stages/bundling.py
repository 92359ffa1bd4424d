"""From an outcome that kept its contract to the bundle that travels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgedistill import bundle, contract, metrics
from edgedistill.bundle import Bundle, Model, Provenance
from edgedistill.contract import Verdict
from edgedistill.device.ort import OrtRuntime
from edgedistill.device.tensorrt import TensorRtRuntime
from edgedistill.device.tuning import tune
from edgedistill.device.validate import validate
from edgedistill.distill.optimize.choice import judged_here
from edgedistill.errors import ContractError
from edgedistill.golden import Golden, choose_golden
from edgedistill.metrics import Estimate
from edgedistill.occlusion import Explanation, explain
from edgedistill.stages.measuring import Outcome, start_here
from edgedistill.stages.provenance import now, versions

BUNDLE = "bundle.zip"


def write_bundle(outcome: Outcome, path: Path) -> None:
    """Write the bundle of an outcome that kept its contract, and validate it as a board would.

    Raises:
        ContractError: the contract was broken, or the bundle does not keep it when validated.
    """
    if outcome.chosen is None or not outcome.kept:
        raise ContractError("Nothing is bundled, because the contract is broken. See the report.")
    if outcome.recipe.optimize.tune:
        outcome = replace(outcome, models=_tuned(outcome))
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
        if written.model().runtime == TensorRtRuntime.name:
            return _emulated_verdict(written) == "kept"
        return validate(written).verdict == "kept"


def _emulated_verdict(written: Bundle) -> Verdict:
    """Return what a board would find of a model that only boards can run, its latency aside."""
    model, golden = written.model(), written.golden()
    runtime = start_here(model)
    said = explain(runtime.logits, golden.series, written.plan, targets=golden.targets)
    size = float(model.size_bytes)
    values = {
        **contract.compare(golden.teacher, said, golden.labels),
        "size_bytes": Estimate(size, size, size),
    }
    return contract.verdict(contract.judge(judged_here(written.contract, values), values))


def _tuned(outcome: Outcome) -> tuple[Model, ...]:
    """Return the models with the session settings that are fastest on this machine."""
    series = outcome.data.test.x[: outcome.recipe.golden]
    return tuple(
        replace(model, session=tune(model, series).settings)
        if model.runtime == OrtRuntime.name
        else model
        for model in outcome.models
    )


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
