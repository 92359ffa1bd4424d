"""Tables of text: what training understands of them, and their series.

Training first learns a schema from all rows of its table, then reads the table by that schema: so
are the test series read, and what `predict` gets on the workstation or the board.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from edgedistill.errors import DataError
from edgedistill.formats.cells import (
    canonical_label,
    decimal_sign,
    quote,
    split_cells,
    with_point,
)
from edgedistill.formats.content_checks import (
    NumberedCells,
    check_channels,
    check_counted_row,
    check_counters,
    check_label_column,
    check_names_header,
    check_text_columns,
)
from edgedistill.formats.long_tables import long_series
from edgedistill.formats.roles import (
    Columns,
    has_id_and_time,
    is_header,
    long_columns,
    wide_columns,
)
from edgedistill.formats.rows import ReadResult, RowReader, column_names
from edgedistill.formats.schema import Column, ColumnRole, InputSchema, Role, Roles
from edgedistill.formats.value_names import normal_name

Line = tuple[int, str]  # number in the file, from 1, and text


def learn_schema(
    lines: Sequence[Line], roles: Roles
) -> tuple[InputSchema, tuple[ColumnRole, ...], tuple[str, ...]]:
    """Tell what the columns of a training table are.

    Args:
        lines: lines that are not empty; at least one.
        roles: columns that settings name.

    Returns:
        The schema, still without lengths and the padding rule; the role of every column; remarks.

    Raises:
        DataError: the role of a column cannot be told, or a setting names one that is not there.
    """
    decimal = decimal_sign([text for _, text in lines])
    rows = [
        (number, [with_point(cell, decimal) for cell in split_cells(text, decimal)])
        for number, text in lines
    ]
    first, rest = rows[0][1], rows[1:]
    firsts = {canonical_label(cells[0]) for _, cells in rest if cells}
    names = [normal_name(name) for name in _texts(roles)]
    schema = InputSchema(layout="wide", decimal=decimal, roles=roles)
    remarks: tuple[str, ...] = ("Numbers have decimal commas.",) if decimal == "," else ()
    if not is_header(first, names, firsts):
        check_counted_row(first)
        schema, columns = _without_header(rows, schema)
        return schema, columns, remarks
    check_names_header(first, names)
    if _is_long(first, rest, roles):
        schema, table = _long(first, rest, schema)
    else:
        schema, table, more = _wide(first, rest, schema)
        remarks += more
    return schema, table.roles, remarks


def raw_labels(lines: Sequence[Line], schema: InputSchema) -> set[str]:
    """Return the labels of a training table with a series a row.

    Raises:
        DataError: it cannot be told whether the first row is a header.
    """
    at = schema.label_at
    if at is None:
        return set()
    rows = [split_cells(text, schema.decimal) for _, text in lines]
    spelled = [cells[at] for cells in rows[schema.header :] if at < len(cells)]
    labels = {canonical_label(with_point(label, schema.decimal)) for label in spelled}
    if is_header(rows[0], column_names(schema), labels, schema.decimal) != schema.header:
        raise DataError(
            "Whether the first row is a header or a series cannot be told. Put a header with a "
            "column 'label' above it."
        )
    return labels


def read_rows(
    lines: Sequence[Line],
    schema: InputSchema,
    channels: int,
    classes: Collection[str],
) -> Iterator[ReadResult]:
    """Yield the series of a table, or for each why it cannot be used.

    Args:
        lines: lines that are not empty.
        schema: what training understood.
        channels: number of channels of a series.
        classes: names of the classes.

    Raises:
        DataError: the header cannot be used, or the times cannot be told.
    """
    reader = RowReader(schema, channels, classes)
    for index, (number, text) in enumerate(lines):
        try:
            row = reader.read_line(text)
        except DataError as error:
            if reader.header_fault is not None:
                raise
            yield ReadResult(number=number, error=error)
            continue
        if reader.is_long:
            yield from read_long(reader.names, lines[index + 1 :], schema)
            return
        if row is not None:
            yield ReadResult(number=number, row=row)


def read_long(
    names: Sequence[str], lines: Sequence[Line], schema: InputSchema
) -> Iterator[ReadResult]:
    """Yield the series of the lines below the header of a table with a time step a row.

    Raises:
        DataError: a column is missing, or the times cannot be told.
    """
    rows = [(number, split_cells(text, schema.decimal)) for number, text in lines]
    return long_series(names, rows, schema)


def _wide(
    names: Sequence[str], rows: Sequence[NumberedCells], schema: InputSchema
) -> tuple[InputSchema, Columns, tuple[str, ...]]:
    roles = schema.roles
    columns = wide_columns(names, roles)
    if columns.label is None:
        raise _no_labels(names)
    if roles.resample_step is not None:
        _refuse_resampling()
    places = [at for channel in columns.values for at in channel]
    if not roles.values:
        check_counters(rows, places, lambda at: quote(names[at]))
    group = next((role.name for role in columns.roles if role.role == "group"), None)
    others = {at for at in columns.others if at not in {columns.label, columns.id}}
    others -= {at for at in others if names[at] == group}
    resolved = replace(
        roles,
        label=names[columns.label],
        id=None if columns.id is None else names[columns.id],
        time=None,
        group=group,
        ignore=tuple(names[at] for at in sorted(others) if names[at].strip()),
    )
    schema = replace(
        schema,
        header=True,
        roles=resolved,
        label_at=columns.label,
        id_at=columns.id,
        other_at=columns.others,
        is_ordered=places == sorted(places),
        trailing=not names[-1].strip() and all(not cells[-1] for _, cells in rows),
        channels=columns.channels,
    )
    beyond = _cells_beyond(names, rows) if columns.is_open else ()
    return schema, columns, (*_unused_times(columns), *beyond)


def _unused_times(columns: Columns) -> tuple[str, ...]:
    """Tell of times without ids: a table with a time step a row may lack its column of ids."""
    if columns.time is None or columns.id is not None:
        return ()
    times = quote(columns.names[columns.time])
    return (
        f"Each row is taken for a series; the times in {times} are not used. If a row is "
        "a time step, set data.id to the column that tells the series apart.",
    )


def _cells_beyond(names: Sequence[str], rows: Sequence[NumberedCells]) -> tuple[str, ...]:
    """Tell of cells that no column of the header names."""
    longest = max((len(cells) for _, cells in rows), default=0)
    if longest <= len(names):
        return ()
    return (
        f"The header names {len(names)} columns, rows have up to {longest} cells; the cells "
        "beyond it are values.",
    )


def _long(
    names: Sequence[str], rows: Sequence[NumberedCells], schema: InputSchema
) -> tuple[InputSchema, Columns]:
    roles = schema.roles
    columns = long_columns(names, roles)
    if columns.label is None:
        raise _no_labels(names)
    if not roles.values:
        check_channels(names, rows, columns)
    resolved = replace(
        roles,
        label=names[columns.label],
        id=None if columns.id is None else names[columns.id],
        time=None if columns.time is None else names[columns.time],
        group=None,
        ignore=(),
        values=(),
    )
    return (
        replace(schema, layout="long", header=True, roles=resolved, channels=columns.channels),
        columns,
    )


def _without_header(
    rows: Sequence[NumberedCells], schema: InputSchema
) -> tuple[InputSchema, tuple[ColumnRole, ...]]:
    roles = schema.roles
    if roles.resample_step is not None:
        _refuse_resampling()
    trailing = all(len(cells) > 1 and not cells[-1] for _, cells in rows)
    widths = [len(cells) - trailing for _, cells in rows]
    label_at, others = _places(roles, min(widths), max(widths))
    if not roles.values:
        values = [at for at in range(min(widths)) if at not in others]
        check_text_columns(rows, values)
    if roles.label is None:
        check_label_column(rows)
    if not roles.values:
        check_counters(rows, values, lambda at: str(at + 1))
    count = len(others)
    shown = tuple(
        ColumnRole(name=str(at + 1), role=role, why=why)
        for at, (role, why) in sorted(others.items())
    )
    values = [at + 1 for at in range(max(widths)) if at not in others]
    run = f"{values[0]} to {values[-1]}" if values else "none"
    schema = replace(
        schema,
        roles=Roles(),
        label_at=label_at,
        id_at=next((at for at, (role, _) in others.items() if role == "id"), None),
        other_at=tuple(sorted(others)),
        trailing=trailing,
        widths=(max(0, min(widths) - count), max(0, max(widths) - count)),
    )
    return schema, (*shown, ColumnRole(name=run, role="values", why="every other column"))


def _places(roles: Roles, narrowest: int, width: int) -> tuple[int, dict[int, tuple[Role, str]]]:
    """Return where labels stand, and the role of every column that is no value, and why."""
    named: list[tuple[Role, str, Column | None]] = [
        ("id", "id", roles.id),
        ("time", "time", roles.time),
        ("group", "group", roles.group),
        *(("ignored", "ignore", column) for column in roles.ignore),
    ]
    others: dict[int, tuple[Role, str]] = {
        _column_at(column, width, key): (role, f"data.{key}")
        for role, key, column in named
        if column is not None
    }
    if roles.label is None:
        label_at = 0
        others[0] = "label", "the first column, as there is no header"
    else:
        label_at = _column_at(roles.label, width, "label")
        others[label_at] = "label", "data.label"
    if roles.values:
        values = {_column_at(column, width, "values") for column in roles.values} - {label_at}
        for at in range(width):
            if at not in values:
                others.setdefault(at, ("ignored", "not in data.values"))
    if max(others) >= narrowest and narrowest < width:
        raise DataError(
            f"Rows have from {narrowest} to {width} cells, so column {max(others) + 1} cannot be "
            "told from values. Put a header above them, or the label first."
        )
    return label_at, others


def _is_long(names: Sequence[str], rows: Sequence[NumberedCells], roles: Roles) -> bool:
    """Whether a header has ids and times, and an id stands in several rows."""
    found = has_id_and_time(names, roles)
    if found is None:
        return False
    ids = [cells[found[0]] for _, cells in rows if len(cells) > found[0]]
    return len(set(ids)) < len(ids) or not _has_wide_columns(names, roles)


def _has_wide_columns(names: Sequence[str], roles: Roles) -> bool:
    try:
        columns = wide_columns(names, roles)
    except DataError:
        return False
    return max(map(len, columns.values)) > 1


def _no_labels(names: Sequence[str]) -> DataError:
    return DataError(
        f"No column of labels is among {', '.join(map(quote, names[:8]))}. Set data.label to the "
        "column that holds them."
    )


def _refuse_resampling() -> None:
    raise DataError(
        "data.resample needs times, and only a table with a time step a row has a column of them. "
        "Leave data.resample out."
    )


def _texts(roles: Roles) -> list[str]:
    columns = (roles.label, roles.id, roles.time, roles.group, *roles.ignore, *roles.values)
    return [column for column in columns if isinstance(column, str)]


def _column_at(column: Column, width: int, key: str) -> int:
    """Return the place of a column in rows without names, from 0.

    Raises:
        DataError: it is no number of a column.
    """
    if type(column) is not int or column == 0 or not -width <= column <= width:
        raise DataError(
            f"data.{key} is {column!r}, but the table has no header. Give the column's number, "
            f"from 1 to {width}, or from the last one, -1."
        )
    return column - 1 if column > 0 else width + column
