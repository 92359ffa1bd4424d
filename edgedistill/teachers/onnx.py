"""An ONNX file as a classifier, on ONNX Runtime's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from edgedistill.errors import ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.teachers.classifier import check_logits, check_series
from edgedistill.teachers.exact_session import exact_session

_BATCH = 256  # series at once where the file does not fix it
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
}
_ERRORS = (
    UnicodeDecodeError,  # of a name in the file that is no text
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_ONLY_ERRORS_LOGGED = 3


class OnnxClassifier:
    """A model file: its one input, and a named output, that named "logits", or the first (N, K).

    The input is (N, C, T), or (N, T) where C = 1. A file exported for one batch size only is run
    in batches of that size, the last one filled up with zeros. Pickling keeps the path, not the
    session.

    Raises:
        ModelError: the file is missing, damaged, or takes something other than one batch of series.
    """

    can_explain = True
    changes = None

    def __init__(
        self,
        path: Path,
        *,
        classes: int,
        output: str | None = None,
        name: str | None = None,
        threads: int = 0,
    ) -> None:
        self.path = path
        self.classes = classes
        self.name = name or path.name
        self._output = output
        self._threads = threads  # 0: ONNX Runtime's choice, a thread a core
        self._open()

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32.

        Raises:
            ShapeError: the series are not those that the file takes.
            ModelError: the file gives something other than K finite logits a series.
        """
        check_series(x)
        series = self._shaped(x)
        size = self._shape[0] if isinstance(self._shape[0], int) and self._shape[0] else _BATCH
        parts = [self._run(series[i : i + size], size) for i in range(0, len(series), size)]
        logits: Floats = np.concatenate(parts).astype(np.float32)
        check_logits(logits, name=self.name, count=len(x), classes=self.classes)
        return logits

    def on_one_thread(self) -> OnnxClassifier:
        """Return the same model in a session on one thread."""
        return OnnxClassifier(
            self.path, classes=self.classes, output=self._output, name=self.name, threads=1
        )

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all outputs, the one that is used first."""
        names = [
            output.name for output in self._session.get_outputs() if output.name != self._chosen
        ]
        return (self._chosen, *names)

    def _open(self) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ONLY_ERRORS_LOGGED
        options.intra_op_num_threads = self._threads
        try:
            self._session = exact_session(self.path, options)
        except _ERRORS as error:
            raise ModelError(
                f"ONNX Runtime {onnxruntime.__version__} cannot open {self.path}: "
                f"{_first_line(error)}. Copy or export the file again."
            ) from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in {2, 3} or inputs[0].type not in _DTYPES:
            seen = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise ModelError(
                f"{self.path} takes {seen or 'nothing'}. A teacher takes one input of floats, "
                "(N, C, T) or (N, T)."
            )
        self._input = inputs[0].name
        self._shape: list[int | str | None] = inputs[0].shape
        self._dtype = _DTYPES[inputs[0].type]
        self._chosen = self._choose_output()

    def _choose_output(self) -> str:
        """Return the name of the output that is asked for, else of the likeliest logits."""
        outputs = self._session.get_outputs()
        names = [output.name for output in outputs]
        if self._output is None:
            fitting = [o.name for o in outputs if o.type in _DTYPES and self._may_fit(o.shape)]
            named = [name for name in names if name == "logits"]
            return str([*named, *fitting, *names][0])
        if self._output not in names:
            raise ModelError(
                f"{self.path} has no output {self._output!r}. It has {', '.join(names)}."
            )
        return self._output

    def _may_fit(self, shape: Sequence[int | str | None]) -> bool:
        """Whether an output of a shape may be logits, (N, K)."""
        return len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] == self.classes)

    def _shaped(self, x: Floats) -> Floats:
        """Return the series in the rank that the file takes; refuse another C or T."""
        if len(self._shape) == 2 and x.shape[1] != 1:
            raise ShapeError(
                f"{self.path} takes (N, T), series of one channel; these have {x.shape[1]}. "
                "Take a teacher of this data set."
            )
        series = x[:, 0] if len(self._shape) == 2 else x
        wanted = self._shape[1:]
        if any(
            isinstance(w, int) and w != s for w, s in zip(wanted, series.shape[1:], strict=True)
        ):
            raise ShapeError(
                f"{self.path} takes series of shape {tuple(wanted)}; these are "
                f"{series.shape[1:]}. Set the recipe's length to the teacher's, or export the "
                "teacher with the axes (N, C, T)."
            )
        return series

    def _run(self, batch: Floats, size: int) -> Floats:
        filled = batch
        if isinstance(self._shape[0], int) and len(batch) < size:
            filled = np.zeros((size, *batch.shape[1:]), dtype=batch.dtype)
            filled[: len(batch)] = batch
        try:
            (output,) = self._session.run([self._chosen], {self._input: filled.astype(self._dtype)})
        except _ERRORS as error:
            raise ModelError(
                f"{self.path} fails on series of shape {batch.shape}: {_first_line(error)}. "
                "Run it where it was exported."
            ) from error
        if not isinstance(output, np.ndarray) or output.ndim == 0 or output.dtype.kind != "f":
            kind = output.dtype if isinstance(output, np.ndarray) else type(output).__name__
            raise ModelError(
                f"Output {self._chosen} of {self.path} is no tensor of logits, (N, K), but of kind "
                f"{kind}. Export the model with its logits or probabilities as an output, without "
                "the ZipMap that turns them into dictionaries."
            )
        rows: Floats = output[: len(batch)]
        return rows[:, None] if rows.ndim == 1 and self.classes == 1 else rows


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
