"""Readers of files of labeled series, by suffix.

What a training file holds is learned once, in its schema; test files are read by that of their
training file, as `predict` reads them on the board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgedistill.data.series import RawSeries, is_unresolved
from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.arrays import ArraySeries, array_series, read_npz_series
from edgedistill.formats.cells import NO_LABEL, canonical_label, quote
from edgedistill.formats.long_tables import uneven_remark
from edgedistill.formats.parquet import parquet_lines
from edgedistill.formats.rows import ReadResult, Row
from edgedistill.formats.schema import ColumnRole, InputSchema, Roles
from edgedistill.formats.tables import Line, learn_schema, raw_labels, read_rows
from edgedistill.formats.ts_files import TsReader
from edgedistill.io.arrays import AnyArray, Floats
from edgedistill.io.npz import read_npy
from edgedistill.preprocessing.transforms import check_series


def read_table(path: Path, roles: Roles, train: RawSeries | None = None) -> RawSeries:
    """Read a table of text, a series a row or a time step a row.

    Args:
        path: path of the file.
        roles: columns that settings name.
        train: training series, whose schema then counts; None for those themselves.

    Raises:
        DataError: the role of a column cannot be told, or a row cannot be used.
    """
    return _from_lines(_numbered(read_lines(path)), path, roles, train)


def read_parquet(path: Path, roles: Roles, train: RawSeries | None = None) -> RawSeries:
    """Read a Parquet file, as `read_table` reads a table of text.

    Raises:
        MachineError: pyarrow is not installed.
        DataError: as for `read_table`.
    """
    try:
        lines = parquet_lines(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path} has no rows. Give a file with at least two labeled series.")
    return _from_lines(_numbered(lines), path, roles, train)


def read_npz(path: Path, roles: Roles, train: RawSeries | None = None) -> RawSeries:
    """Read the series of an NPZ file; pickled objects are never loaded.

    Raises:
        DataError: not an NPZ file, arrays missing, pickled, or not numbers.
        ShapeError: arrays of other shapes than `array_series` takes.
    """
    _refuse_roles(path, roles)
    try:
        found = read_npz_series(path, is_bounded=False)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    return _from_arrays(found, path, train)


def read_npy_pair(path: Path, roles: Roles, train: RawSeries | None = None) -> RawSeries:
    """Read series from `x.npy`, and labels from `y.npy` beside it.

    Raises:
        DataError: there is no file of labels, or one is not of plain numbers or text.
        ShapeError: arrays of other shapes than those of an NPZ file.
    """
    _refuse_roles(path, roles)
    arrays = {"x": _read_npy(path), "y": _read_npy(label_file(path))}
    try:
        found = array_series(arrays)
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    return _from_arrays(found, path, train)


def read_ts(path: Path, roles: Roles, train: RawSeries | None = None) -> RawSeries:
    """Read the labeled series of a `.ts` file, uni- or multivariate, of any lengths.

    Raises:
        DataError: no class labels, timestamps, no data, or a cell that is not a number.
        ShapeError: the channels of a series differ in length.
    """
    _refuse_roles(path, roles)
    reader, rows = TsReader(), []
    for number, text in enumerate(read_lines(path), start=1):
        try:
            row = reader.read_line(text)
        except DataError as error:
            raise type(error)(f"{path}: row {number}: {error}") from error
        if reader.in_data and not reader.has_labels:
            break
        if row is not None:
            rows.append((number, row))
    _check_ts(reader, path)
    return _finished(path, rows, InputSchema(layout="ts"), train)


def is_classification(path: Path) -> bool:
    """Whether the header of a `.ts` file describes a classification set that `read_ts` reads."""
    reader = TsReader()
    try:
        for text in read_lines(path):
            if reader.in_data:
                break
            reader.read_line(text)
        _check_ts(reader, path)
    except DataError:
        return False
    return True


def label_file(path: Path) -> Path:
    """Return the file of labels beside a file of series: `y.npy` beside `x.npy`.

    Raises:
        DataError: the name has no x that stands alone, or there is no such file.
    """
    stem = path.stem
    for at in range(len(stem) - 1, -1, -1):
        around = stem[max(0, at - 1) : at], stem[at + 1 : at + 2]
        if stem[at] in "xX" and not any(map(str.isalpha, around)):
            names = [f"{stem[:at]}{y}{stem[at + 1 :]}{path.suffix}" for y in "yY"]
            found = [path.with_name(name) for name in names if path.with_name(name).exists()]
            if found:
                return found[0]
            raise DataError(f"{path} has no labels beside it. Save them as {names[0]}.")
    raise DataError(
        f"{path} holds no labels. Name the series x.npy and their labels y.npy, or NAME_x.npy and "
        "NAME_y.npy, or save both with np.savez."
    )


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file.

    Raises:
        DataError: the file cannot be read, is not UTF-8 text, or is empty.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}). Check the file.") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty. Give a file with at least two labeled series.")
    return lines


def _read_npy(path: Path) -> AnyArray:
    try:
        with path.open("rb") as stream:
            return read_npy(stream)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _numbered(lines: Iterable[str]) -> list[Line]:
    """Return the lines that are not empty, without blanks around them."""
    stripped = ((number, line.strip("\r\n ")) for number, line in enumerate(lines, start=1))
    return [(number, line) for number, line in stripped if line.strip()]


def _from_lines(
    lines: Sequence[Line], path: Path, roles: Roles, train: RawSeries | None
) -> RawSeries:
    columns: tuple[ColumnRole, ...] = ()
    remarks: tuple[str, ...] = ()
    try:
        if train is None:
            schema, columns, remarks = learn_schema(lines, roles)
            channels = max(1, len(schema.channels))
            classes = raw_labels(lines, schema)
        else:
            schema, columns = _schema_of(train), train.columns
            channels, classes = train.channels, set(train.labels)
        results = list(read_rows(lines, schema, channels, classes))
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    if train is None and schema.roles.resample_step is None:
        uneven = uneven_remark([step for result in results for step in result.steps])
        remarks += (uneven,) if uneven else ()
    return _finished(path, _good(results, path), schema, train, columns, remarks)


def _good(results: Iterable[ReadResult], path: Path) -> Iterator[tuple[int, Row]]:
    for result in results:
        if result.row is None:
            error = result.error or DataError("It holds no series.")
            raise type(error)(f"{path}: row {result.number}: {error}") from error
        yield result.number, result.row


def _from_arrays(found: ArraySeries, path: Path, train: RawSeries | None) -> RawSeries:
    labels = found.labels
    if labels is None:
        raise DataError(f"{path} holds no y. Save the labels too: np.savez(path, x=x, y=y).")
    if len(labels) != len(found):
        raise ShapeError(
            f"{path} has {len(found)} series but {len(labels)} labels. Give one label a series."
        )
    rows = (
        (number, Row(series=one, label=label))
        for number, (one, label) in enumerate(zip(found.series(), labels, strict=True), start=1)
    )
    remarks = tuple(f"Nothing uses the array {name!r}." for name in found.unused)
    return _finished(path, rows, InputSchema(layout="arrays"), train, remarks=remarks)


def _finished(
    path: Path,
    rows: Iterable[tuple[int, Row]],
    schema: InputSchema,
    train: RawSeries | None,
    columns: tuple[ColumnRole, ...] = (),
    remarks: tuple[str, ...] = (),
) -> RawSeries:
    """Return series as they were read, without padding, and with labels of one spelling each."""
    spelled, raw, unresolved = [], [], []
    for number, row in rows:
        if row.label is None or canonical_label(row.label).lower() in NO_LABEL:
            cell = "" if row.label is None else f", but {quote(row.label)}"
            raise DataError(f"{path}: row {number} has no label{cell}. Add it or remove the row.")
        spelled.append(row.label)
        unresolved.append(is_unresolved(row.series))
        with np.errstate(over="ignore"):  # `check_series` refuses infinity, with its place
            raw.append(row.series.astype(np.float32))
    check_series(raw, str(path))
    schema = schema.fitted(raw) if train is None else _schema_of(train)
    series = [schema.without_padding(one).astype(np.float32) for one in raw]
    if train is not None:
        remarks += _length_remarks(schema, series)
    elif any(one.shape[1] < whole.shape[1] for one, whole in zip(series, raw, strict=True)):
        remarks += ("NaN at the ends of series are padding, and are cut off.",)
    return RawSeries(
        series=series,
        labels=[canonical_label(label) for label in spelled],
        origin=str(path),
        columns=columns,
        remarks=(*remarks, *_label_remarks(spelled)),
        schema=schema,
        unresolved=tuple(unresolved),
    )


def _length_remarks(schema: InputSchema, series: Sequence[Floats]) -> tuple[str, ...]:
    new = [remark for one in series if (remark := schema.length_remark(one.shape[1]))]
    if not new:
        return ()
    return (f"{len(new)} of {len(series)} test series have a length of their own: {new[0]}.",)


def _label_remarks(spelled: Sequence[str]) -> tuple[str, ...]:
    """Describe labels that were taken for one class."""
    spellings: dict[str, list[str]] = {}
    for label in dict.fromkeys(label.strip() for label in spelled):
        spellings.setdefault(canonical_label(label), []).append(label)
    return tuple(
        f"Labels {', '.join(map(repr, several))} are one class, {label!r}."
        for label, several in spellings.items()
        if len(several) > 1
    )


def _check_ts(reader: TsReader, path: Path) -> None:
    if not reader.in_data:
        raise DataError(f"{path} has no @data line, so it is no .ts file. Check the file.")
    if not reader.has_labels:
        raise DataError(
            f"{path} has no '@classLabel true' line, so it holds no classes. Give a "
            "classification set."
        )


def _schema_of(train: RawSeries) -> InputSchema:
    if train.schema is None:
        raise DataError(
            f"{train.origin} holds sounds, so the test series must be a folder of sounds, too."
        )
    return train.schema


def _refuse_roles(path: Path, roles: Roles) -> None:
    if roles != Roles():
        raise DataError(
            f"{path} has no columns that settings of data could name. Leave data.label, data.id, "
            "data.time, data.group, data.ignore, data.values, data.time_format and data.resample "
            "out."
        )


READERS: Mapping[str, Callable[[Path, Roles, RawSeries | None], RawSeries]] = {
    ".ts": read_ts,
    ".tsv": read_table,
    ".txt": read_table,
    ".csv": read_table,
    ".parquet": read_parquet,
    ".npz": read_npz,
    ".npy": read_npy_pair,
}
