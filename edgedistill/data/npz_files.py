"""NPZ files: `x` and `y`, or for unequal lengths `values`, `offsets` and `y`."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries, without_padding
from edgedistill.data.text import to_label
from edgedistill.errors import DataError, ShapeError
from edgedistill.io.arrays import AnyArray, Floats

_DAMAGED = (zipfile.BadZipFile, zlib.error, RuntimeError)  # the last for an encrypted member


def read_npz(path: Path) -> RawSeries:
    """Read the series of an NPZ file; pickled objects are never loaded.

    `x` is (N, C, T) or (N, T), NaN at the end is padding. Series of unequal lengths stand one
    after the other in `values` (steps, C), the i-th from `offsets[i]` to `offsets[i + 1]`.
    `y` is (N,): whole numbers or text.

    Raises:
        DataError: not an NPZ file, arrays missing, pickled, or not numbers.
        ShapeError: arrays of other shapes than these.
    """
    arrays = _arrays(path)
    if "x" in arrays:
        series = _from_grid(arrays["x"], path)
    else:
        series = _from_offsets(arrays["values"], arrays["offsets"], path)
    y = arrays["y"]
    if y.ndim != 1:
        raise ShapeError(f"{path}: y has shape {y.shape}, not (N,). Give one label a series.")
    labels = [to_label(text, path, row) for row, text in enumerate(y.astype(str).tolist())]
    return RawSeries(series=series, labels=labels, origin=str(path))


def _arrays(path: Path) -> dict[str, AnyArray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = set(archive.files)
            if not ({"x", "y"} <= names or {"values", "offsets", "y"} <= names):
                raise DataError(
                    f"{path} holds {', '.join(sorted(names)) or 'nothing'}; needed are x and y, "
                    "or values, offsets and y. Save it with np.savez(path, x=x, y=y)."
                )
            used = names & {"x", "y", "values", "offsets"}
            return {name: archive[name] for name in used}
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (ValueError, EOFError, AttributeError, TypeError, *_DAMAGED) as error:
        # np.load gives a bare array for a .npy file: no context manager, hence the TypeError.
        raise DataError(
            f"{path} is not an NPZ file of plain arrays: {error}. Save numbers and text with "
            "np.savez, not objects: those are pickled, and never loaded."
        ) from error


def _from_grid(x: AnyArray, path: Path) -> list[Floats]:
    if x.ndim not in (2, 3):
        raise ShapeError(f"{path}: x has shape {x.shape}, not (N, C, T) or (N, T).")
    grid = _float32(x, "x", path)
    return without_padding(list(grid if grid.ndim == 3 else grid[:, None, :]))


def _from_offsets(values: AnyArray, offsets: AnyArray, path: Path) -> list[Floats]:
    if values.ndim != 2 or not _cover(offsets, len(values)):
        raise ShapeError(
            f"{path}: values has shape {values.shape} and offsets {offsets.shape}; needed are "
            "(steps, C) and N + 1 whole numbers that rise from 0 to the number of steps."
        )
    rows = _float32(values, "values", path)
    return [np.ascontiguousarray(steps.T) for steps in np.split(rows, offsets[1:-1].tolist())]


def _cover(offsets: AnyArray, steps: int) -> bool:
    """Whether offsets rise from 0 to the number of steps."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        return False
    ends = offsets.tolist()
    return bool(ends[0] == 0 and ends[-1] == steps and ends == sorted(ends))


def _float32(array: AnyArray, name: str, path: Path) -> Floats:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: {name} has the type {array.dtype}, not numbers. Convert it.")
    with np.errstate(over="ignore"):  # `check_series` refuses infinity, with its place
        return array.astype(np.float32)
