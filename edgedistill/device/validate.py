"""Validation of a bundle's model on this machine, against its teacher and its student.

The model is a black box: logits and saliency are computed through it, on the golden set, and
compared with the teacher's under the contract. It must also reproduce the student's recorded
outputs: a runtime that computes wrongly is broken even where the contract has room for it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from edgedistill.bundle.golden import Golden
from edgedistill.bundle.reader import Bundle, Model
from edgedistill.device.benchmark import RUNS, AutoRuns, Latency, measure
from edgedistill.device.costs import measure_costs
from edgedistill.device.runtime import Runtime, int8_arithmetic, start
from edgedistill.device.telemetry import environment
from edgedistill.device.telemetry_sampler import TelemetrySampler
from edgedistill.errors import ModelError
from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import ContractClause, Verdict
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.evaluation.metrics import Estimate
from edgedistill.report import (
    Candidate,
    Costs,
    Int8Arithmetic,
    Metrics,
    Report,
    Saliency,
    Telemetry,
)
from edgedistill.report import Latency as ReportedLatency
from edgedistill.runtimes.call_limit import CALL_LIMIT_S
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt.engine_cache import Engines
from edgedistill.saliency.occlusion import Explanation

# Largest error of a logit over the largest logit. FP32 backends differ in the order of their
# sums: 1e-6 to 1e-5 for our networks. FP16 has 11 bits: about 1e-3. What INT8 loses depends on
# the model, so the contract alone judges it.
FIDELITY_TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
_LOGITS_A_SCORE = 4  # a signed score is a sum of four logits (two centered), so are its errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Fidelity of a model to the recorded outputs of the FP32 student."""

    agreement: float  # share of series with the student's class
    saliency_pearson: float  # mean over series, signed maps
    logit_error: float  # largest, over the student's largest |logit|
    saliency_error: float  # largest of a signed score, over the student's largest |logit|


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Result of a validation on this machine."""

    bundle: str
    model: Model
    size_bytes: int
    measured: dict[str, Estimate]  # every measure that a clause can name, and accuracy
    fidelity: Fidelity
    latency: Latency
    clauses: tuple[ContractClause, ...]
    environment: dict[str, str]
    created: str  # ISO 8601, UTC
    costs: Costs | None = None  # None: not measured
    telemetry: Telemetry | None = None  # None: this machine has no sensors
    int8: Int8Arithmetic | None = None  # None: no 8-bit products, or not on a CPU

    @property
    def verdict(self) -> Verdict:
        """Return "kept" if every clause passes."""
        return contract.verdict(self.clauses)

    def report(self) -> Report:
        """Return the facts as a report; those of the workstation alone are left out."""
        return Report(
            created=self.created,
            name=self.bundle,
            verdict=self.verdict,
            contract=self.clauses,
            environment=self.environment,
            chosen=self.model.name,
            reasons=tuple(c.message() for c in self.clauses if not c.passed),
            candidates=(self._candidate(),),
            telemetry=self.telemetry,
        )

    def _candidate(self) -> Candidate:
        found, latency = self.measured, self.latency
        return Candidate(
            name=self.model.name,
            runtime=self.model.runtime,
            precision=self.model.precision,
            parameters=self.model.parameters,
            size_bytes=self.size_bytes,
            metrics=Metrics(
                accuracy=found["accuracy"],
                agreement=found["agreement"],
                kl=found["kl"],
                saliency=Saliency(
                    spearman=found.get("saliency_spearman"),
                    pearson=found.get("saliency_pearson"),
                    topk=found.get("saliency_topk"),
                ),
            ),
            latency_ms=ReportedLatency(
                p50=latency.p50_ms.value, p95=latency.p95_ms.value, p99=latency.p99_ms.value
            ),
            costs=self.costs,
            int8=self.int8,
        )


def validate(
    bundle: Bundle,
    *,
    model: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    engines: Engines | None = None,
    runs: int | AutoRuns = RUNS,
    costs: bool = False,
    call_limit_s: float = CALL_LIMIT_S,
) -> Validation:
    """Run a bundle's model on this machine and judge it under the contract.

    Args:
        bundle: open bundle.
        model: name of the model; by default the chosen one.
        threads: CPU threads, instead of those of the model's session settings.
        provider: provider of ONNX Runtime, as for `start`.
        engines: build options and cache of TensorRT's engines; None for the defaults.
        runs: number of timed calls, or the rule that stops them.
        costs: whether to measure throughput, memory and cold start too.
        call_limit_s: seconds that one call of the model may take in ONNX Runtime.

    Raises:
        UsageError: no such model, threads or runs are below 1, or the limit is not above 0.
        MachineError: the runtime or the provider is missing, or runs only a part of the model; or
            a fresh process fails.
        ModelError: the model cannot be run, takes too long, or gives no finite logits.
        IntegrityError: the golden set is unusable.
    """
    entry = bundle.model(model)
    golden = bundle.golden()
    runtime = start(entry, threads=threads, provider=provider, engines=engines)
    limit = runtime.limit_calls(call_limit_s) if isinstance(runtime, OrtRuntime) else nullcontext()
    with limit:
        _check_classes(runtime, golden, bundle)
        validation = replace(
            _judge(bundle, entry, golden, runtime, runs),
            int8=int8_arithmetic(entry, provider=provider),  # `predict` computes as measured here
        )
        if not costs:
            return validation
        sample = golden.series[:1]
        taken = measure_costs(
            entry, runtime, sample, threads=threads, provider=provider, engines=engines
        )
    return replace(validation, costs=taken)


def compare_with_student(student: Explanation, candidate: Explanation) -> Fidelity:
    """Return the fidelity of a model to the student, on the same series and plan."""
    scale = max(float(np.abs(student.logits).max()), float(np.finfo(np.float32).tiny))
    return Fidelity(
        agreement=float(metrics.agrees(student.logits, candidate.logits).mean()),
        saliency_pearson=float(metrics.pearson(student.signed, candidate.signed).mean()),
        logit_error=float(np.abs(candidate.logits - student.logits).max()) / scale,
        saliency_error=float(np.abs(candidate.signed - student.signed).max()) / scale,
    )


def judge_fidelity(fidelity: Fidelity, precision: str) -> tuple[ContractClause, ...]:
    """Return the clauses that a model of this precision must keep; none for INT8."""
    tolerance = FIDELITY_TOLERANCE.get(precision)
    if tolerance is None:
        return ()
    return (
        _at_most("fidelity_logit_error", fidelity.logit_error, tolerance),
        _at_most("fidelity_saliency_error", fidelity.saliency_error, _LOGITS_A_SCORE * tolerance),
    )


def _judge(
    bundle: Bundle, model: Model, golden: Golden, runtime: Runtime, runs: int | AutoRuns
) -> Validation:
    """Measure a loaded model on the golden set, and judge it."""
    with TelemetrySampler() as sampler:
        evaluation = evaluate(runtime, golden.series, golden.labels, golden.teacher, bundle.plan)
        latency = measure(runtime, golden.series[:1], runs=runs)
    logits = evaluation.explanation.logits
    measured = {
        **evaluation.estimates,
        "accuracy": metrics.estimate_mean(metrics.correct(logits, golden.labels)),
        "size_bytes": _exact(model.size_bytes),
        "latency_p95_ms": latency.p95_ms,
    }
    fidelity = compare_with_student(golden.student, evaluation.explanation)
    clauses = contract.judge(bundle.contract, measured) + judge_fidelity(fidelity, model.precision)
    return Validation(
        bundle=bundle.name,
        model=model,
        size_bytes=model.size_bytes,
        measured=measured,
        fidelity=fidelity,
        latency=latency,
        clauses=clauses,
        environment={**environment(), **runtime.describe()},
        created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        telemetry=sampler.telemetry(),
    )


def _check_classes(runtime: Runtime, golden: Golden, bundle: Bundle) -> None:
    shape, classes = runtime.logits(golden.series[:1]).shape, len(bundle.class_names)
    if shape != (1, classes):
        raise ModelError(
            f"The model gave logits of shape {shape} for one series; {bundle.name} has {classes} "
            "classes. Make the bundle anew with the model that belongs to it."
        )


def _at_most(name: str, value: float, threshold: float) -> ContractClause:
    return ContractClause(
        name=name,
        comparison="<=",
        threshold=threshold,
        measured=_exact(value),
        passed=value <= threshold,
        decided=True,
    )


def _exact(value: float) -> Estimate:
    return Estimate(value, value, value)
