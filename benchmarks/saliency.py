"""What does an exact per-timestep map cost, against Captum's FeatureAblation?

    pip install captum
    python benchmarks/saliency.py

Both answer the same question in the same run: how the logits change when each time step in turn is
replaced by zero. Captum at the faster of `perturbations_per_eval` 1 and 32. Medians, ratios, the
cost in forwards of the same batch, and what counting multiply-accumulates allows.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from captum.attr import FeatureAblation
from torch import Tensor, nn

from edgedistill.device.telemetry import environment
from edgedistill.files import write_json
from edgedistill.models import ModelSpec, build
from edgedistill.saliency.incremental import Asked, record

SAMPLES, CLASSES = 16, 5


@dataclass(frozen=True)
class Case:
    """A network and the lengths it is asked at, each with the ratio that is aimed at."""

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
            if options.only is None or options.only in case.name:
                row = measure(case, length, aim, options.runs)
                rows.append(row)
                print(line(row), flush=True)
    facts = {"environment": environment(), "threads": options.threads, "runs": options.runs}
    write_json(options.out, {**facts, "rows": rows})


@torch.no_grad()
def measure(case: Case, length: int, aim: float, runs: int) -> dict[str, Any]:
    """Return times in milliseconds and how far the two answers are apart."""
    torch.manual_seed(0)
    model = build(case.spec, channels=1, classes=CLASSES, length=length).eval()
    series = torch.randn(SAMPLES, 1, length)
    starts = torch.arange(length)[None]
    patches = torch.zeros(SAMPLES, length, 1, 1)
    graph = record(model)

    def ours() -> Tensor:
        return Asked(model, series, graph=graph).changes(starts, patches).changes

    answer = Asked(model, series, graph=graph).changes(starts, patches)
    forward_ms = _median_ms(lambda: model(series), runs)
    ours_ms = _median_ms(ours, runs)
    captum_ms = min(_captum_ms(model, series, per_eval, runs) for per_eval in (1, 32))
    return {
        "network": case.name,
        "length": length,
        "method": answer.method,
        "ours_ms": ours_ms,
        "forwards": ours_ms / forward_ms,
        "captum_ms": captum_ms,
        "ratio": captum_ms / ours_ms,
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

    return _median_ms(ablate, max(1, runs // 2))


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
    call()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", help="part of a network's name")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/saliency.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
