"""What does an exact per-timestep map cost, against Captum's FeatureAblation?

    pip install captum
    OMP_WAIT_POLICY=passive python benchmarks/saliency.py

Both answer the same question in the same run: how the logits change when each time step in turn is
replaced by zero. Captum at the faster of `perturbations_per_eval` 1 and 32. Medians, ratios, the
cost in forwards of the same batch, and what counting multiply-accumulates allows. A rival's call
that takes over three seconds is timed once.

Then a training step of a student: temporal saliency distillation, as it is here and with every copy
run whole by student and teacher, against knowledge distillation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation
from torch import Tensor, nn

from edgedistill.attribution.incremental.propagation import IncrementalModel, record
from edgedistill.device.telemetry import environment
from edgedistill.distillation.objectives import KD, TSD
from edgedistill.distillation.objectives.objective import Batch, Objective, StudentOutputs
from edgedistill.io.files import write_json
from edgedistill.models import ModelSpec, build
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.teachers.window_cache import WindowCacheSpec, open_window_cache, write_window_cache

SAMPLES, CLASSES = 16, 5
LONG_MS = 3000
STEP_AIM = 4.0  # times a step of knowledge distillation


@dataclass(frozen=True)
class Case:
    """A network and the lengths it runs at, each with the ratio that is aimed at."""

    name: str
    spec: ModelSpec
    aims: dict[int, float]


CASES = (
    Case("FCN 128-256-128", ModelSpec(family="fcn"), {128: 10, 512: 40, 1024: 80}),
    Case("ResNet 64-128-128", ModelSpec(family="resnet"), {512: 16, 1024: 32}),
    Case("Inception, depth 6", ModelSpec(family="inception"), {128: 1, 512: 4, 1024: 6}),
    Case("FCN 12-24-12", ModelSpec(family="fcn", width=12), {128: 16, 512: 45, 1024: 80}),
    Case("LSTM 3x100", ModelSpec(family="lstm"), {100: 2}),
)


def main() -> None:
    """Measure every case, print a table, write it as JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows = []
    print("| network | T | ours, ms | forwards | Captum / ours | aim | arithmetic limit | error |")
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        for length, aim in case.aims.items():
            named = options.only is None or options.only in case.name
            if named and options.length in {None, length}:
                row = measure(case, length, aim, options.runs)
                rows.append(row)
                print(line(row), flush=True)
    step = None
    if options.only is None or options.only == "step":
        step = training_step(options.runs)
        print(
            f"\nA TSD step: {step['tsd_ms']:.1f} ms, {step['ratio']:.1f} times a KD step "
            f"({step['kd_ms']:.1f} ms; aim: at most {STEP_AIM:g}); naive: {step['naive_ratio']:.1f}"
        )
    facts = {"environment": environment(), "threads": options.threads, "runs": options.runs}
    write_json(options.out, {**facts, "rows": rows, "step": step})


def training_step(runs: int) -> dict[str, float]:
    """Return the time of a step of each kind: FCN 64-128-64 teaches FCN 8-16-8, T 96, W 16."""
    length, width, windows, size = 96, 6, 16, 32
    torch.manual_seed(0)
    teacher, student = (
        build(ModelSpec(family="fcn", width=w), channels=1, classes=CLASSES, length=length)
        for w in (64, 8)
    )
    asked = TorchClassifier(teacher, classes=CLASSES, name="teacher")
    series = np.random.default_rng(0).normal(size=(10 * size, 1, length)).astype(np.float32)
    labels = np.arange(len(series)) % CLASSES
    plan = WindowCacheSpec(
        series=series, labels=labels, donor_count=len(series), width=width, number=64
    )
    with TemporaryDirectory() as folder:
        write_window_cache(Path(folder), asked, plan)
        bank = open_window_cache(Path(folder))
        settings: dict[str, Any] = {"windows": windows, "width": width, "temperature": 8.0}
        kd = KD(torch.from_numpy(np.array(bank.clean)), temperature=4.0)
        tsd = TSD(bank, series, labels, **settings)
        live = TSD(asked.logits, series, labels, **settings)
        steps = _Steps(student, torch.from_numpy(series), torch.from_numpy(labels), size)
        kd_ms = steps.median_ms(kd, runs, "auto")
        tsd_ms = steps.median_ms(tsd, runs, "auto")
        naive_ms = steps.median_ms(live, runs, "full")
    return {
        "kd_ms": kd_ms,
        "tsd_ms": tsd_ms,
        "naive_ms": naive_ms,
        "ratio": tsd_ms / kd_ms,
        "naive_ratio": naive_ms / kd_ms,
    }


class _Steps:
    """Optimizer steps of a student, one batch after the other."""

    def __init__(self, student: nn.Module, series: Tensor, labels: Tensor, size: int) -> None:
        self._student, self._graph = student.train(), record(student)
        self._series, self._labels, self._size = series, labels, size
        self._optimizer = torch.optim.AdamW(student.parameters())
        self._step = 0

    def median_ms(self, objective: Objective, runs: int, method: Any) -> float:
        """Return the median of ten steps a run."""
        return _median_ms(lambda: self._take(objective, method), 10 * runs)

    def _take(self, objective: Objective, method: Any) -> None:
        self._step += 1
        rows = torch.arange(self._size) + self._size * (self._step % 10)
        batch = Batch(rows, self._series[rows], self._labels[rows], self._step)
        self._optimizer.zero_grad()
        windows = objective.windows(batch)
        if windows is None:
            answer = StudentOutputs(self._student(batch.series))
        else:
            asked = IncrementalModel(self._student, batch.series, method=method, graph=self._graph)
            changes = asked.changes(windows.starts, windows.patches).changes
            answer = StudentOutputs(asked.logits, windows, changes)
        objective(batch, answer).backward()
        self._optimizer.step()


@torch.no_grad()
def measure(case: Case, length: int, aim: float, runs: int) -> dict[str, Any]:
    """Return times in milliseconds and the difference of the two results."""
    torch.manual_seed(0)
    model = build(case.spec, channels=1, classes=CLASSES, length=length).eval()
    series = torch.randn(SAMPLES, 1, length)
    starts = torch.arange(length)[None]
    patches = torch.zeros(SAMPLES, length, 1, 1)
    graph = record(model)

    def ours() -> Tensor:
        return IncrementalModel(model, series, graph=graph).changes(starts, patches).changes

    answer = IncrementalModel(model, series, graph=graph).changes(starts, patches)
    # Ours before and after the rival, who may take minutes: a machine's speed changes meanwhile.
    times, forwards = [], []
    captum_ms = []
    for per_eval in (1, 32):
        times += [_ms(ours) for _ in range(runs)]
        forwards += [_ms(lambda: model(series)) for _ in range(runs)]
        captum_ms.append(_captum_ms(model, series, per_eval, runs))
    times += [_ms(ours) for _ in range(runs)]
    ours_ms, forward_ms = statistics.median(times), statistics.median(forwards)
    return {
        "network": case.name,
        "length": length,
        "method": answer.method,
        "ours_ms": ours_ms,
        "forwards": ours_ms / forward_ms,
        "captum_ms": min(captum_ms),
        "ratio": min(captum_ms) / ours_ms,
        "aim": aim,
        "limit": answer.saving,
        "error": _error(model, series, answer.changes),
    }


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = (
        f"{row['network']} ({row['method']})",
        str(row["length"]),
        f"{row['ours_ms']:.1f}",
        f"{row['forwards']:.1f}",
        f"{row['ratio']:.1f}x",
        f"{row['aim']:g}x",
        f"{row['limit']:.1f}x",
        f"{row['error']:.0e}",
    )
    return f"| {' | '.join(cells)} |"


def _captum_ms(model: nn.Module, series: Tensor, per_eval: int, runs: int) -> float:
    ablation = FeatureAblation(model)
    mask = torch.arange(series.shape[-1]).view(1, 1, -1)

    def ablate() -> None:
        # One class only: its cost is that of the forwards, not of the classes.
        ablation.attribute(
            series, target=0, feature_mask=mask, baselines=0.0, perturbations_per_eval=per_eval
        )

    return _median_ms(ablate, runs)


def _error(model: nn.Module, series: Tensor, changes: Tensor) -> float:
    """Return the largest difference from the naive full pass, over a sample of windows."""
    worst = 0.0
    for step in range(0, series.shape[-1], max(1, series.shape[-1] // 16)):
        covered = series.clone()
        covered[:, :, step] = 0
        naive = model(covered) - model(series)
        worst = max(worst, float((naive - changes[:, step]).abs().max()))
    return worst


def _median_ms(call: Callable[[], Any], runs: int) -> float:
    first = _ms(call)  # a warm-up, unless it is too long to be one
    return first if first > LONG_MS else statistics.median(_ms(call) for _ in range(runs))


def _ms(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="part of a network's name, or step")
    parser.add_argument("--length", type=int, help="of the series; all of a network by default")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/saliency.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
