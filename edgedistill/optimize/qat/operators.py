"""The operators of a folded student in torch, as ONNX defines them: gradients can flow through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[[Attributes, list[Any]], Tensor]


def _conv(attributes: Attributes, values: list[Any]) -> Tensor:
    series, weight, *rest = values
    run = {3: functional.conv1d, 4: functional.conv2d}[weight.ndim]
    result: Tensor = run(
        _padded(series, attributes, 0.0),
        weight,
        rest[0] if rest else None,
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
        groups=attributes.get("group", 1),
    )
    return result


def _gemm(attributes: Attributes, values: list[Any]) -> Tensor:
    left, right, *rest = values
    left = left.T if attributes.get("transA", 0) else left
    right = right.T if attributes.get("transB", 0) else right
    result: Tensor = attributes.get("alpha", 1.0) * (left @ right)
    return result + attributes.get("beta", 1.0) * rest[0] if rest else result


def _max_pool(attributes: Attributes, values: list[Any]) -> Tensor:
    run = {3: functional.max_pool1d, 4: functional.max_pool2d}[values[0].ndim]
    result: Tensor = run(
        _padded(values[0], attributes, float("-inf")),
        attributes["kernel_shape"],
        stride=attributes.get("strides", 1),
        dilation=attributes.get("dilations", 1),
    )
    return result


def _norm(attributes: Attributes, values: list[Any]) -> Tensor:
    series, scale, bias, mean, variance = values
    return functional.batch_norm(
        series, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5)
    )


def _reduced(reduction: Callable[..., Tensor]) -> Operator:
    def reduce(attributes: Attributes, values: list[Any]) -> Tensor:
        every = list(range(values[0].ndim))
        axes = attributes.get("axes") or (values[1].tolist() if len(values) > 1 else every)
        return reduction(values[0], dim=axes, keepdim=bool(attributes.get("keepdims", 1)))

    return reduce


def _slice(attributes: Attributes, values: list[Any]) -> Tensor:
    del attributes
    series, starts, ends = values[:3]
    axes = values[3] if len(values) > 3 else torch.arange(len(starts))
    steps = values[4] if len(values) > 4 else torch.ones_like(axes)
    for start, end, axis, step in zip(
        starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True
    ):
        places = range(series.shape[axis])[start:end:step]
        series = series.index_select(axis, torch.tensor(places, device=series.device))
    result: Tensor = series
    return result


def _padded(series: Tensor, attributes: Attributes, value: float) -> Tensor:
    pads = attributes.get("pads", [])
    half = len(pads) // 2
    ends = [end for axis in reversed(range(half)) for end in (pads[axis], pads[half + axis])]
    return functional.pad(series, ends, value=value) if any(ends) else series


OPERATORS: dict[str, Operator] = {
    "Add": lambda _, values: values[0] + values[1],
    "BatchNormalization": _norm,
    "Concat": lambda attributes, values: torch.cat(values, dim=attributes["axis"]),
    "Conv": _conv,
    "Flatten": lambda attributes, values: values[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda _, values: values[0].mean(
        dim=tuple(range(2, values[0].ndim)), keepdim=True
    ),
    "Identity": lambda _, values: values[0],
    "LeakyRelu": lambda attributes, values: functional.leaky_relu(
        values[0], attributes.get("alpha", 0.01)
    ),
    "MatMul": lambda _, values: values[0] @ values[1],
    "MaxPool": _max_pool,
    "Mul": lambda _, values: values[0] * values[1],
    "Neg": lambda _, values: -values[0],
    "ReduceMean": _reduced(torch.mean),
    "ReduceSum": _reduced(torch.sum),
    "Relu": lambda _, values: torch.relu(values[0]),
    "Slice": _slice,
    "Squeeze": lambda _, values: values[0].squeeze(*(axes.tolist() for axes in values[1:])),
    "Sub": lambda _, values: values[0] - values[1],
    "Transpose": lambda attributes, values: values[0].permute(
        tuple(attributes.get("perm", range(values[0].ndim)[::-1]))
    ),
}
