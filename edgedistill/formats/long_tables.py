"""Tables with a time step a row, grouped into series and put in the order of their times."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np

from edgedistill.errors import DataError
from edgedistill.formats.cells import MAX_VALUES, canonical_label, quote, with_point
from edgedistill.formats.roles import Columns, long_columns
from edgedistill.formats.rows import ReadResult, Row, to_numbers
from edgedistill.formats.schema import InputSchema
from edgedistill.formats.times import Times, check_midnight, parse_times
from edgedistill.io.arrays import Doubles

_Numbered = tuple[int, list[str]]  # number of a row in its file, from 1, and its cells
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
_UNEVEN = Decimal("0.01")  # of the usual step; closer ones count as even


def long_series(
    names: Sequence[str], rows: Sequence[_Numbered], schema: InputSchema
) -> Iterator[ReadResult]:
    """Yield the series of a table, in the order of their first rows.

    Args:
        names: names in the header.
        rows: rows below it.
        schema: what training understood.

    Raises:
        DataError: a column is missing, or the times cannot be told.
    """
    roles = schema.roles
    known = schema.channels if schema.layout == "long" else ()
    columns = long_columns(names, roles, channels=known, is_required=False)
    id_at, time_at = columns.id, columns.time
    if id_at is None or time_at is None:
        raise TypeError("a long table has ids and times")
    for number, cells in rows:
        if len(cells) != len(names):
            raise DataError(
                f"Row {number} has {len(cells)} cells, the header {len(names)}. Mend it."
            )
    moments = [cells[time_at] for _, cells in rows]
    if schema.decimal == "," and roles.time_format is None:
        moments = [_DECIMAL_COMMA.sub(".", moment) for moment in moments]
    times = parse_times(moments, roles.time_format, [number for number, _ in rows])
    groups: dict[str, list[int]] = {}
    for index, (_, cells) in enumerate(rows):
        groups.setdefault(cells[id_at].strip(), []).append(index)
    for name, group in groups.items():
        yield _one_series(name, group, rows, columns, times, schema)


def uneven_remark(steps: Sequence[Decimal]) -> str | None:
    """Describe steps between times that differ from the usual one."""
    if not steps:
        return None
    usual = sorted(steps)[len(steps) // 2]
    uneven = [step for step in steps if abs(step - usual) > _UNEVEN * usual]
    if not uneven:
        return None
    return (
        f"{len(uneven) / len(steps):.1%} of the steps between times are not {float(usual):g}, but "
        f"from {float(min(uneven)):g} to {float(max(uneven)):g}; they are taken as even. "
        f"data.resample: {{step: {float(usual):g}}} would put the values on an even grid."
    )


def _one_series(
    name: str,
    group: Sequence[int],
    rows: Sequence[_Numbered],
    columns: Columns,
    times: Times,
    schema: InputSchema,
) -> ReadResult:
    first = rows[group[0]][0]
    try:
        order = sorted(group, key=times.values.__getitem__)
        moments = [times.values[index] for index in order]
        steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
        _check_moments(name, [rows[index] for index in order], steps, columns)
        check_midnight(times, moments, is_sorted=order == list(group))
        values = np.stack(
            [_step(rows[index], columns, schema) for index in order], axis=1
        )  # T rows of (C,) -> (C, T)
        if schema.roles.resample_step is not None:
            values = resample(values, moments, schema.roles.resample_step)
        label = _one_label(name, [rows[index] for index in group], columns, schema)
    except DataError as error:
        return ReadResult(number=first, error=error)
    row = Row(series=values, label=label, id=name)
    return ReadResult(number=first, row=row, steps=tuple(steps))


def resample(values: Doubles, moments: Sequence[Decimal], step: float) -> Doubles:
    """Interpolate a series (C, T) linearly at even steps from its first time to its last.

    A value that is missing is filled in from its neighbors in time; at the ends it stays missing.

    Raises:
        DataError: the grid would have too many steps.
    """
    at = np.array([float(moment - moments[0]) for moment in moments])
    exact = Decimal(repr(step))  # not 12 * 0.05 > 0.6, which would miss the value there
    count = (moments[-1] - moments[0]) / exact
    if not count < MAX_VALUES:
        raise DataError(
            f"Steps of {step:g} from {at[0]:g} to {at[-1]:g} are more than {MAX_VALUES}. Set a "
            "longer data.resample.step."
        )
    grid = np.array([float(index * exact) for index in range(int(count) + 1)])
    resampled = np.full((len(values), len(grid)), np.nan)
    for channel, out in zip(values, resampled, strict=True):
        present = ~np.isnan(channel)
        if present.any():
            out[:] = np.interp(grid, at[present], channel[present], left=np.nan, right=np.nan)
    return resampled


def _step(row: _Numbered, columns: Columns, schema: InputSchema) -> Doubles:
    number, cells = row
    try:
        return to_numbers(cells, [at for (at,) in columns.values], schema.decimal)
    except DataError as error:
        raise DataError(f"Row {number}: {error}") from error


def _check_moments(
    name: str, rows: Sequence[_Numbered], steps: Sequence[Decimal], columns: Columns
) -> None:
    if name == "":
        raise DataError(f"Row {rows[0][0]} has no id. Fill it in, or remove the row.")
    if Decimal() in steps:
        at = steps.index(Decimal())
        twice = rows[at][1][columns.time or 0]
        raise DataError(
            f"id {quote(name)} has time {quote(twice)} twice, in rows {rows[at][0]} and "
            f"{rows[at + 1][0]}. Keep one row a time step."
        )


def _one_label(
    name: str, rows: Sequence[_Numbered], columns: Columns, schema: InputSchema
) -> str | None:
    if columns.label is None:
        return None
    spelled = dict.fromkeys(with_point(cells[columns.label], schema.decimal) for _, cells in rows)
    labels = list(dict.fromkeys(map(canonical_label, spelled)))
    if len(labels) > 1:
        raise DataError(
            f"id {quote(name)} has the labels {', '.join(map(quote, labels[:5]))}. A series has "
            "one; give each series its own id."
        )
    return next(iter(spelled))
