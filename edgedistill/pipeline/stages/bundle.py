"""From an outcome that kept its contract to the bundle that travels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer as packing
from edgedistill.bundle.drift_reference import FEWEST_SERIES, MOST_SERIES, Reference, features
from edgedistill.bundle.golden import Golden, choose_golden
from edgedistill.bundle.reader import Bundle, Model, Provenance
from edgedistill.device.tuning import tune
from edgedistill.device.validate import validate
from edgedistill.errors import ContractError
from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import Verdict
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import AnyInts
from edgedistill.pipeline.provenance import now, versions
from edgedistill.pipeline.scoring import without_latency
from edgedistill.pipeline.stages.evaluate import Outcome, start_on_host
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime
from edgedistill.saliency.occlusion import Explanation, explain_classifier


def write_bundle(outcome: Outcome, path: Path) -> None:
    """Write the bundle of an outcome that kept its contract, and validate it as a board would.

    Raises:
        ContractError: the contract was broken, or the bundle does not keep it when validated.
    """
    if outcome.chosen is None or not outcome.is_kept:
        raise ContractError("Nothing is bundled, because the contract is broken. See the report.")
    if outcome.recipe.optimize.tune:
        outcome = replace(outcome, models=_tuned(outcome))
    count, reference = outcome.recipe.golden, _reference(outcome)
    while not _passes_on_board(outcome, path, count, reference):
        if count >= len(outcome.data.test.y):
            path.unlink()
            raise ContractError(
                "The model keeps the contract when it is measured here, but its bundle does not "
                "when it is validated. Run `edgedistill compress` again; if it happens again, "
                "leave more room in the contract."
            )
        count *= 2


def _passes_on_board(outcome: Outcome, path: Path, count: int, reference: Reference | None) -> bool:
    """Write the bundle with `count` golden series, and say whether a board would find it kept.

    A few series cannot always stand for the whole test split: a share of 64 moves in
    steps of 1/64. Then more of them have to travel.
    """
    recipe, data = outcome.recipe, outcome.data
    packing.write(
        path,
        name=recipe.name or data.name,
        created=now(),
        class_names=data.class_names,
        preprocessing=data.preprocessing,
        plan=outcome.plan,
        contract=recipe.contract,
        chosen=outcome.judged_name,
        models=outcome.models,
        golden=_golden(outcome, count),
        provenance=Provenance(
            recipe=recipe.to_dict(),
            versions=versions(),
            seeds={"recipe": recipe.seed},
            data=data.fingerprint,
        ),
        reference=None if reference is None else (reference, recipe.drift),
    )
    with bundle.open_bundle(path) as written:
        if written.model().runtime == TensorRtRuntime.name:
            return _emulated_verdict(written) == "kept"
        return validate(written).verdict == "kept"


def _emulated_verdict(bundle: Bundle) -> Verdict:
    """Return what a board would find of a model that only boards can run, its latency aside."""
    model, golden = bundle.model(), bundle.golden()
    evaluation = evaluate(
        start_on_host(model), golden.series, golden.labels, golden.teacher, bundle.plan
    )
    size = float(model.size_bytes)
    values = {**evaluation.estimates, "size_bytes": Estimate(size, size, size)}
    return contract.verdict(contract.judge(without_latency(bundle.contract, values), values))


def _tuned(outcome: Outcome) -> tuple[Model, ...]:
    """Return the models with the session settings that are fastest on this machine."""
    series = outcome.data.test.x[: outcome.recipe.golden]
    return tuple(
        replace(model, session=tune(model, series).settings)
        if model.runtime == OrtRuntime.name
        else model
        for model in outcome.models
    )


def _reference(outcome: Outcome) -> Reference | None:
    """Return what the model saw, said and gave as reasons for test series; None if they are few.

    Every map explains the model's own class, as it does while it runs; what was measured
    explains the teacher's.
    """
    x = outcome.data.test.x
    if len(x) < FEWEST_SERIES:
        return None
    count = min(len(x), MOST_SERIES)
    rows = np.sort(np.random.default_rng(outcome.recipe.seed).permutation(len(x))[:count])
    model = next(model for model in outcome.models if model.name == outcome.judged_name)
    said = explain_classifier(start_on_host(model), x[rows], outcome.plan)
    return Reference(features=features(x[rows]), logits=said.logits, signed=said.signed)


def _golden(outcome: Outcome, count: int) -> Golden:
    teacher, student = outcome.teacher_outputs.splits["test"], outcome.explanation
    rows = choose_golden(
        outcome.data.test.y,
        metrics.agrees(teacher.logits, student.logits),
        metrics.pearson(teacher.signed, student.signed),
        count,
    )
    fp32 = outcome.student.evaluation.explanation
    return Golden(
        series=outcome.data.test.x[rows],
        labels=outcome.data.test.y[rows],
        teacher=_select_rows(teacher, rows),
        student=_select_rows(fp32, rows),
    )


def _select_rows(explanation: Explanation, rows: AnyInts) -> Explanation:
    return Explanation(explanation.logits[rows], explanation.kl[rows], explanation.signed[rows])
