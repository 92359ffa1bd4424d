"""Start the runtime that a bundle's model was made for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from edgedistill.bundle.reader import Model
from edgedistill.device.telemetry import cores
from edgedistill.errors import MachineError, UsageError
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings
from edgedistill.saliency.classifier import Classifier

if TYPE_CHECKING:
    # Here: ONNX Runtime starts faster without.
    from edgedistill.runtimes.tensorrt.engine_cache import Engines

_TENSORRT = "tensorrt"
_INTEGER = {"int8", "mixed"}  # precisions in which ONNX Runtime computes with integers


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

    Args:
        model: model with its session settings; threads are limited to this machine's cores.
        threads: CPU threads of one call, instead of those of the settings.
        provider: provider of ONNX Runtime, as for `OrtRuntime`; None is the CPU.
        engines: build options and cache of TensorRT's engines; None for the defaults.
        exact_int8: compute INT8 in ONNX Runtime exactly; False only to time it on a workstation.

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
    settings = _session_settings(model, threads)
    return OrtRuntime(model.path, settings=settings, provider=provider or "cpu", exact_int8=exact)


def _session_settings(model: Model, threads: int | None) -> SessionSettings:
    """Return a model's session settings, on `threads` or on the cores of this machine."""
    settings = model.session or DEFAULT
    return replace(settings, threads=min(settings.threads, cores()) if threads is None else threads)


def _tensorrt(model: Model, engines: Engines | None) -> Runtime:
    # Here: ONNX Runtime starts faster without.
    from edgedistill.runtimes.tensorrt.engine_cache import Engines
    from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime, prepare

    return TensorRtRuntime(prepare(model.path, engines or Engines()).engine)
