"""ONNX Runtime: the one runtime that every board has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from edgedistill.errors import MachineError, ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings
from edgedistill.runtimes.sessions import open_session, translate_ort_errors


class OrtRuntime:
    """An ONNX model in an ONNX Runtime session.

    Args:
        path: of the ONNX or .ort file; one float32 input (N, C, T) and one float32 output (N, K),
            where N is free.
        settings: of the session.
        provider: who computes: "cpu", "cuda", "tensorrt", or ONNX Runtime's name of another one.
        exact_int8: compute INT8 exactly; False only to time it.

    Raises:
        MachineError: ONNX Runtime or the provider is missing on this machine, or the provider
            leaves a part of the model to the CPU.
        ModelError: the file is no model that this ONNX Runtime can run, or of other shapes.
    """

    name: ClassVar[str] = "onnxruntime"
    can_explain: ClassVar[bool] = True
    changes: ClassVar[None] = None

    def __init__(
        self,
        path: Path,
        *,
        settings: SessionSettings = DEFAULT,
        provider: str = "cpu",
        exact_int8: bool = True,
    ) -> None:
        self._path = path
        self._settings = settings
        self._ort = _onnxruntime()
        self._session = open_session(self._ort, path, settings, provider, exact_int8=exact_int8)
        with translate_ort_errors(path):  # a name that is no text
            self._input = _one_tensor("input", self._session.get_inputs(), 3, path)
            self._output = _one_tensor("output", self._session.get_outputs(), 2, path)
        columns = self._output.shape[1]
        self.classes = columns if isinstance(columns, int) else 0

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
        with translate_ort_errors(self._path):
            (logits,) = self._session.run([self._output.name], {self._input.name: batch})
        result: Floats = logits
        return result

    def describe(self) -> dict[str, str]:
        """Return version, providers in use and settings, as text."""
        return {
            "runtime": f"{self.name} {self._ort.__version__}",
            "providers": ", ".join(self._session.get_providers()),
            "session": str(self._settings),
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


def _one_tensor(what: str, tensors: Sequence[Any], rank: int, path: Path) -> Any:
    """Return the model's only input or output if it is float32, of this rank, with free N."""
    seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in tensors) or "not there"
    right = [
        item
        for item in tensors
        if item.type == "tensor(float)"
        and len(item.shape) == rank
        and not isinstance(item.shape[0], int)
    ]
    if len(tensors) != 1 or not right:
        axes = "(N, C, T)" if rank == 3 else "(N, K)"
        raise ModelError(
            f"The {what} of {path.name} is {seen}; one float32 {axes} with free N is needed. "
            "Export the model with edgedistill, with a dynamic batch."
        )
    return right[0]
