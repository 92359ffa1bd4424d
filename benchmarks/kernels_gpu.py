"""The kernels on an NVIDIA GPU: are they right, and how close to its memory's speed?

    python benchmarks/kernels_gpu.py test [--seed 7]
    python benchmarks/kernels_gpu.py bench [--out benchmarks/results]

`test` holds every kernel against the reference on random inputs that change from run to run (the
seed is printed), then once more under compute-sanitizer where that is installed. `bench` times
them with CUDA events, against the same functions in eager torch and under torch.compile, and
gives the bytes they must move over the bandwidth that a plain copy reaches; it writes
`kernels-<device>.json`. Both exit with 5 and say why where there is no GPU.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import edgedistill_kernels as kernels
import numpy as np
import torch
from edgedistill_kernels import backends
from torch import Tensor

from edgedistill.attribution import autograd as bridge
from edgedistill.io.files import write_json
from kernels import TEMPERATURE, torch_perturb, torch_temporal_saliency, torch_window_saliency

NO_GPU = 5
COPIES = [(32, 16, 1, 96), (128, 64, 1, 1024), (256, 64, 3, 1024)]  # N, W, C, T
LOGITS = [(32, 16, 5), (256, 64, 5), (256, 64, 40), (4096, 64, 10)]  # N, W, K
ROUNDING = {np.float32: 5e-6, np.float64: 1e-11}


def main() -> None:
    """Run the benchmark of the command line."""
    options = _options()
    if reason := _missing():
        print(f"No GPU to {options.command} on: {reason}", file=sys.stderr)
        sys.exit(NO_GPU)
    sys.exit(test(options) if options.command == "test" else bench(options))


def test(options: argparse.Namespace) -> int:
    """Return 0 if every kernel agrees with the reference, and the sanitizer finds nothing."""
    rng = np.random.default_rng(options.seed)
    print(f"seed {options.seed}")
    for _ in range(options.rounds):
        for name, worst in compare(rng):
            print(f"  {name:<40} largest difference {worst:.1e}")
    sanitizer = shutil.which("compute-sanitizer")
    if options.rounds == 1 or sanitizer is None:  # this is the run inside, or there is none
        return 0
    again = [sys.executable, __file__, "test", "--rounds", "1", "--seed", str(options.seed)]
    return subprocess.run([sanitizer, "--error-exitcode", "1", *again], check=False).returncode


def compare(rng: np.random.Generator):
    """Yield each kernel and its largest difference to the reference; raise if it is too large."""
    sizes = rng.integers(1, (40, 80, 45, 300))
    for dtype, rounding in ROUNDING.items():
        for name, call in _calls(rng, dtype, *map(int, sizes)).items():
            worst = _difference(call("cuda"), call("reference"), rounding)
            yield f"{name} {np.dtype(dtype)}", worst


def _calls(rng, dtype, samples: int, windows: int, classes: int, length: int):
    """Return every kernel as a function of the backend, on random inputs of these sizes."""

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    width = int(rng.integers(1, length + 1))
    logits = draw(samples, classes), draw(samples, windows, classes)
    grad, other, terms = draw(samples, windows), draw(samples, windows), draw(*logits[1].shape)
    series, patches = draw(samples, 2, length), draw(samples, windows, 2, width)
    starts = rng.integers(0, length - width + 1, size=(samples, windows))
    tied, count = (grad.round(1), other.round(1)), max(1, windows // 10)
    k = kernels
    return {
        "perturb": lambda b: k.perturb(series, starts, patches, backend=b),
        "scores": lambda b: k.window_saliency(*logits, backend=b),
        "terms": lambda b: k.window_saliency(*logits, form="elementwise", backend=b),
        "scores, backward": lambda b: k.window_saliency_backward(grad, *logits, backend=b),
        "terms, backward": lambda b: k.window_saliency_backward(terms, *logits, backend=b),
        "normalized": lambda b: k.temporal_saliency(*logits, backend=b),
        "normalized, backward": lambda b: k.temporal_saliency_backward(grad, *logits, backend=b),
        "timestep_map": lambda b: k.timestep_map(
            grad, starts, width=width, length=length, backend=b
        ),
        "pearson": lambda b: k.pearson(grad, other, backend=b),
        "spearman": lambda b: k.spearman(*tied, backend=b),
        "top_sign_agreement": lambda b: k.top_sign_agreement(*tied, count=count, backend=b),
    }


def bench(options: argparse.Namespace) -> int:
    """Print and write what each kernel needs, beside its rivals and a plain copy."""
    device = torch.cuda.get_device_name()
    bandwidth = _copy_bandwidth()
    print(f"{device}: a copy moves {bandwidth / 1e9:.0f} GB/s")
    print(f"{'kernel':<28}{'size':<20}{'us':>8}{'of copy':>9}{'eager':>8}{'compiled':>10}")
    rows = []
    for name, size, moved, *calls in _races():
        times = dict(zip(("kernel", "eager", "compiled"), map(_event_time, calls), strict=True))
        row = {"kernel": name, "size": size, "us": times["kernel"] * 1e6}
        row["share_of_copy_bandwidth"] = moved / times["kernel"] / bandwidth
        row |= {key: times[key] / times["kernel"] for key in ("eager", "compiled")}
        rows.append(row)
        print(
            f"{name:<28}{size!s:<20}{row['us']:>8.1f}{row['share_of_copy_bandwidth']:>9.2f}"
            f"{row['eager']:>7.2f}x{row['compiled']:>9.2f}x",
            flush=True,
        )
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    facts = {"device": device, "copy_bytes_per_s": bandwidth, "versions": versions, "rows": rows}
    path = options.out / f"kernels-{re.sub(r'[^A-Za-z0-9]+', '-', device).lower()}.json"
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(path, facts)
    print(path)
    return 0


def _races():
    """Yield name, size, bytes that must move, and the calls: ours, eager torch, compiled torch."""
    compiled = torch.compile(torch_perturb, dynamic=False)
    for size in COPIES:
        samples, windows, channels, length = size
        width = max(1, length // 10)
        series = torch.randn(samples, channels, length, device="cuda")
        starts = torch.randint(0, length - width + 1, (samples, windows), device="cuda")
        patches = torch.randn(samples, windows, channels, width, device="cuda")
        moved = 4 * (samples * windows * channels * length + series.numel() + patches.numel())
        tensors = (series, starts, patches)
        calls = [partial(f, *tensors) for f in (bridge.perturb, torch_perturb, compiled)]
        yield "perturb", size, moved, *calls
    for size in LOGITS:
        yield from _saliency_races(size)


def _saliency_races(size: tuple[int, int, int]):
    samples, windows, classes = size
    clean = torch.randn(samples, classes, device="cuda", requires_grad=True)
    perturbed = torch.randn(size, device="cuda", requires_grad=True)
    grad = torch.randn(samples, windows, device="cuda")
    moved = 4 * (perturbed.numel() + clean.numel() + grad.numel())
    options = {"temperature": TEMPERATURE}
    for name, ours, rival in (
        ("window_saliency", bridge.window_saliency, torch_window_saliency),
        ("temporal_saliency", bridge.temporal_saliency, torch_temporal_saliency),
    ):
        rivals = rival, torch.compile(rival, dynamic=False)
        calls = [partial(ours, clean, perturbed, **options)]
        calls += [partial(r, clean, perturbed, "summed", torch.float64) for r in rivals]
        yield name, size, moved, *calls
        # The backward pass reads both logits again and writes as much.
        learn = [partial(_learn, call, (clean, perturbed), grad) for call in calls]
        yield f"{name}, both ways", size, 3 * moved, *learn


def _learn(call: Callable[[], Tensor], inputs: tuple[Tensor, Tensor], grad: Tensor) -> None:
    torch.autograd.grad(call(), inputs, grad)


def _event_time(call: Callable[[], Any], runs: int = 50) -> float:
    """Return the median time of a call on the GPU, seconds."""
    for _ in range(5):
        call()
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    for start, end in marks:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks) / 1e3


def _copy_bandwidth(size_bytes: int = 1 << 28) -> float:
    """Return bytes a second that a plain copy moves, read and written."""
    source = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size_bytes / _event_time(lambda: target.copy_(source))


def _difference(actual: Any, expected: Any, rounding: float) -> float:
    several = isinstance(actual, tuple)
    pairs = zip(actual, expected, strict=True) if several else [(actual, expected)]
    worst = 0.0
    for one, other in pairs:
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, rtol=rounding, atol=rounding * scale)
        worst = max(worst, float(np.abs(one - other).max()))
    return worst


def _missing() -> str:
    if reason := backends.unavailable_reason("cuda"):
        return reason
    return "" if torch.cuda.is_available() else "this torch is built for CPUs, or finds no GPU."


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["test", "bench"])
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of the inputs")
    parser.add_argument("--rounds", type=int, default=5, help="of random sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
