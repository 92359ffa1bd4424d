"""The series of an NPZ file, read as the workstation reads such files. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numpy as np

from edgedistill.device.predict.inputs import MAX_VALUES, Item
from edgedistill.errors import DataError, ShapeError
from edgedistill.io.arrays import AnyArray, Doubles
from edgedistill.io.npz import read_npz


def npz_items(stream: IO[bytes], channels: int) -> Iterator[Item]:
    """Yield the series of an NPZ file, placed as {"row": i}, counted from 0.

    NaN is a missing value; where all NaN of the file stand at the ends of series, they are
    padding.

    Args:
        stream: of the file; it can be sought.
        channels: that a series has.

    Raises:
        DataError: no NPZ file, a damaged one, or one without numbers in `x`.
        ShapeError: `x` has other axes or channels.
    """
    x = _checked(read_npz(stream), channels)
    padded = not any(_has_inner_gap(one) for one in x)
    for row, one in enumerate(x):
        with np.errstate(over="ignore"):  # infinity is refused later, by name
            series: Doubles = one.astype(np.float64)
        yield Item(place={"row": row}, series=series[:, : _length(series)] if padded else series)


def _checked(arrays: dict[str, AnyArray], channels: int) -> AnyArray:
    """Return the series (N, C, T)."""
    if "x" not in arrays:
        names = ", ".join(map(repr, list(arrays)[:5])) or "nothing"
        raise DataError(f"The NPZ file holds {names}, but no x. Save it with np.savez(path, x=x).")
    x = arrays["x"]
    if x.dtype.kind not in "fiub":
        raise DataError(f"x has the type {x.dtype}, not numbers. Convert it.")
    if x.ndim == 2:
        x = x[:, None, :]
    if x.ndim != 3 or x.shape[1] != channels or x[:1].size > MAX_VALUES:
        raise ShapeError(
            f"x has shape {arrays['x'].shape}; the model takes (N, {channels}, T)"
            f"{' or (N, T)' if channels == 1 else ''}, with at most {MAX_VALUES} values a series."
        )
    return x


def _has_inner_gap(one: AnyArray) -> bool:
    return one.dtype.kind == "f" and bool(np.isnan(one[:, : _length(one)]).any())


def _length(one: AnyArray) -> int:
    """Return T without trailing NaN; a series of nothing else keeps its length, to be refused."""
    if one.dtype.kind != "f":
        return int(one.shape[1])
    present = np.flatnonzero(~np.isnan(one).all(axis=0))
    return int(present[-1]) + 1 if len(present) else int(one.shape[1])
