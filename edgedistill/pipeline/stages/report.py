"""From what was measured to the report: facts as JSON, a page, and Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.device.telemetry import environment
from edgedistill.evaluation import metrics
from edgedistill.io.arrays import AnyFloats, AnyInts
from edgedistill.io.files import write_json, write_text
from edgedistill.pipeline.provenance import now, versions
from edgedistill.pipeline.run_folder import REPORT_HTML, REPORT_JSON, REPORT_MD
from edgedistill.pipeline.stages.evaluate import Measurement, Outcome
from edgedistill.report import (
    Bin,
    Calibration,
    Candidate,
    Confusion,
    Curves,
    Data,
    Epoch,
    Example,
    Latency,
    Metrics,
    Report,
    Saliency,
    html,
    markdown,
    to_json,
)
from edgedistill.saliency.occlusion import Explanation, time_map

_BINS = 10
_RUNTIMES = {".onnx": "onnxruntime", ".joblib": "python", ".npz": "table"}  # of a brought teacher


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
    data = outcome.data
    return Report(
        created=now(),
        name=outcome.recipe.name or data.name,
        verdict="kept" if outcome.is_kept else "broken",
        contract=outcome.clauses,
        environment={**environment(), **versions()},
        chosen=outcome.chosen,
        reasons=_reasons(outcome),
        data=_data(outcome),
        teacher=_candidate(
            "teacher",
            _RUNTIMES.get(Path(outcome.recipe.teacher.source or "").suffix, "torch"),
            "fp32",
            outcome.teacher,
            agrees=False,
        ),
        student=_candidate("student", "torch", "fp32", outcome.student),
        candidates=tuple(
            _candidate(m.name, m.runtime, m.precision, outcome.variants[m.name])
            for m in outcome.models
        ),
        references=dict(outcome.references) or None,
        curves=Curves(
            teacher=_curve(outcome.curves["teacher"]), student=_curve(outcome.curves["student"])
        ),
        confusion=_confusion(outcome),
        calibration=Calibration(
            teacher=_bins(outcome.teacher.evaluation.explanation.logits, data.test.y),
            student=_bins(outcome.explanation.logits, data.test.y),
        ),
        examples=_examples(outcome) if outcome.teacher_outputs.maps else (),
    )


def _reasons(outcome: Outcome) -> tuple[str, ...]:
    """Return sentences that say what failed, and by how much."""
    if outcome.is_kept:
        return ()
    if outcome.chosen is not None:
        failed = [f"On the test split, {c.message()}." for c in outcome.clauses if not c.passed]
        return (f"{outcome.chosen} kept the contract on the validation split only.", *failed)
    return tuple(
        f"{name}: on the validation split, {clause.message()}."
        for name, clauses in outcome.failures.items()
        for clause in clauses
    )


def _data(outcome: Outcome) -> Data:
    data = outcome.data
    return Data(
        name=data.name,
        classes=data.classes,
        class_names=data.class_names,
        train=len(data.train.y),
        validation=len(data.validation.y),
        test=len(data.test.y),
        length=data.length,
        channels=data.channels,
        fingerprint=data.fingerprint,
    )


def _candidate(
    name: str, runtime: str, precision: str, measurement: Measurement, *, agrees: bool = True
) -> Candidate:
    found, latency = measurement.evaluation.estimates, measurement.latency
    match = found if agrees else {}  # that a teacher agrees with itself is no measurement
    return Candidate(
        name=name,
        runtime=runtime,
        precision=precision,
        parameters=measurement.parameters,
        size_bytes=measurement.size_bytes,
        metrics=Metrics(
            accuracy=found["accuracy"],
            auc_prc=found["auc_prc"],
            roc_auc=found["roc_auc"],
            ece=found["ece"],
            agreement=match.get("agreement"),
            kl=match.get("kl"),
            saliency=Saliency(
                spearman=match.get("saliency_spearman"),
                pearson=match.get("saliency_pearson"),
                topk=match.get("saliency_topk"),
                unseen=measurement.unseen,
            ),
        ),
        latency_ms=None
        if latency is None
        else Latency(p50=latency.p50_ms.value, p95=latency.p95_ms.value, p99=latency.p99_ms.value),
    )


def _curve(history: list[dict[str, Any]]) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=point["epoch"],
            train_loss=point["train_loss"],
            validation_loss=point["validation_loss"],
            validation_accuracy=point["validation_accuracy"],
        )
        for point in history
    )


def _confusion(outcome: Outcome) -> Confusion:
    names, labels = outcome.data.class_names, outcome.data.test.y

    def count(explanation: Explanation) -> list[list[int]]:
        table = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(table, (labels, explanation.logits.argmax(axis=1)), 1)
        counts: list[list[int]] = table.tolist()
        return counts

    return Confusion(
        labels=names,
        teacher=count(outcome.teacher_outputs.splits["test"]),
        student=count(outcome.explanation),
    )


def _bins(logits: AnyFloats, labels: AnyInts) -> tuple[Bin, ...]:
    confidence = metrics.softmax(logits).max(axis=1)
    hits = metrics.correct(logits, labels)
    index = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return tuple(
        Bin(
            confidence=float(confidence[index == k].mean()),
            accuracy=float(hits[index == k].mean()),
            count=int((index == k).sum()),
        )
        for k in np.unique(index)
    )


def _examples(outcome: Outcome) -> tuple[Example, ...]:
    """Return the series whose maps are most, middling and least alike."""
    teacher, student = outcome.teacher_outputs.splits["test"], outcome.explanation
    match = metrics.pearson(teacher.signed, student.signed)
    order = np.argsort(match, kind="stable")
    picks = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    return tuple(
        _example(outcome, f"{title} agreement", int(row), float(match[row]))
        for title, row in picks.items()
    )


def _example(outcome: Outcome, title: str, row: int, match: float) -> Example:
    data, plan = outcome.data, outcome.plan
    teacher, student = outcome.teacher_outputs.splits["test"], outcome.explanation
    names = data.class_names
    return Example(
        title=title,
        index=row,
        label=names[data.test.y[row]],
        teacher_class=names[teacher.logits[row].argmax()],
        student_class=names[student.logits[row].argmax()],
        pearson=match,
        series=data.test.x[row].tolist(),
        teacher_map=time_map(teacher.signed[row : row + 1], plan)[0].tolist(),
        student_map=time_map(student.signed[row : row + 1], plan)[0].tolist(),
    )
