"""What a classifier is, and its logits for perturbed copies in batches within a bound on memory.

Networks of torch, ONNX Runtime, TensorRT, fitted estimators, files of logits and the emulation of
a device are classifiers, whoever is the teacher or the student among them. A call takes as many
copies as pay, at most a bound on memory, and fewer after the model ran out of memory. NumPy only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgedistill.errors import ConfigError, MachineError, ModelError
from edgedistill.io.arrays import Floats, Ints

LogitsFn = Callable[[Floats], Floats]  # series (N, C, T) -> logits (N, K)
# Series (N, C, T), starts (W,) or (N, W), patches (N, W, C, w) -> how windows change the logits,
# (N, W, K)
ChangesFn = Callable[[Floats, Ints, Floats], Floats]
MEMORY_BYTES = 512 * 1024**2  # of copies at any time
FIRST_BATCH = 32  # copies of the first call, where the size is tuned
LEAST_GAIN = 1.1  # in copies a second, for which a call is made twice as large
_OUT_OF_MEMORY = (  # messages of torch, ONNX Runtime and C++
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "bad allocation",
)


class Classifier(Protocol):
    """Something that gives logits for series."""

    @property
    def name(self) -> str:
        """Name for messages and reports."""

    @property
    def classes(self) -> int:
        """K; 0 where a model file leaves it open."""

    @property
    def can_explain(self) -> bool:
        """Whether it takes any series, perturbed ones too; a file of logits takes its own only."""

    @property
    def changes(self) -> ChangesFn | None:
        """Computes the logits of perturbed copies faster; None where each copy is run."""

    def logits(self, x: Floats, /) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32."""


class Session(Protocol):
    """The used interface of an ONNX Runtime session."""

    def get_inputs(self) -> Sequence[Any]:
        """Return its inputs; the first one takes the series."""

    def run(self, names: None, feeds: dict[str, Any]) -> Sequence[Any]:
        """Return the outputs, logits first."""


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """Some windows of some series: the copies of one call."""

    rows: slice  # of the series
    windows: slice

    @property
    def count(self) -> int:
        """Number of copies in the batch."""
        rows, windows = self.rows, self.windows
        return int((rows.stop - rows.start) * (windows.stop - windows.start))


class BatchSizer:
    """Number of copies in one call.

    A fixed number; or, with None, one that is doubled on the real work for as long as
    that gives at least a tenth more copies a second. Copies that do not fit into memory
    halve either.
    """

    def __init__(self, size: int | None, copy_bytes: int, memory_bytes: int) -> None:
        """Start with a size, at most what the bound on memory allows.

        Args:
            size: number of copies in one call; None tunes it.
            copy_bytes: bytes of one copy.
            memory_bytes: bound on the bytes of the copies in one call.

        Raises:
            ConfigError: not one copy fits into memory, or the size is below 1.
        """
        if size is not None and size < 1:
            raise ConfigError(f"batch is {size}; give 1 copy or more, or None to have it found.")
        self._limit = memory_bytes // copy_bytes
        if self._limit < 1:
            raise ConfigError(
                f"{memory_bytes} bytes of memory do not hold one copy, which takes {copy_bytes}. "
                "Allow at least that many."
            )
        self._growing = size is None
        self._best, self._rate = 1, 0.0
        self.size = min(FIRST_BATCH if size is None else size, self._limit)

    def record_call(self, count: int, seconds: float) -> None:
        """Adapt the size to the speed of a call; short calls do not count."""
        if not self._growing or 2 * count <= self.size:
            return
        rate = count / max(seconds, 1e-9)
        if rate < LEAST_GAIN * self._rate:
            self.size, self._growing = self._best, False
            return
        self._best, self._rate = self.size, rate
        self.size = min(2 * self.size, self._limit)
        self._growing = self.size > self._best

    def shrink(self, count: int) -> None:
        """Halve the size, because memory did not hold `count` copies."""
        self.size, self._growing = max(1, count // 2), False


def batched_logits(
    compute: Callable[[WindowBatch], Floats],
    samples: int,
    windows: int,
    batch: BatchSizer,
    on_progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Return the logits of every window of every series, (N, W, K), batch by batch.

    Args:
        compute: function from a batch of n series and m windows to logits (n, m, K).
        samples: number of series, N.
        windows: number of windows, W.
        batch: number of copies in one call; it adapts here.
        on_progress: callback after each call, with copies done and copies in all.

    Raises:
        MachineError: memory does not hold what the model needs for a single copy.
        ModelError: the model changes its number of classes.
    """
    found: Floats | None = None
    done = 0  # copies, counted series by series
    while done < samples * windows:
        piece = _next_batch(done, samples, windows, batch.size)
        began = time.perf_counter()
        logits = _try_compute(compute, piece)
        if logits is None:
            batch.shrink(piece.count)
            continue
        batch.record_call(piece.count, time.perf_counter() - began)
        if found is None:
            found = np.empty((samples, windows, logits.shape[-1]), dtype=np.float32)
        _check_class_count(found, logits)
        found[piece.rows, piece.windows] = logits
        done += piece.count
        if on_progress is not None:
            on_progress(done, samples * windows)
    return np.empty((samples, windows, 0), dtype=np.float32) if found is None else found


def session_logits(session: Session) -> Callable[[Floats], Floats]:
    """Return an ONNX Runtime session as a callable, (N, C, T) -> (N, K).

    It takes series at its first input, N being free, and gives logits at its first output.
    """
    name = session.get_inputs()[0].name

    def logits(series: Floats) -> Floats:
        found: Floats = session.run(None, {name: series})[0]
        return found

    return logits


def _next_batch(done: int, samples: int, windows: int, size: int) -> WindowBatch:
    """Return the next batch: whole series where they fit, else windows of one."""
    row, window = divmod(done, windows)
    if window == 0 and size >= windows:
        return WindowBatch(slice(row, min(row + size // windows, samples)), slice(0, windows))
    return WindowBatch(slice(row, row + 1), slice(window, min(window + size, windows)))


def _try_compute(compute: Callable[[WindowBatch], Floats], batch: WindowBatch) -> Floats | None:
    """Return the logits; None if memory did not hold the batch, and a smaller one may fit."""
    try:
        return compute(batch)
    except (MemoryError, RuntimeError, ModelError) as error:
        if not _is_out_of_memory(error):
            raise
        if batch.count == 1:
            raise MachineError(
                f"The model runs out of memory on a single series ({error}). Free some memory, "
                "or take a smaller model or shorter series."
            ) from error
        return None


def _check_class_count(expected: Floats, logits: Floats) -> None:
    if logits.shape[-1] != expected.shape[-1]:
        raise ModelError(
            f"The model gave {expected.shape[-1]} logits a series, then {logits.shape[-1]}. "
            "Bring one that always answers for the same classes."
        )


def _is_out_of_memory(error: Exception) -> bool:
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(words in message for words in _OUT_OF_MEMORY)
