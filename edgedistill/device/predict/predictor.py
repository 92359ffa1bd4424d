"""Prediction of recorded series: class, probabilities and, on request, saliency.

NumPy and the runtime only. A class needs neither the golden set nor saliency, so neither is
imported for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.bundle.reader import Bundle
from edgedistill.device.predict.inputs import MAX_LINE_BYTES, Item, SeriesLines
from edgedistill.device.runtime import Runtime
from edgedistill.errors import DataError, ModelError, ShapeError, UsageError
from edgedistill.formats.cells import MAX_VALUES
from edgedistill.io.arrays import Doubles, Floats

_VALUE_BYTES = 32  # of a float64 in text, with what separates it
_LONGER = 4  # times the longest training series; longer ones are more likely a mistake
_OTHER_BYTES = 1 << 16  # for an id and keys that are ignored
# Callback for every prediction: the model's input (C, T), its logits (K,), and the signed map
# (W,) where one was computed.
Observer = Callable[[Floats, Floats, "Floats | None"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Class, probabilities and saliency of one series."""

    index: int  # of the class, in the order of the logits
    probabilities: NDArray[np.float64]  # (K,)
    signed: Floats | None = None  # support of each window for the class, (W,), in logits


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionResult:
    """A prediction, or why there is none."""

    item: Item
    prediction: Prediction | None
    error: str | None = None


class Predictor:
    """A bundle's model for recorded series.

    Args:
        bundle: open bundle.
        runtime: runtime of one of its models.
        preprocessed: whether series are model inputs already, float32 (C, T).
        saliency: whether every prediction has the signed map of its class.
        observer: callback for every prediction.
        observe_every: N, where the observer gets a map of every Nth prediction; 0: only maps that
            are computed anyway.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        preprocessed: bool = False,
        saliency: bool = False,
        observer: Observer | None = None,
        observe_every: int = 0,
    ) -> None:
        self.class_names = bundle.class_names
        self.plan = bundle.plan
        self.preprocessing = bundle.preprocessing
        self.preprocessed = preprocessed
        # How input files are read; model inputs are not in the form of the training files.
        self.schema = None if preprocessed else bundle.input_schema
        self.saliency = saliency
        self._runtime = runtime
        self._observer = observer
        self._observe_every = observe_every
        self._count = 0
        self._has_failed = False  # the model, with an item since the last check

    @property
    def channels(self) -> int:
        """Channels that a series must have."""
        recorded, made = self.preprocessing.input_channels, self.preprocessing.channels
        return made if self.preprocessed else recorded

    @property
    def max_line_bytes(self) -> int:
        """Longest line that a series of this model can reasonably have.

        That is four times the steps of the longest training series, in the longest decimal numbers.
        A sound has more samples than the model has frames, so its lines have the general bound.
        """
        if self.preprocessing.sample_rate_hz is not None and not self.preprocessed:
            return MAX_LINE_BYTES
        longest: int = max(self.preprocessing.length, self.schema.widths[1] if self.schema else 0)
        values = self.channels * _LONGER * longest
        return min(MAX_LINE_BYTES, _OTHER_BYTES + values * _VALUE_BYTES)

    def lines(self, *, max_bytes: int = MAX_LINE_BYTES, count: int = 0) -> SeriesLines:
        """Return a parser of series that come one by one, where no line is a header.

        Args:
            max_bytes: longest line, which the error of a longer one names.
            count: number of lines before the first.
        """
        return SeriesLines(
            self.channels,
            self.schema,
            self.class_names,
            header=False,
            max_bytes=max_bytes,
            count=count,
        )

    def warm_up(self) -> None:
        """Predict a series of zeros once, so that the first real one does not wait."""
        shape = 1, self.preprocessing.channels, self.preprocessing.length
        self._run_model(np.zeros(shape, dtype=np.float32), explain=self._wants_map(0))

    def predict(self, series: NDArray[np.floating]) -> Prediction:
        """Predict one series, (C, T_i).

        Raises:
            DataError: the series has no values, or infinite ones.
            ShapeError: it has other channels or, preprocessed, another length.
            ModelError: the model fails, or gives logits that are not finite.
        """
        x = self._input(series)
        logits, signed = self._run_model(x, explain=self._wants_map(self._count))
        self._count += 1
        if self._observer is not None:
            self._observer(x[0], logits, signed)
        return Prediction(
            index=int(logits.argmax()),
            probabilities=_softmax(logits),
            signed=signed if self.saliency else None,
        )

    def predict_item(self, item: Item) -> PredictionResult:
        """Predict an item; the result holds the reason where there is no prediction."""
        if item.series is None:
            return PredictionResult(item=item, prediction=None, error=item.error)
        try:
            return PredictionResult(item=item, prediction=self.predict(item.series))
        except DataError as error:
            self._has_failed |= isinstance(error, ModelError)
            return PredictionResult(item=item, prediction=None, error=str(error))

    def check(self) -> None:
        """Run the model on zeros if it has failed since the last check.

        Raises:
            ModelError: it fails with them too, so no item was the reason.
        """
        if self._has_failed:
            self._has_failed = False
            self.warm_up()

    def windows(self, length: int | None, stride: int | None) -> SlidingWindows:
        """Return the sliding windows of a stream for the model.

        Args:
            length: steps of a window; None for the length of the model's input.
            stride: steps from window to window; None for a window.

        Raises:
            UsageError: the model takes features of a sound, whose length in steps only the user
                can give; or a number is out of bounds.
        """
        if length is None:
            if self.preprocessing.sample_rate_hz is not None and not self.preprocessed:
                raise UsageError(
                    f"The model takes {self.preprocessing.length} frames of a sound. Say with "
                    "--window how many samples of the waveform a window has."
                )
            length = self.preprocessing.length
        return SlidingWindows(self.channels, length, length if stride is None else stride)

    def _wants_map(self, count: int) -> bool:
        observed = self._observer is not None and self._observe_every > 0
        return self.saliency or (observed and count % self._observe_every == 0)

    def _input(self, series: NDArray[np.floating]) -> Floats:
        if not self.preprocessed:
            return self.preprocessing.apply([series])
        wanted = self.preprocessing.channels, self.preprocessing.length
        if series.shape != wanted:
            raise ShapeError(
                f"The series has shape {series.shape}; preprocessed ones have {wanted}. Leave "
                "--preprocessed out for series as they were recorded."
            )
        with np.errstate(over="ignore"):
            x = series[None].astype(np.float32)
        if not np.isfinite(x).all():
            raise DataError(
                "The series has missing or infinite values, which no preprocessed one has."
            )
        return x

    def _run_model(self, x: Floats, *, explain: bool) -> tuple[Floats, Floats | None]:
        """Return the logits (K,) and the signed map (W,) of a model's input (1, C, T)."""
        if explain:
            from edgedistill.saliency import occlusion

            found = occlusion.explain_classifier(self._runtime, x, self.plan)
            logits, signed = found.logits, found.signed[0]
        else:
            logits, signed = self._runtime.logits(x), None
        classes = len(self.class_names)
        if logits.shape != (1, classes) or not np.isfinite(logits).all():
            raise ModelError(
                f"The model gave logits of shape {logits.shape} that may not be finite; "
                f"{classes} finite ones are needed. Validate the bundle on this machine."
            )
        return logits[0], signed


class SlidingWindows:
    """Sliding windows over a stream of time steps, in memory of one window.

    Args:
        channels: number of channels of a step.
        length: number of steps of a window.
        stride: steps from the start of a window to that of the next; beyond `length` some steps
            are in no window.

    Raises:
        UsageError: length or stride is below 1, or a window is larger than a series can be.
    """

    def __init__(self, channels: int, length: int, stride: int) -> None:
        if length < 1 or stride < 1:
            raise UsageError(f"The window is {length} steps and the hop {stride}; give at least 1.")
        if channels * length > MAX_VALUES:
            raise UsageError(
                f"A window of {length} steps of {channels} channels is too large; at most "
                f"{MAX_VALUES} values are held."
            )
        self._steps: deque[Doubles] = deque(maxlen=length)
        self._length = length
        self._stride = stride
        self._gap = np.full(channels, np.nan)
        self.count = 0  # steps so far

    def push(self, step: Doubles | None) -> tuple[int, Doubles] | None:
        """Take a step (C,), or None for one that is missing.

        Returns:
            First step and values (C, length) of the window that ends here, if one does.
        """
        self._steps.append(self._gap if step is None else step)
        self.count += 1
        start = self.count - self._length
        if start < 0 or start % self._stride:
            return None
        return start, np.stack(self._steps, axis=1)

    @property
    def left_over(self) -> int:
        """Steps after the last window, which were in none."""
        whole = self.count - self._length
        if whole < 0:
            return self.count
        last = whole - whole % self._stride
        return max(0, self.count - (last + self._length))


def _softmax(logits: Floats) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    probabilities: NDArray[np.float64] = shifted / shifted.sum()
    return probabilities
