"""The kernels as torch functions: no copies, torch's own memory, stream and gradients.

A tensor on the CPU is handed over as a NumPy view, one on an NVIDIA GPU as its address
(`__cuda_array_interface__`), and results are written into tensors that torch allocates.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from edgedistill_kernels import backends, checks
from edgedistill_kernels.reference import Form
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgedistill.errors import ShapeError

_BACKENDS = {"cpu": "cpu", "cuda": "cuda"}  # of a torch device
_TYPES = (torch.float32, torch.float64)


def supports_kernels(*tensors: Tensor) -> bool:
    """Return whether the kernels can work on these tensors, all of one type and device.

    Not while torch traces them for a graph, and not where Numba is missing.
    """
    first = tensors[0]
    return (
        first.device.type in _BACKENDS
        and first.dtype in _TYPES
        and all(t.dtype == first.dtype and t.device == first.device for t in tensors)
        and not torch.compiler.is_compiling()
        and not backends.unavailable_reason(_BACKENDS[first.device.type])
    )


def perturb(series: Tensor, starts: Tensor, patches: Tensor) -> Tensor:
    """Return perturbed copies, (N, W, C, T), without gradients. See `functional.perturb`.

    Raises:
        ValueError: the shapes do not fit, or a window leaves its series.
    """
    starts = starts.to(torch.int64)
    if starts.device.type == "cpu":  # a look at a GPU's would wait for it; its kernel cuts windows
        checks.fit_windows(*(tensor.detach().numpy() for tensor in (series, starts, patches)))
    copies = series.new_empty((*starts.shape, *series.shape[1:]))
    _launch("perturb", [series, starts, patches], [], [copies])
    return copies


def window_saliency(
    clean: Tensor, perturbed: Tensor, *, temperature: float, form: Form = "summed"
) -> Tensor:
    """Return window saliency, (N, W) or (N, W, K). See `functional.window_saliency`."""
    scores: Tensor = _WindowSaliency.apply(clean, perturbed, temperature, form)  # type: ignore[no-untyped-call]
    return scores


def temporal_saliency(
    clean: Tensor,
    perturbed: Tensor,
    *,
    temperature: float,
    form: Form = "summed",
    epsilon: float = 1e-8,
) -> Tensor:
    """Return normalized window saliency, (N, W) or (N, W, K), in one step."""
    scores: tuple[Tensor, Tensor]
    scores = _TemporalSaliency.apply(clean, perturbed, temperature, form, epsilon)  # type: ignore[no-untyped-call]
    return scores[0]


class _WindowSaliency(torch.autograd.Function):
    @staticmethod
    def forward(clean: Tensor, perturbed: Tensor, temperature: float, form: Form) -> Tensor:
        out = _scores(clean, perturbed, form)
        _launch("window_saliency", [clean, perturbed], [temperature], [out])
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's
        clean, perturbed, ctx.temperature, _ = inputs
        ctx.save_for_backward(clean, perturbed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, outs = [grad, *ctx.saved_tensors], [_like(x) for x in ctx.saved_tensors]
        _launch("window_saliency_backward", inputs, [ctx.temperature], outs)
        return (*outs, None, None)


class _TemporalSaliency(torch.autograd.Function):
    """Keeps the scores before their normalization, so that the backward pass need not redo them."""

    @staticmethod
    def forward(
        clean: Tensor, perturbed: Tensor, temperature: float, form: Form, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        scores = _scores(clean, perturbed, form)
        _launch("window_saliency", [clean, perturbed], [temperature], [scores])
        out = _like(scores)
        _launch("normalize", [scores], [epsilon], [out])
        return out, scores

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        clean, perturbed, ctx.temperature, _, ctx.epsilon = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(clean, perturbed, output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        clean, perturbed, scores = ctx.saved_tensors
        upstream, outs = _like(scores), [_like(clean), _like(perturbed)]
        _launch("normalize_backward", [grad, scores], [ctx.epsilon], [upstream])
        inputs = [upstream, clean, perturbed]
        _launch("window_saliency_backward", inputs, [ctx.temperature], outs)
        return (*outs, None, None, None)


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)  # `empty_like` would keep the gaps of a view


def _scores(clean: Tensor, perturbed: Tensor, form: Form) -> Tensor:
    """Return memory for the scores of logits that fit together."""
    if perturbed.ndim != 3 or clean.shape != (len(perturbed), perturbed.shape[2]):
        raise ShapeError(
            f"Got clean logits of shape {tuple(clean.shape)} for perturbed ones of shape "
            f"{tuple(perturbed.shape)}. Ask one model about a batch and about its copies."
        )
    return perturbed.new_empty(perturbed.shape if form == "elementwise" else perturbed.shape[:2])


def _launch(
    kernel: str, inputs: Sequence[Tensor], numbers: Sequence[float], outs: Sequence[Tensor]
) -> None:
    """Run a kernel where the tensors are; `outs` are contiguous."""
    whole = [tensor.detach().contiguous() for tensor in inputs]
    if inputs[0].device.type == "cuda":
        _launch_on_gpu(kernel, whole, numbers, outs)
        return
    views = [tensor.numpy() for tensor in (*whole, *outs)]
    at = len(whole)
    getattr(import_module("edgedistill_kernels.cpu"), kernel)(*views[:at], *numbers, *views[at:])


def _launch_on_gpu(
    kernel: str, inputs: Sequence[Tensor], numbers: Sequence[float], outs: Sequence[Tensor]
) -> None:
    """Run a kernel on torch's current stream and device, with torch's memory for scratch."""
    home = import_module("edgedistill_kernels.cuda")
    view, device = home.cuda.as_cuda_array, inputs[0].device
    scratch = {}
    if kernel not in ("perturb", "window_saliency"):
        scratch["empty"] = lambda s: view(torch.empty(s, dtype=torch.float64, device=device))
    with home.cuda.gpus[device.index]:
        arrays, written = [view(t) for t in inputs], [view(t) for t in outs]
        stream = torch.cuda.current_stream(device).cuda_stream
        getattr(home, kernel)(*arrays, *numbers, *written, stream=stream, **scratch)
