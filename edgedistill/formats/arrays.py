"""Arrays of NPZ and NPY files as series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from edgedistill.errors import DataError, ShapeError
from edgedistill.io import npz
from edgedistill.io.arrays import AnyArray, Doubles

_GRID = {"x"}
_OFFSETS = {"values", "offsets"}
NAMES = _GRID | _OFFSETS | {"y"}  # of the arrays that are read


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySeries:
    """Series of arrays, with their labels where there are some."""

    x: AnyArray  # (N, C, T), or all steps one after the other (steps, C)
    offsets: tuple[int, ...] | None  # N + 1, of the second form
    labels: list[str] | None  # as spelled
    unused: tuple[str, ...]  # names of arrays that nothing uses

    @property
    def channels(self) -> int:
        """C."""
        return int(self.x.shape[1])

    def __len__(self) -> int:
        """Return N."""
        return len(self.x) if self.offsets is None else len(self.offsets) - 1

    def series(self) -> Iterator[Doubles]:
        """Yield the series (C, T_i); NaN is a missing value or padding."""
        for index in range(len(self)):
            if self.offsets is None:
                one = self.x[index]
            else:
                one = self.x[self.offsets[index] : self.offsets[index + 1]].T
            with np.errstate(over="ignore"):  # infinity is refused later, by name
                yield one.astype(np.float64)


def read_npz_series(source: Path | IO[bytes], *, is_bounded: bool = True) -> ArraySeries:
    """Read the series of an NPZ file; arrays that nothing uses are not loaded.

    Args:
        source: a file, or a stream that can be sought.
        is_bounded: whether to refuse more than an archive from elsewhere may hold.

    Raises:
        DataError: no NPZ, or not the arrays that `array_series` needs.
        ShapeError: arrays of other shapes.
    """
    names = npz.npz_names(source)
    arrays = npz.read_npz(source, only=NAMES, is_bounded=is_bounded)
    if not arrays.keys() & (_GRID | _OFFSETS):
        raise DataError(_missing(names))
    found = array_series(arrays)
    return replace(found, unused=tuple(sorted({*found.unused, *(set(names) - NAMES)})))


def array_series(arrays: Mapping[str, AnyArray]) -> ArraySeries:
    """Find the series and labels among arrays.

    `x` is (N, C, T) or (N, T). Series of unequal lengths stand one after the other in `values`
    (steps, C), the i-th from `offsets[i]` to `offsets[i + 1]`. `y` is (N,).

    Raises:
        DataError: arrays are missing, or not numbers.
        ShapeError: arrays of other shapes than these.
    """
    names = set(arrays)
    used = _GRID if names >= _GRID else _OFFSETS
    if not names >= used:
        raise DataError(_missing(sorted(names)))
    labels = None if "y" not in names else _labels(arrays["y"])
    unused = tuple(sorted(names - used - {"y"}))  # offsets beside x, or values
    if used is _GRID:
        return ArraySeries(x=_grid(arrays["x"]), offsets=None, labels=labels, unused=unused)
    values, offsets = arrays["values"], arrays["offsets"]
    if values.ndim != 2 or not _cover(offsets, len(values)):
        raise ShapeError(
            f"values has shape {values.shape} and offsets {offsets.shape}; needed are (steps, C) "
            "and N + 1 whole numbers that rise from 0 to the number of steps. "
            "Save them so, or x with NaN as padding."
        )
    return ArraySeries(
        x=_numbers(values, "values"), offsets=tuple(offsets.tolist()), labels=labels, unused=unused
    )


def _missing(names: Sequence[str]) -> str:
    return (
        f"The file holds {', '.join(names) or 'nothing'}; needed is x, or values and offsets, and "
        "y for labels. Save it with np.savez(path, x=x, y=y)."
    )


def _grid(x: AnyArray) -> AnyArray:
    if x.ndim not in (2, 3):
        raise ShapeError(f"x has shape {x.shape}, not (N, C, T) or (N, T). Reshape it.")
    grid = _numbers(x, "x")
    return grid if grid.ndim == 3 else grid[:, None, :]


def _labels(y: AnyArray) -> list[str]:
    if y.ndim != 1:
        raise ShapeError(f"y has shape {y.shape}, not (N,). Give one label a series.")
    try:
        texts: Sequence[str] = y.astype(str).tolist()
    except UnicodeDecodeError as error:
        raise DataError(
            f"y has labels that are no ASCII text: {error}. Save them as str."
        ) from error
    return list(texts)


def _cover(offsets: AnyArray, steps: int) -> bool:
    """Whether offsets rise from 0 to the number of steps."""
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        return False
    ends = offsets.tolist()
    return bool(ends[0] == 0 and ends[-1] == steps and ends == sorted(ends))


def _numbers(array: AnyArray, name: str) -> AnyArray:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has the type {array.dtype}, not numbers. Convert it.")
    return array
