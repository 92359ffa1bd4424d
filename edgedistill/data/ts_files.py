"""Files in the `.ts` format of the UEA archive: a header, then `channel:channel:...:label`.

aeon reads them too, but spells all labels in lower case, and loads slowly.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries
from edgedistill.data.text import read_lines, to_label, to_numbers
from edgedistill.errors import DataError, ShapeError
from edgedistill.io.arrays import Floats


def read_ts(path: Path) -> RawSeries:
    """Read the labeled series of a `.ts` file, uni- or multivariate, of any lengths.

    Raises:
        DataError: no class labels, timestamps, no data, or a cell that is not a number.
        ShapeError: the channels of a series differ in length.

    Source: https://www.aeon-toolkit.org/en/stable/api_reference/file_specifications/ts.html
    """
    lines = read_lines(path)
    start = _check_header(lines, path)
    series, labels = [], []
    for row, line in enumerate(lines[start:], start=start + 1):
        if line.strip():
            *channels, label = line.split(":")
            series.append(_series(channels, path, row))
            labels.append(to_label(label, path, row))
    return RawSeries(series=series, labels=labels, origin=str(path))


def is_classification(path: Path) -> bool:
    """Whether the header of a `.ts` file describes a classification set that `read_ts` reads."""
    try:
        _check_header(read_lines(path), path)
    except DataError:
        return False
    return True


def _check_header(lines: list[str], path: Path) -> int:
    """Check the header; return the number of lines before the data."""
    tags: dict[str, str] = {}
    for count, line in enumerate(lines, start=1):
        key, _, value = line.strip().lower().partition(" ")
        if key == "@data":
            _check_tags(tags, path)
            return count
        if key.startswith("@"):
            tags[key] = value.strip()
    raise DataError(f"{path} has no @data line, so it is no .ts file. Check the file.")


def _check_tags(tags: Mapping[str, str], path: Path) -> None:
    if not tags.get("@classlabel", "").startswith("true"):
        raise DataError(
            f"{path} has no '@classLabel true' line, so it holds no classes. Give a "
            "classification set."
        )
    if tags.get("@timestamps", "false") != "false":
        raise DataError(
            f"{path} has timestamps, which are not read. Resample it to even steps and save it "
            "with '@timeStamps false'."
        )


def _series(channels: list[str], path: Path, row: int) -> Floats:
    column = itertools.count(1)
    rows = [to_numbers(channel.split(","), path, row, column) for channel in channels]
    lengths = [len(one) for one in rows]
    if not lengths or len(set(lengths)) > 1:
        raise ShapeError(
            f"{path}: row {row} has channels of lengths {lengths}; all channels of a series need "
            "the same one. Pad the shorter ones with NaN."
        )
    return np.stack(rows)
