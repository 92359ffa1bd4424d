"""How much faster are the compiled kernels than NumPy, and than the same in eager torch?

    python benchmarks/kernels.py [--threads 2] [--runs 15] [--out FILE]

Every kernel runs in turn with its two rivals in this process, on the same arrays, with the same
number of threads; the table shows the median time of the kernel and how many times longer each
rival takes. The torch rival gives the same numbers (float64 inside, as the library's own plain
torch functions do); where float32 all through is quicker, that column stands beside it. Backward
passes are timed with their forward pass, since torch cannot do one without the other. `perturb`
writes into a given buffer and is held against the copying of as many bytes (`np.copyto`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgedistill_kernels as kernels
import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgedistill.io.files import write_json

TEMPERATURE = 8.0
LOGITS = [(32, 16, 5), (32, 64, 2), (64, 32, 40), (256, 64, 5), (256, 64, 40)]  # N, W, K
COPIES = [(32, 16, 1, 96), (64, 32, 3, 256), (128, 64, 1, 1024), (256, 64, 1, 512)]  # N, W, C, T
MAPS = [(256, 96), (128, 256), (64, 1024)]  # N, T
Timed = dict[str, Callable[[], Any]]


def main() -> None:
    """Print a table as it grows; write it as JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    numba.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    rows = []
    print(f"{'kernel':<22}{'size':<20}{'us':>9}{'numpy':>8}{'torch':>8}{'float32':>9}{'copy':>7}")
    for name, size, rivals in cases(rng):
        times = race(rivals, options.runs)
        row = {"kernel": name, "size": size, "us": times["kernel"] * 1e6}
        row |= {rival: t / times["kernel"] for rival, t in times.items() if rival != "kernel"}
        rows.append(row)
        print(_line(row), flush=True)
    if options.out:
        write_json(options.out, {"threads": options.threads, "runs": options.runs, "rows": rows})


def race(rivals: Timed, runs: int) -> dict[str, float]:
    """Return the median time of each, seconds; they take turns, so that all meet the same noise."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for run in range(-2, runs):
        for name, call in rivals.items():
            start = time.perf_counter()
            call()
            if run >= 0:  # the first turns compile and warm up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def cases(rng: np.random.Generator):
    """Yield what is measured: a name, a size, and the calls that race."""
    for size in COPIES:
        yield "perturb", size, _perturb(rng, size)
    for size in LOGITS:
        yield from _saliency(rng, size)
    for size in [(256, 64), (256, 64, 40)]:
        yield "normalize", size, _normalize(rng, size)
    for size in MAPS:
        yield from _maps(rng, size)


def _perturb(rng: np.random.Generator, size: tuple[int, ...]) -> Timed:
    samples, windows, channels, length = size
    width = max(1, length // 10)
    series = rng.normal(size=(samples, channels, length)).astype(np.float32)
    starts = rng.integers(0, length - width + 1, size=(samples, windows))
    patches = rng.normal(size=(samples, windows, channels, width)).astype(np.float32)
    out, other = np.zeros((2, samples, windows, channels, length), dtype=np.float32)
    tensors = [torch.from_numpy(array) for array in (series, starts, patches)]
    return {
        "kernel": lambda: kernels.perturb(series, starts, patches, out=out, backend="cpu"),
        "numpy": lambda: kernels.perturb(series, starts, patches, out=out, backend="reference"),
        "torch": lambda: torch_perturb(*tensors),
        "copy": lambda: np.copyto(out, other),
    }


def _saliency(rng: np.random.Generator, size: tuple[int, ...]):
    samples, _, classes = size
    clean = rng.normal(size=(samples, classes)).astype(np.float32)
    perturbed = rng.normal(size=size).astype(np.float32)
    for form in ("summed", "elementwise"):
        grad = rng.normal(size=size if form == "elementwise" else size[:2]).astype(np.float32)
        for name, *functions in (
            (
                "window_saliency",
                kernels.window_saliency,
                kernels.window_saliency_backward,
                torch_window_saliency,
            ),
            (
                "temporal_saliency",
                kernels.temporal_saliency,
                kernels.temporal_saliency_backward,
                torch_temporal_saliency,
            ),
        ):
            forward, both = _saliency_calls(clean, perturbed, grad, form, *functions)
            yield f"{name}{'' if form == 'summed' else ', terms'}", size, forward
            yield "  and backward", size, both


def _saliency_calls(clean, perturbed, grad, form, forward, backward, rival) -> tuple[Timed, Timed]:
    """Return the calls of a forward pass, and those of both passes."""
    logits = [torch.from_numpy(clean), torch.from_numpy(perturbed)]
    leaves = [tensor.clone().requires_grad_() for tensor in logits]
    upstream = torch.from_numpy(grad)

    def ours(backend):
        return forward(clean, perturbed, temperature=TEMPERATURE, form=form, backend=backend)

    def both(backend):
        ours(backend)
        backward(grad, clean, perturbed, temperature=TEMPERATURE, backend=backend)

    def both_in_torch(dtype):
        torch.autograd.grad(rival(*leaves, form, dtype), leaves, upstream)

    return {
        "kernel": lambda: ours("cpu"),
        "numpy": lambda: ours("reference"),
        "torch": lambda: rival(*logits, form, torch.float64),
        "float32": lambda: rival(*logits, form, torch.float32),
    }, {
        "kernel": lambda: both("cpu"),
        "numpy": lambda: both("reference"),
        "torch": lambda: both_in_torch(torch.float64),
        "float32": lambda: both_in_torch(torch.float32),
    }


def _normalize(rng: np.random.Generator, size: tuple[int, ...]) -> Timed:
    scores = rng.normal(size=size).astype(np.float32)
    tensor = torch.from_numpy(scores)
    return {
        "kernel": lambda: kernels.normalize(scores, backend="cpu"),
        "numpy": lambda: kernels.normalize(scores, backend="reference"),
        "torch": lambda: torch_normalize(tensor),
    }


def _maps(rng: np.random.Generator, size: tuple[int, int]):
    samples, length = size
    first, second = rng.normal(size=(2, *size)).astype(np.float32)
    tensors = torch.from_numpy(first), torch.from_numpy(second)
    count, width, windows = max(1, length // 10), 8, 64
    starts = rng.integers(0, length - width + 1, size=(samples, windows))
    scores = rng.normal(size=(samples, windows)).astype(np.float32)
    spread = torch.from_numpy(scores), torch.from_numpy(starts)
    for name, call, rival in (
        (
            "timestep_map",
            lambda b: kernels.timestep_map(scores, starts, width=width, length=length, backend=b),
            lambda: torch_timestep_map(*spread, width, length),
        ),
        (
            "pearson",
            lambda b: kernels.pearson(first, second, backend=b),
            lambda: torch_pearson(*tensors),
        ),
        (
            "spearman",
            lambda b: kernels.spearman(first, second, backend=b),
            lambda: torch_spearman(*tensors),
        ),
        (
            "top_sign_agreement",
            lambda b: kernels.top_sign_agreement(first, second, count=count, backend=b),
            lambda: torch_top_sign_agreement(*tensors, count),
        ),
    ):
        yield (
            name,
            size,
            {
                "kernel": lambda call=call: call("cpu"),
                "numpy": lambda call=call: call("reference"),
                "torch": rival,
            },
        )


def torch_perturb(series: Tensor, starts: Tensor, patches: Tensor) -> Tensor:
    """The copies by a gather, as eager torch does without a loop."""
    width, length = patches.shape[-1], series.shape[-1]
    offset = torch.arange(length, device=series.device) - starts[..., None]
    inside = ((offset >= 0) & (offset < width))[:, :, None]
    index = offset.clamp(0, width - 1)[:, :, None].expand(-1, -1, series.shape[1], -1)
    return torch.where(inside, patches.gather(-1, index), series[:, None])


def torch_window_saliency(
    clean: Tensor, perturbed: Tensor, form: str, dtype: torch.dtype
) -> Tensor:
    """The divergence of two softmaxes."""
    log_p = functional.log_softmax(clean.to(dtype) / TEMPERATURE, dim=-1)[:, None]
    log_q = functional.log_softmax(perturbed.to(dtype) / TEMPERATURE, dim=-1)
    terms = log_p.exp() * (log_p - log_q) * TEMPERATURE**2
    return (terms if form == "elementwise" else terms.sum(dim=-1)).to(clean.dtype)


def torch_normalize(saliency: Tensor) -> Tensor:
    """Scores over the mean of the positive ones."""
    positive = saliency > 0
    mean = (saliency * positive).sum() / positive.sum().clamp(min=1)
    return saliency / (mean + 1e-8)


def torch_temporal_saliency(
    clean: Tensor, perturbed: Tensor, form: str, dtype: torch.dtype
) -> Tensor:
    """Both in turn."""
    return torch_normalize(torch_window_saliency(clean, perturbed, form, dtype))


def torch_timestep_map(scores: Tensor, starts: Tensor, width: int, length: int) -> Tensor:
    """Scores scattered over the steps of their windows."""
    steps = (starts[..., None] + torch.arange(width, device=starts.device)).flatten(1)
    spread = scores[..., None].expand(-1, -1, width).flatten(1)
    total = torch.zeros(len(scores), length, dtype=scores.dtype, device=scores.device)
    cover = torch.zeros_like(total)
    total.scatter_add_(1, steps, spread)
    cover.scatter_add_(1, steps, torch.ones_like(spread))
    return total / cover.clamp(min=1)


def torch_pearson(first: Tensor, second: Tensor) -> Tensor:
    """In float64, as the kernel."""
    a = first.double() - first.double().mean(dim=-1, keepdim=True)
    b = second.double() - second.double().mean(dim=-1, keepdim=True)
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def torch_spearman(first: Tensor, second: Tensor) -> Tensor:
    """Without a thought for ties: less than the kernel does."""
    return torch_pearson(first.argsort(1).argsort(1), second.argsort(1).argsort(1))


def torch_top_sign_agreement(first: Tensor, second: Tensor, count: int) -> Tensor:
    """The strongest of both, as masks."""
    masks = [
        torch.zeros_like(maps, dtype=torch.bool).scatter_(
            1, maps.abs().topk(count, 1).indices, True
        )
        for maps in (first, second)
    ]
    same = masks[0] & masks[1] & (first.sign() * second.sign() > 0)
    return same.sum(1) / count


def _line(row: dict[str, Any]) -> str:
    ratios = "".join(
        f"{row[rival]:>{width - 1}.2f}x" if rival in row else f"{'':>{width}}"
        for rival, width in (("numpy", 8), ("torch", 8), ("float32", 9), ("copy", 7))
    )
    return f"{row['kernel']:<22}{row['size']!s:<20}{row['us']:>9.0f}{ratios}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="of Numba and of torch")
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each")
    parser.add_argument("--out", type=Path, help="a JSON file for the table")
    return parser.parse_args()


if __name__ == "__main__":
    main()
