"""Histograms that calibration collected, kept in a folder, so that they are collected once.

All that a method reads off the series is in them: one file serves every method, every set of nodes
that stay float, and every search. It is found by what it was made from, the model and the series.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from edgedistill.errors import DataError
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.io.npz import read_npz
from edgedistill.optimize.quantization.calibration import BINS, Histogram, Observe, observe


def cached_observer(folder: Path) -> Observe:
    """Return what gives the histograms of a model on series, from a folder if they are there.

    A file that is damaged is made anew. Files may be removed at any time.

    Args:
        folder: made if need be; several runs may share it.
    """

    def observed(model: onnx.ModelProto, series: Floats) -> dict[str, Histogram]:
        path = folder / f"{key(model, series)}.npz"
        with suppress(DataError):
            return _read(path)
        found = observe(model, series)
        with files.whole_file(path) as partial:
            _write(found, partial)
        return found

    return observed


def key(model: onnx.ModelProto, series: Floats) -> str:
    """Return the hash of all that histograms depend on: model, series, bins, ONNX Runtime."""
    return files.fingerprint(
        {
            "model": sha256(model.SerializeToString(deterministic=True)).hexdigest(),
            "series": sha256(np.ascontiguousarray(series).tobytes()).hexdigest(),
            "shape": list(series.shape),
            "bins": BINS,
            "onnxruntime": onnxruntime.__version__,
        }
    )


def _write(histograms: dict[str, Histogram], path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(
            stream,
            names=np.array(list(histograms)),
            counts=np.array([histogram.counts for histogram in histograms.values()]),
            limits=np.array([(histogram.low, histogram.high) for histogram in histograms.values()]),
        )


def _read(path: Path) -> dict[str, Histogram]:
    arrays = read_npz(path)
    names, counts, limits = (arrays.get(name) for name in ("names", "counts", "limits"))
    if names is None or counts is None or limits is None:
        raise DataError(f"{path} holds no histograms. Remove it.")
    return {
        str(name): Histogram(count.astype(np.int64), float(low), float(high))
        for name, count, (low, high) in zip(names, counts, limits.tolist(), strict=True)
    }
