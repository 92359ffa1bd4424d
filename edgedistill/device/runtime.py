"""Start the runtime that a bundle's model was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgedistill.bundle.reader import Model
from edgedistill.device.telemetry import cores
from edgedistill.errors import MachineError, UsageError
from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.onnxruntime import CPU, ORT_FORMAT, PROVIDERS, OrtRuntime
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings
from edgedistill.saliency.classifier import Classifier

if TYPE_CHECKING:
    # Here: ONNX Runtime starts faster without.
    from edgedistill.report.facts import Int8Arithmetic, Sums
    from edgedistill.runtimes.tensorrt.engine_cache import Engines

_TENSORRT = "tensorrt"
_INTEGER = {"int8", "mixed"}  # precisions in which ONNX Runtime computes with integers
_ORT_VARIANT = "-ort"  # ends the name of an .ort file in a bundle, beside its ONNX file


class Runtime(Classifier, Protocol):
    """A loaded model, whatever runs it; its name is the runtime's, such as "onnxruntime"."""

    def describe(self) -> dict[str, str]:
        """Return how the model is run: versions and settings, name to text."""


def start(
    model: Model,
    *,
    threads: int | None = None,
    provider: str | None = None,
    engines: Engines | None = None,
    exact_int8: bool = True,
) -> Runtime:
    """Load a bundle's model into the runtime that it was made for.

    The graph of an .ort file is fixed: where this processor's fast INT8 sums saturate, the file
    cannot be exact, and its ONNX file is loaded in its place if it lies beside it.

    Args:
        model: model with its session settings; threads are limited to this machine's cores.
        threads: CPU threads of one call, instead of those of the settings.
        provider: provider of ONNX Runtime, as for `OrtRuntime`; None is the CPU.
        engines: build options and cache of TensorRT's engines; None for the defaults.
        exact_int8: compute INT8 in ONNX Runtime exactly; False only to time it on a workstation
            as a board computes.

    Raises:
        MachineError: the runtime is unknown to this build, or not installed; or its provider is
            missing or does not run all of the model.
        ModelError: the runtime cannot load the model.
        UsageError: threads is below 1, or the model's runtime has no providers.
    """
    if model.runtime == _TENSORRT:
        if provider is not None:
            raise UsageError(
                f"Model {model.name!r} runs in TensorRT itself, which has no providers. Leave "
                f"--provider out, or choose a model for {OrtRuntime.name!r} with --model."
            )
        return _tensorrt(model, engines)
    if model.runtime != OrtRuntime.name:
        raise MachineError(
            f"Model {model.name!r} is made for {model.runtime!r}, which this build cannot run. "
            f"Choose a model for {OrtRuntime.name!r} with --model, or install a newer edgedistill."
        )
    exact = exact_int8 and model.precision in _INTEGER
    path = _exact_file(model) if exact and instruction_set().saturates else model.path
    return OrtRuntime(
        path or model.path,
        settings=_session_settings(model, threads),
        provider=provider or "cpu",
        exact_int8=exact,
    )


def is_exact(model: Model, *, provider: str | None = None) -> bool:
    """Return whether the sums of 8-bit products, if there are any, are exact where `start` runs.

    Args:
        model: model of a bundle.
        provider: provider of ONNX Runtime, as for `start`.
    """
    may_saturate = _sums_on_cpu(model, provider) and instruction_set().saturates
    return not may_saturate or _exact_file(model) is not None


def int8_arithmetic(
    model: Model, *, provider: str | None = None, timed_exact: bool | None = True
) -> Int8Arithmetic | None:
    """Return the sums of 8-bit products of a model that `start` runs on this processor.

    Args:
        model: model of a bundle.
        provider: provider of ONNX Runtime, as for `start`.
        timed_exact: `exact_int8` of the session that was timed; None if none was.

    Returns:
        None for a model without 8-bit products, or one that another processor computes.
    """
    from edgedistill.report.facts import Int8Arithmetic  # here: `predict` starts faster without

    if not _sums_on_cpu(model, provider):
        return None
    instructions = instruction_set()
    fast: Sums = "saturating" if instructions.saturates else "exact"
    measured: Sums = "exact" if is_exact(model, provider=provider) else "saturating"
    return Int8Arithmetic(
        measured=measured,
        timed=None if timed_exact is None else measured if timed_exact else fast,
        instructions=instructions.name,
    )


def _sums_on_cpu(model: Model, provider: str | None) -> bool:
    """Return whether a CPU sums 8-bit products of a model."""
    on_cpu = model.runtime == OrtRuntime.name and PROVIDERS.get(provider or "cpu", provider) == CPU
    return on_cpu and model.precision in _INTEGER


def _exact_file(model: Model) -> Path | None:
    """Return the file of a model that computes exactly everywhere; None if it is not there.

    Variant folders hold ort-int8.onnx and ort-int8.ort, bundles ort-int8.onnx and ort-int8-ort.ort.
    """
    if model.path.suffix != ORT_FORMAT:
        return model.path
    source = model.path.with_name(f"{model.path.stem.removesuffix(_ORT_VARIANT)}.onnx")
    return source if source.is_file() else None


def _session_settings(model: Model, threads: int | None) -> SessionSettings:
    """Return a model's session settings, on `threads` or on the cores of this machine."""
    settings = model.session or DEFAULT
    return replace(settings, threads=min(settings.threads, cores()) if threads is None else threads)


def _tensorrt(model: Model, engines: Engines | None) -> Runtime:
    # Here: ONNX Runtime starts faster without.
    from edgedistill.runtimes.tensorrt.engine_cache import Engines
    from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime, prepare

    return TensorRtRuntime(prepare(model.path, engines or Engines()).engine)
