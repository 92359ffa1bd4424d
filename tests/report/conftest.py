"""Two reports: a whole one, computed on real series, and what a board would write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.formats.schema import ColumnRole
from edgedistill.report import (
    Bin,
    Calibration,
    Candidate,
    Confusion,
    Costs,
    Curves,
    Data,
    Epoch,
    Example,
    Latency,
    Metrics,
    Report,
    Saliency,
    SpeedComparison,
    Telemetry,
    from_json,
    merge,
    to_json,
)

EPOCHS, STEPS = 80, 30
POOL = 5  # the student sees means of five steps


def _train(x, y, x_val, y_val):
    """Softmax regression by gradient descent: weights (T + 1, K) and its curve."""
    x, x_val = (np.c_[a, np.ones(len(a))] for a in (x, x_val))
    weights, curve = np.zeros((x.shape[1], 2)), []
    for epoch in range(1, EPOCHS + 1):
        for _ in range(STEPS):
            p = metrics.softmax(x @ weights)
            weights = weights - 0.03 * x.T @ (p - np.eye(2)[y]) / len(x)
        q = metrics.softmax(x_val @ weights)
        curve.append(
            Epoch(
                epoch=epoch,
                train_loss=float(-np.log(p[np.arange(len(y)), y]).mean()),
                validation_loss=float(-np.log(q[np.arange(len(y_val)), y_val]).mean()),
                validation_accuracy=float((q.argmax(1) == y_val).mean()),
            )
        )
    return weights, tuple(curve)


def _maps(predict, x, targets, width=8):
    """Drop of the target logit as each window is covered by its mean, spread over steps."""
    maps = np.zeros(x.shape)
    rows = np.arange(len(x))
    clean = predict(x)[rows, targets]
    for start in range(x.shape[1] - width + 1):
        covered = x.copy()
        covered[:, start : start + width] = x.mean(axis=1, keepdims=True)
        drop = clean - predict(covered)[rows, targets]
        maps[:, start : start + width] += drop[:, None] / width
    return maps


def _bins(logits, labels):
    p = metrics.softmax(logits)
    confidence, hit = p.max(1), p.argmax(1) == labels
    place = np.minimum((confidence * 15).astype(int), 14)
    return tuple(
        Bin(
            confidence=float(confidence[place == i].mean()),
            accuracy=float(hit[place == i].mean()),
            count=int((place == i).sum()),
        )
        for i in np.unique(place)
    )


def _matrix(logits, labels):
    matrix = np.zeros((2, 2), dtype=int)
    np.add.at(matrix, (labels, logits.argmax(1)), 1)
    return matrix.tolist()


def _metrics(teacher, student, labels, maps):
    mean = metrics.estimate_mean
    p = metrics.softmax(student)
    ece = metrics.expected_calibration_error(p.max(1), metrics.correct(student, labels))
    return Metrics(
        accuracy=mean(metrics.correct(student, labels)),
        roc_auc=Estimate(0.91, 0.86, 0.95),
        auc_prc=Estimate(0.92, 0.87, 0.96),
        agreement=mean(metrics.agrees(teacher, student)),
        kl=mean(metrics.kl_divergence(teacher, student)),
        ece=Estimate(float(ece), float(ece) * 0.8, float(ece) * 1.3),
        saliency=Saliency(
            pearson=mean(metrics.pearson(*maps)),
            spearman=mean(metrics.spearman(*maps)),
            topk=mean(metrics.top_sign_agreement(*maps)),
            unseen=mean(metrics.pearson(*maps) - 0.1),
        ),
    )


def _examples(x, labels, teacher, student, maps):
    score = metrics.pearson(*maps)
    order = np.argsort(score)
    chosen = {"best": order[-1], "median": order[len(order) // 2], "worst": order[0]}
    return tuple(
        Example(
            title=f"{title} agreement",
            index=int(i),
            label=("gun", "point")[labels[i]],
            teacher_class=("gun", "point")[teacher[i].argmax()],
            student_class=("gun", "point")[student[i].argmax()],
            pearson=float(score[i]),
            series=[x[i].tolist()],
            teacher_map=maps[0][i].tolist(),
            student_map=maps[1][i].tolist(),
        )
        for title, i in chosen.items()
    )


@pytest.fixture(scope="session")
def full_report() -> Report:
    """A linear teacher and a coarser student, trained on GunPoint; kept.

    Invented, because only the layout is tested: sizes, times, AUCs, the ECE interval,
    floor and ceiling. Int8 is the student with rounded logits and noise on its maps.
    """
    from aeon.datasets import load_gunpoint

    x, names = load_gunpoint(split="train")
    x_test, names_test = load_gunpoint(split="test")
    x, x_test = x[:, 0], x_test[:, 0]
    y, y_test = (n.astype(int) - 1 for n in (names, names_test))
    pool = np.kron(np.eye(x.shape[1] // POOL), np.ones((POOL, 1)) / POOL)
    big, big_curve = _train(x[10:], y[10:], x[:10], y[:10])
    small, small_curve = _train(x[10:] @ pool, y[10:], x[:10] @ pool, y[:10])
    teacher = np.c_[x_test, np.ones(len(x_test))] @ big
    student = np.c_[x_test @ pool, np.ones(len(x_test))] @ small
    targets = teacher.argmax(1)
    maps = (
        _maps(lambda a: np.c_[a, np.ones(len(a))] @ big, x_test, targets),
        _maps(lambda a: np.c_[a @ pool, np.ones(len(a))] @ small, x_test, targets),
    )
    coarse = np.round(student * 2) / 2 + [0, 1e-6]
    rough = maps[1] + np.random.default_rng(0).normal(scale=maps[1].std() / 3, size=maps[1].shape)
    measured = _metrics(teacher, student, y_test, maps)
    int8 = _metrics(teacher, coarse, y_test, (maps[0], rough))
    clauses = contract.judge(
        contract.Contract(
            max_accuracy_drop=0.05, max_kl=None, min_saliency_spearman=None, max_size_bytes=8000
        ),
        {
            "accuracy_drop": metrics.estimate_mean(
                metrics.correct(teacher, y_test) - metrics.correct(coarse, y_test)
            ),
            "agreement": int8.agreement,
            "saliency_pearson": int8.saliency.pearson,
            "size_bytes": Estimate(1_912, 1_912, 1_912),
        },
    )
    return Report(
        created="2026-11-20T09:52:00Z",
        name="GunPoint, linear 302 → 62",
        verdict=contract.verdict(clauses),
        contract=clauses,
        environment={"python": "3.11.7", "numpy": np.__version__, "machine": "x86_64, 2 cores"},
        chosen="int8",
        data=Data(
            name="GunPoint",
            classes=2,
            class_names=("gun", "point"),
            train=40,
            validation=10,
            test=len(x_test),
            length=x.shape[1],
            channels=1,
            fingerprint="5f" * 32,
            series_per_class={
                "gun": {"train": 20, "validation": 4, "test": 76},
                "point": {"train": 20, "validation": 6, "test": len(x_test) - 76},
            },
            shortest=120,
            longest=150,
            missing_share=0.013,
            missing_series={"gun": 3},
            flat_series=0,
            flat_channels=(),
            unresolved_series=1,
            test_origin="named",
            test_file="others.csv",
            columns=(
                ColumnRole(name="t0 to t149", role="values", why="numbers"),
                ColumnRole(name="motion", role="label", why="data.label"),
            ),
            remarks=("'1' and '1.0' are one class.",),
            warnings=("The validation split has fewer than 5 series of 'gun' (4).",),
        ),
        teacher=Candidate(
            name="teacher",
            runtime="torch",
            precision="fp32",
            parameters=big.size,
            size_bytes=1_070_000,
            metrics=Metrics(accuracy=metrics.estimate_mean(metrics.correct(teacher, y_test))),
            latency_ms=Latency(p50=1.31, p95=1.62, p99=2.4),
        ),
        student=_model("student", "torch", "fp32", 19_800, measured, 0.42),
        candidates=(
            _model("fp32", "onnxruntime", "fp32", 18_400, measured, 0.061),
            _model("fp16", "onnxruntime", "fp16", 9_950, measured, 0.074),
            _model("int8", "onnxruntime", "int8", 1_912, int8, 0.038),
        ),
        speed=SpeedComparison(
            model="int8",
            runtime="onnxruntime",
            model_ms=Estimate(0.038, 0.037, 0.039),
            teacher_ms=Estimate(0.152, 0.15, 0.156),
            native_runtime="torch",
            native_ms=Estimate(1.31, 1.28, 1.35),
        ),
        references={"floor": Estimate(0.08, 0.02, 0.15), "ceiling": Estimate(0.93, 0.9, 0.95)},
        curves=Curves(teacher=big_curve, student=small_curve),
        confusion=Confusion(
            labels=("gun", "point"),
            teacher=_matrix(teacher, y_test),
            student=_matrix(student, y_test),
        ),
        calibration=Calibration(teacher=_bins(teacher, y_test), student=_bins(student, y_test)),
        examples=_examples(x_test, y_test, teacher, student, maps),
    )


def _model(name, runtime, precision, size, measured, p50):
    return Candidate(
        name=name,
        runtime=runtime,
        precision=precision,
        parameters=62,
        size_bytes=size,
        metrics=measured,
        latency_ms=Latency(p50=p50, p95=p50 * 1.3, p99=p50 * 1.9),
    )


@pytest.fixture(scope="session")
def board_report() -> Report:
    """What a board writes: no teacher, no data, one model, a broken contract."""
    measured = Estimate(0.61, 0.52, 0.7)
    return Report(
        created="2026-11-20T10:15:00Z",
        name="gunpoint.zip",
        verdict="broken",
        contract=(
            ContractClause("agreement", ">=", 0.9, Estimate(0.984, 0.95, 1.0), True, True),
            ContractClause("saliency_pearson", ">=", 0.75, measured, False, True),
        ),
        reasons=("Saliency agreement (Pearson) is 0.610, 0.140 below the threshold of 0.750.",),
        environment={"machine": "aarch64", "onnxruntime": "1.23.2"},
        candidates=(
            Candidate(
                name="int8",
                runtime="onnxruntime",
                precision="int8",
                size_bytes=1_912,
                metrics=Metrics(
                    agreement=Estimate(0.984, 0.95, 1.0), saliency=Saliency(pearson=measured)
                ),
                latency_ms=Latency(p50=0.21, p95=0.33, p99=0.4),
            ),
        ),
    )


@pytest.fixture(scope="session")
def telemetry() -> Telemetry:
    """Sensors of a board over four readings; invented."""
    return Telemetry(
        at_s=[0.0, 0.5, 1.0, 1.2],
        settings={"power mode": "15W (0)", "CPU governor": "schedutil"},
        temperature_c={
            "cpu-thermal": [48.0, 55.0, 58.5, 58.0],
            "cv0-thermal": [None, None, None, None],
            "tj-thermal": [48.5, 55.5, 59.0, 58.5],
        },
        clock_mhz={"cpu": [729.6, 1510.4, 1510.4, 1510.4], "gpu": [306.0, 306.0, None, 306.0]},
        power_mw={"VDD_IN": [4900.0, 7100.0, 7250.0, 5600.0]},
        clock_limit_mhz=1510.4,
        throttling=(),
    )


@pytest.fixture(scope="session")
def orin_report(full_report, telemetry) -> Report:
    """What a board writes of the chosen model of `full_report`; kept."""
    model = full_report.judged_candidate()
    ran = replace(
        model,
        metrics=replace(model.metrics, auc_prc=None, roc_auc=None, ece=None),
        latency_ms=Latency(p50=0.31, p95=0.36, p99=0.52),
        costs=Costs(
            series_per_s=3_100.0,
            best_batch=16,
            best_series_per_s=21_500.0,
            peak_mib=71.25,
            bare_mib=52.5,
            cold_start_ms=412.0,
        ),
    )
    return Report(
        created="2026-11-20T11:00:00Z",
        name=full_report.name,
        verdict="kept",
        contract=(ContractClause("agreement", ">=", 0.9, Estimate(0.984, 0.95, 1.0), True, True),),
        environment={"machine": "aarch64", "runtime": "onnxruntime 1.23.2", "numpy": "1.26.4"},
        chosen="int8",
        candidates=(ran,),
        telemetry=telemetry,
    )


@pytest.fixture(scope="session")
def hot_report(orin_report) -> Report:
    """The same on a board that throttled, has few sensors, and broke the contract."""
    return replace(
        orin_report,
        verdict="broken",
        contract=(
            ContractClause("latency_p95_ms", "<=", 0.2, Estimate(0.36, 0.35, 0.4), False, True),
        ),
        reasons=("Latency p95 is 0.36 ms, 0.16 ms above the threshold of 0.20 ms.",),
        telemetry=Telemetry(
            at_s=[0.0, 0.4],
            settings={},
            temperature_c={"cpu-thermal": [79.0, 84.5]},
            clock_mhz={},
            power_mw={},
            throttling=("In 2 of 2 readings: cpufreq-cpu0 slows the machine down.",),
        ),
    )


@pytest.fixture(scope="session")
def joined_report(full_report, orin_report, hot_report) -> Report:
    """The workstation's report with both boards."""
    boards = {"orin": to_json(orin_report), "pi-5": to_json(hot_report)}
    return from_json(merge(to_json(full_report), boards))
