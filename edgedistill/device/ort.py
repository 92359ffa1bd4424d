"""ONNX Runtime: the one runtime that every board has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from edgedistill.errors import MachineError, ModelError, ShapeError, UsageError
from edgedistill.perturbation import Floats

CPU = "CPUExecutionProvider"
_ERRORS_ONLY = 3  # ORT's severity; its warnings are about its own graph passes


class OrtRuntime:
    """An ONNX model in an ONNX Runtime session.

    Args:
        path: of the ONNX file; one float32 input (N, C, T) and one float32 output (N, K),
            where N is free.
        threads: CPU threads of one call.
        providers: execution providers, best first. Unless it is the CPU alone, no part of the
            model may fall back to the CPU; ORT itself would do so without an error.

    Raises:
        MachineError: ONNX Runtime or a provider is missing on this machine.
        ModelError: the file is no model that this ONNX Runtime can run, or of other shapes.
        UsageError: threads is below 1.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 1, providers: Sequence[str] = (CPU,)) -> None:
        if threads < 1:
            raise UsageError(f"threads is {threads}; give 1 or more.")
        self._path = path
        self._threads = threads
        self._ort = _onnxruntime()
        self._session = _session(self._ort, path, threads, tuple(providers))
        self._input = _one_tensor("input", self._session.get_inputs(), 3, path)
        self._output = _one_tensor("output", self._session.get_outputs(), 2, path)

    def logits(self, series: Floats) -> Floats:
        """Return the logits of a batch, (N, C, T) -> (N, K).

        Raises:
            ShapeError: the series are not what the model takes.
            ModelError: ONNX Runtime fails while it runs the model.
        """
        wanted = self._input.shape
        fits = series.ndim == 3 and all(
            not isinstance(want, int) or want == have
            for want, have in zip(wanted[1:], series.shape[1:], strict=True)
        )
        if not fits:
            raise ShapeError(
                f"Got series of shape {series.shape} for {self._path.name}, which takes "
                f"{tuple(wanted)}. Preprocess them with the bundle's preprocessing."
            )
        batch = np.ascontiguousarray(series, dtype=np.float32)
        with _explained(self._path):
            (logits,) = self._session.run([self._output.name], {self._input.name: batch})
        result: Floats = logits
        return result

    def describe(self) -> dict[str, str]:
        """Return version, providers in use and threads, as text."""
        return {
            "runtime": f"{self.name} {self._ort.__version__}",
            "providers": ", ".join(self._session.get_providers()),
            "threads": str(self._threads),
        }


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError(
            f"ONNX Runtime cannot be loaded on this machine ({error}). Install it with: "
            "python -m pip install onnxruntime"
        ) from error
    module: ModuleType = onnxruntime
    return module


def _session(ort: ModuleType, path: Path, threads: int, providers: tuple[str, ...]) -> Any:
    available = ort.get_available_providers()
    missing = [provider for provider in providers if provider not in available]
    if missing or not providers:
        raise MachineError(
            f"ONNX Runtime {ort.__version__} on this machine has no {', '.join(missing)}; it has "
            f"{', '.join(available)}. Install the build of ONNX Runtime for this board, for a "
            "CUDA device: python -m pip install onnxruntime-gpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    if providers == (CPU,):
        with _explained(path):
            return ort.InferenceSession(str(path), sess_options=options, providers=[CPU])
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        with _explained(path):
            return ort.InferenceSession(str(path), sess_options=options, providers=list(providers))
    except ModelError as error:
        raise MachineError(
            f"{', '.join(providers)} does not run all of {path.name} on this machine. {error} If "
            "the CPU can run it, check the provider's driver and libraries."
        ) from error


def _one_tensor(what: str, found: Sequence[Any], rank: int, path: Path) -> Any:
    """Return the model's only input or output if it is float32, of this rank, with free N."""
    seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in found)
    only = found[0]
    right = len(found) == 1 and only.type == "tensor(float)" and len(only.shape) == rank
    if not right or isinstance(only.shape[0], int):
        axes = "(N, C, T)" if rank == 3 else "(N, K)"
        raise ModelError(
            f"The {what} of {path.name} is {seen}; one float32 {axes} with free N is needed. "
            "Export the model with edgedistill, with a dynamic batch."
        )
    return only


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what ONNX Runtime raises, which share no base class, into one of ours."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    raised: tuple[type[Exception], ...] = (
        RuntimeError,
        ValueError,
        *(kind for kind in kinds if issubclass(kind, Exception)),
    )
    try:
        yield
    except raised as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"ONNX Runtime cannot run {path.name}: {first_line}. Copy or export the model again."
        ) from error
