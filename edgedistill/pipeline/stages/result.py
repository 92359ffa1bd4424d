"""The last stage: the report of an outcome, and the bundle if the contract is kept."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from edgedistill.bundle import writer
from edgedistill.bundle.drift_reference import Reference, make_reference
from edgedistill.bundle.golden import golden_set
from edgedistill.bundle.reader import Bundle, Model, Provenance
from edgedistill.bundle.writer import BundleContents
from edgedistill.data import Prepared
from edgedistill.device.runtime import int8_arithmetic, is_exact
from edgedistill.device.telemetry import environment
from edgedistill.device.tuning import tune
from edgedistill.device.validate import validate
from edgedistill.errors import ContractError
from edgedistill.evaluation import contract
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.files import write_json, write_text
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.pipeline.next_steps import next_steps
from edgedistill.pipeline.run_folder import BUNDLE, REPORT_HTML, REPORT_JSON, REPORT_MD
from edgedistill.pipeline.scoring import LATENCY, without_latency
from edgedistill.pipeline.stage_folder import now, versions
from edgedistill.pipeline.stages.data import report_data
from edgedistill.pipeline.stages.evaluate import (
    Measurement,
    Outcome,
    evaluate_all,
    start_on_host,
)
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import (
    Calibration,
    Candidate,
    Curves,
    Example,
    Latency,
    Report,
    VariantClauses,
    html,
    markdown,
    to_json,
)
from edgedistill.report.measured import (
    calibration_bins,
    make_confusion,
    make_curve,
    make_examples,
    make_metrics,
)
from edgedistill.report.verdict import variant_reason
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime

# Of a brought teacher that was not timed
_RUNTIMES = {".onnx": "onnxruntime", ".joblib": "python", ".npz": "table"}


def make_result(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    student: Path,
    variants: Path,
    out: Path,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the report, and the bundle if the contract is kept, into an existing folder.

    Args:
        recipe: contract and plan.
        data: held-out series.
        teacher: folder of the teacher stage.
        student: folder of the student stage.
        variants: folder of the variant stage.
        out: folder.
        on_progress: progress.
    """
    outcome = evaluate_all(recipe, data, teacher, student, variants, on_progress)
    write_report(outcome, out)
    if outcome.is_kept:
        write_bundle(outcome, out / BUNDLE)


def write_report(outcome: Outcome, out: Path) -> Report:
    """Write report.json, report.html and report.md into an existing folder."""
    report = make_report(outcome)
    values = to_json(report)
    write_json(out / REPORT_JSON, values)
    write_text(out / REPORT_HTML, html.render(values))
    write_text(out / REPORT_MD, markdown.render(values))
    return report


def make_report(outcome: Outcome) -> Report:
    """Return the facts of an outcome."""
    data, student = outcome.data, outcome.explanation
    teacher = outcome.teacher_outputs.splits["test"]
    report = Report(
        created=now(),
        name=outcome.recipe.name or data.name,
        verdict="kept" if outcome.is_kept else "broken",
        contract=outcome.clauses,
        environment={**environment(), **versions()},
        chosen=outcome.chosen,
        choice=_choice(outcome),
        validation=outcome.validation[outcome.judged_name],
        reasons=(*_reasons(outcome), *_missing(outcome)),
        variants=_variants(outcome),
        data=report_data(data),
        teacher=_candidate(
            "teacher",
            _teacher_runtime(outcome),
            "fp32",
            outcome.teacher,
            agrees=False,
        ),
        student=_candidate("student", "torch", "fp32", outcome.student),
        candidates=_candidates(outcome),
        speed=outcome.speed,
        references=dict(outcome.references) or None,
        curves=Curves(
            teacher=make_curve(outcome.teacher.history),
            student=make_curve(outcome.student.history),
        ),
        confusion=make_confusion(data.class_names, data.test.y, teacher.logits, student.logits),
        calibration=Calibration(
            teacher=calibration_bins(outcome.teacher.evaluation.explanation.logits, data.test.y),
            student=calibration_bins(student.logits, data.test.y),
        ),
        examples=_examples(outcome),
    )
    return replace(report, next_steps=next_steps(outcome, report))


def _candidates(outcome: Outcome) -> tuple[Candidate, ...]:
    return tuple(
        replace(
            _candidate(m.name, m.runtime, m.precision, outcome.variants[m.name]),
            int8=int8_arithmetic(m, timed_exact=False),
        )
        for m in outcome.models
    )


def _choice(outcome: Outcome) -> str:
    """Return why the judged variant is the one."""
    if outcome.choice is not None:
        return outcome.choice.reason
    return (
        "No variant keeps the contract on the validation series. The clauses are those of "
        f"{outcome.judged_name}, which breaks the fewest."
    )


def _teacher_runtime(outcome: Outcome) -> str:
    if outcome.speed is not None:
        return outcome.speed.native_runtime
    return _RUNTIMES.get(Path(outcome.recipe.teacher.source or "").suffix, "torch")


def _examples(outcome: Outcome) -> tuple[Example, ...]:
    """Return examples of series with both maps; none without maps of the teacher."""
    if not outcome.teacher_outputs.maps:
        return ()
    test, teacher = outcome.data.test, outcome.teacher_outputs.splits["test"]
    names = outcome.data.class_names
    return make_examples(test.x, test.y, names, teacher, outcome.explanation, outcome.plan)


def write_bundle(outcome: Outcome, path: Path) -> None:
    """Write the bundle of an outcome that kept its contract, and validate it as a board would.

    Raises:
        ContractError: the contract was broken, or the bundle does not keep it when validated.
    """
    if outcome.chosen is None or not outcome.is_kept:
        raise ContractError("Nothing is bundled, because the contract is broken. See the report.")
    recipe, test = outcome.recipe, outcome.data.test
    reference = _reference(outcome)
    contents = partial(
        BundleContents,
        name=recipe.name or outcome.data.name,
        created=now(),
        class_names=outcome.data.class_names,
        preprocessing=outcome.data.preprocessing,
        plan=outcome.plan,
        contract=recipe.contract,
        chosen=outcome.judged_name,
        models=_tuned(outcome) if recipe.optimize.tune else outcome.models,
        provenance=_provenance(outcome),
        reference=None if reference is None else (reference, recipe.drift),
        input_schema=outcome.data.schema,
    )
    golden = partial(
        golden_set,
        test.x,
        test.y,
        outcome.teacher_outputs.splits["test"],
        outcome.student.evaluation.explanation,
        outcome.explanation,
    )
    writer.write_until_kept(
        path,
        lambda count: writer.write(path, contents(golden=golden(count))),
        partial(_is_kept, _judged(outcome)),
        golden=recipe.golden,
        most=len(test.y),
    )


def _is_kept(judged: Model, bundle: Bundle) -> bool:
    """Whether a board would find the contract kept; its latency aside, which is the board's own.

    A model that does not compute here as on a board is judged by what stands in for it.

    Args:
        judged: the chosen model in the folder of the variants.
        bundle: written bundle.
    """
    model, golden = bundle.model(), bundle.golden()
    if model.runtime != TensorRtRuntime.name and is_exact(model):
        clauses = validate(bundle).clauses
        return contract.verdict(tuple(c for c in clauses if c.name != LATENCY)) == "kept"
    evaluation = evaluate(
        start_on_host(judged), golden.series, golden.labels, golden.teacher, bundle.plan
    )
    size = float(model.size_bytes)
    values = {**evaluation.estimates, "size_bytes": Estimate(size, size, size)}
    terms = without_latency(bundle.contract, values)
    return contract.verdict(contract.judge(terms, values)) == "kept"


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
    return make_reference(
        start_on_host(_judged(outcome)), outcome.data.test.x, outcome.plan, seed=outcome.recipe.seed
    )


def _judged(outcome: Outcome) -> Model:
    """The judged variant, in the folder of the variants."""
    return next(model for model in outcome.models if model.name == outcome.judged_name)


def _provenance(outcome: Outcome) -> Provenance:
    recipe = outcome.recipe
    return Provenance(
        recipe=recipe.to_dict(),
        versions=versions(),
        seeds={"recipe": recipe.seed},
        data=outcome.data.fingerprint,
    )


def _reasons(outcome: Outcome) -> tuple[str, ...]:
    """Return a sentence for each clause that failed, with by how much."""
    if outcome.is_kept:
        return ()
    if outcome.chosen is not None:
        failed = [f"On the test split, {c.message()}." for c in outcome.clauses if not c.passed]
        return (f"{outcome.chosen} kept the contract on the validation split only.", *failed)
    return tuple(
        variant_reason(name, clause)
        for name, clauses in outcome.failures.items()
        for clause in clauses
    )


def _variants(outcome: Outcome) -> tuple[VariantClauses, ...]:
    """Return the clauses of every variant, the nearest first; none where one was chosen."""
    if outcome.chosen is not None:
        return ()
    failures = outcome.failures
    names = sorted(outcome.validation, key=lambda name: len(failures[name]))
    return tuple(VariantClauses(candidate=n, clauses=outcome.validation[n]) for n in names)


def _missing(outcome: Outcome) -> tuple[str, ...]:
    """Return a sentence for each variant that could not be made."""
    return tuple(f"{name} was not made: {reason}" for name, reason in outcome.missing.items())


def _candidate(
    name: str, runtime: str, precision: str, measurement: Measurement, *, agrees: bool = True
) -> Candidate:
    latency = measurement.latency
    return Candidate(
        name=name,
        runtime=runtime,
        precision=precision,
        parameters=measurement.parameters,
        size_bytes=measurement.size_bytes,
        metrics=make_metrics(measurement.evaluation.estimates, measurement.unseen, agrees=agrees),
        latency_ms=None
        if latency is None
        else Latency(p50=latency.p50_ms.value, p95=latency.p95_ms.value, p99=latency.p99_ms.value),
    )
