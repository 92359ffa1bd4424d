"""Export a torch module to ONNX and verify its logits."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from edgedistill.errors import ModelError
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import TOLERANCE, assert_close, check_series, logits
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.optimize.passes.opset import OPSET

INPUT = "series"
OUTPUT = "logits"

_Module = TypeVar("_Module", bound=nn.Module)
_TRACED_SERIES = 2  # with one, the exporter takes the batch size for a constant

_registries: dict[int, Any] = {}  # of the exporter, by opset

# Warnings of torch about its own parts while it exports; a caller can do nothing about them.
_NOISE = (
    (FutureWarning, r"_check_is_size will be removed"),
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
    (UserWarning, r"The tensor attributes .* were assigned during export"),
    (UserWarning, r"Using padding='same' with even kernel lengths"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFacts:
    """Errors of an exported file against torch on the same series."""

    max_abs_error: float  # in logits
    max_rel_error: float  # over the largest |logit|, which counts as 1 if smaller
    opset: int
    size_bytes: int


def export(
    model: nn.Module, path: Path, sample: Floats, *, tolerance: float = TOLERANCE
) -> ExportFacts:
    """Write a model as ONNX, `series` (N, C, T) to `logits` (N, K), for any N.

    The file is checked, run in ONNX Runtime on one series and on all of them, and compared with
    torch before it takes its name: on any miss there is no file.

    Args:
        model: model in any mode and on any device; it stays as it is.
        path: path of the ONNX file.
        sample: real series, (N, C, T); the file takes series of this C and T.
        tolerance: largest difference of a logit, over the largest |logit| (at least 1).

    Raises:
        DataError: the sample is empty or not finite.
        ModelError: the model does not take the sample, gives no finite logits, or cannot be
            exported.
        VerificationError: ONNX Runtime gives other logits than torch.
    """
    check_series(sample, "check of the export")
    module = evaluation_copy(model)
    expected = torch_logits(module, sample)
    proto = strip(trace(module, sample))
    with files.whole_file(path) as partial:
        partial.write_bytes(proto.SerializeToString())
        absolute, relative = _verify(partial, sample, expected, tolerance)
    return ExportFacts(
        max_abs_error=absolute,
        max_rel_error=relative,
        opset=OPSET,
        size_bytes=path.stat().st_size,
    )


def _verify(path: Path, sample: Floats, expected: Floats, tolerance: float) -> tuple[float, float]:
    """Return the largest errors of the logits of a file, of one series and of a batch."""
    load(path)
    assert_close("The exported model", expected[:1], logits(path, sample[:1]), tolerance)
    twice = np.concatenate([sample, sample])  # so that a sample of one tries the batch too
    doubled = np.concatenate([expected, expected])
    return assert_close("The exported model", doubled, logits(path, twice), tolerance)


def evaluation_copy(model: _Module) -> _Module:
    """Return a copy of a module on the CPU, in evaluation mode, whose parameters want no gradient.

    Raises:
        ModelError: the module cannot be copied.
    """
    # The old weight norm keeps the weight of its last run, which torch does not copy.
    computed = {
        id(value): value.detach().clone()
        for part in model.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    try:
        copied = copy.deepcopy(model, dict(computed)).cpu().eval()
        _bake_norms(copied)
        for parameter in copied.parameters():  # a scripted module has no requires_grad_
            parameter.requires_grad_(False)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise ModelError(
            f"A {type(model).__name__} cannot be copied: {str(error).strip()}. Export it with "
            "torch.onnx.export, and go on from the ONNX file."
        ) from error
    return copied


def _bake_norms(module: nn.Module) -> None:
    """Make the weights of old weight and spectral norms parameters, which the exporter needs."""
    for part in module.modules():
        for hook in tuple(part._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(part, hook.name)
            elif isinstance(hook, SpectralNorm):
                nn.utils.remove_spectral_norm(part, hook.name)


def torch_logits(module: nn.Module, sample: Floats) -> Floats:
    """Return a module's logits of real series, (N, K).

    Raises:
        ModelError: it does not take them, or gives no finite logits.
    """
    try:
        with torch.no_grad():
            output = module(torch.tensor(sample))  # a copy: modules write into it
    except Exception as error:
        raise ModelError(
            f"The model does not take series of shape {sample.shape[1:]} as (C, T): {error}. "
            "Export it with series like those it was trained on."
        ) from error
    if not isinstance(output, torch.Tensor):
        raise ModelError(
            f"The model gives a {type(output).__name__}; finite logits (N, K) are needed. Wrap it "
            "in a module that returns the logits alone."
        )
    result: Floats = output.numpy()
    if result.ndim != 2 or not np.isfinite(result).all():
        raise ModelError(
            f"The model gives values of shape {result.shape} of which "
            f"{int((~np.isfinite(result)).sum())} are not finite; finite logits (N, K) are "
            "needed. Train it anew with a smaller learning rate."
        )
    return result


def trace(module: nn.Module, sample: Floats) -> onnx.ModelProto:
    """Return a module as a graph that takes any number of series.

    Raises:
        ModelError: torch cannot export it.
    """
    example = torch.from_numpy(np.resize(sample, (_TRACED_SERIES, *sample.shape[1:])))
    try:
        with _quiet(), _one_registry():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                optimize=True,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(
            f"torch {torch.__version__} cannot export this {type(module).__name__} to ONNX: "
            f"{_first_line(error.__cause__ or error)} Use operators that export for any batch size."
        ) from error
    if program is None:
        raise ModelError(f"torch exported nothing for this {type(module).__name__}.")
    return program.model_proto


def _first_line(error: BaseException) -> str:
    """Return the central line of an exporter's error, which is pages long."""
    return str(error).splitlines()[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's own warnings: those above, and that of a missing torchvision."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category, message in _NOISE:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        registry.setLevel(level)


@contextmanager
def _one_registry() -> Iterator[None]:
    """Let the exporter build its table of translations once, to which nothing here adds.

    It parses the source of all of them at each export, which takes half of the time.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # loads with the exporter

    builder = vars(ONNXRegistry)["from_torchlib"]

    def shared(opset_version: int) -> ONNXRegistry:
        if opset_version not in _registries:
            build = builder.__get__(None, ONNXRegistry)
            _registries[opset_version] = build(opset_version=opset_version)
        registry: ONNXRegistry = _registries[opset_version]
        return registry

    setattr(ONNXRegistry, "from_torchlib", staticmethod(shared))  # noqa: B010 - mypy sees a method
    try:
        yield
    finally:
        setattr(ONNXRegistry, "from_torchlib", builder)  # noqa: B010
