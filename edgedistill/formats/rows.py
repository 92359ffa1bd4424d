"""Rows of a table with a series a row, read as the schema of the training files tells.

Each row is judged alone, so that a stream can be read: whether it has the columns of the training
files or values alone is told from the number of its cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from edgedistill.errors import DataError, ShapeError
from edgedistill.formats.cells import (
    MAX_VALUES,
    NO_LABEL,
    DecimalSign,
    canonical_label,
    is_number,
    quote,
    split_cells,
    to_number,
    with_point,
)
from edgedistill.formats.roles import (
    Columns,
    describe_roles,
    has_id_and_time,
    is_header,
    wide_columns,
)
from edgedistill.formats.schema import InputSchema, Roles
from edgedistill.formats.value_names import NUMBERS_ALONE, are_even, normal_name
from edgedistill.io.arrays import Doubles

_FEWEST_NAMES = 3  # of columns that count up


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A series as it stands in a file."""

    series: Doubles  # (C, T_i), NaN is a missing value
    label: str | None = None  # as spelled
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """A series that was read, or why it cannot be used."""

    number: int  # of its first row in the file, from 1
    row: Row | None = None
    error: DataError | None = None
    steps: tuple[Decimal, ...] = ()  # between its times, before resampling; of a long table


class RowReader:
    """Reader of one series a row, after a header if there is one.

    Args:
        schema: what training understood of its files.
        channels: number of channels of a series.
        classes: names of the classes.
        may_head: whether the first row may be a header.
    """

    def __init__(
        self,
        schema: InputSchema,
        channels: int,
        classes: Collection[str] = (),
        *,
        may_head: bool = True,
    ) -> None:
        self.names: tuple[str, ...] = ()  # of the header
        self.columns: Columns | None = None  # of the header of a table with a series a row
        self.header_fault: DataError | None = None  # why no row below it can be read
        self._schema = schema
        self._channels = channels
        self._classes = frozenset(classes)
        self._may_head = may_head
        self._has_labels: bool | None = None  # where lengths differ
        self._full_rows = 0  # number of rows without header that have all columns of training

    @property
    def is_long(self) -> bool:
        """Whether the header is that of a table with a time step a row."""
        return bool(self.names) and self.columns is None and self.header_fault is None

    def describe_columns(self) -> str | None:
        """Describe what the columns were taken for; None where rows hold values alone."""
        if self.columns is not None:
            return describe_roles(self.columns.roles)
        if self._full_rows and self._schema.label_at is not None:
            return f"Column {self._schema.label_at + 1} is the label, as in the training data."
        return None

    def read_line(self, text: str) -> Row | None:
        """Read a line; None for a header.

        Raises:
            DataError: it cannot be read, or its meaning cannot be told.
        """
        if self.header_fault is not None:
            raise self.header_fault
        cells = split_cells(text, self._schema.decimal)
        try:
            if self._may_head and self.take_header(cells):
                return None
        except DataError as error:
            self.header_fault = error
            raise
        if ":" in text and self._splits_channels():
            return self.read_channels(text.split(":", self._channels + 1))
        return self.read_cells(cells)

    def take_header(self, cells: Sequence[str]) -> bool:
        """Take the first row; return whether it is a header.

        Raises:
            DataError: the role of a column cannot be told.
        """
        self._may_head = False
        schema = self._schema
        is_head = is_header(cells, column_names(schema), self._classes, schema.decimal)
        if not is_head and not self._repeats_numbers(cells):
            return False
        self.names = tuple(cells)
        roles = schema.roles if schema.header else Roles()
        is_long = schema.layout == "long" or (
            schema.layout != "wide" and has_id_and_time(cells, roles) is not None
        )
        if is_long:
            return True
        self.columns = wide_columns(cells, roles, channels=schema.channels, is_required=False)
        if len(self.columns.values) != self._channels:
            raise ShapeError(
                f"The header has {len(self.columns.values)} runs of value columns, the model takes "
                f"{self._channels} channels."
            )
        return True

    def read_cells(self, cells: list[str]) -> Row:
        """Read the cells of a row below the header, or of a row without any."""
        if self.columns is not None:
            return self._read_named(cells, self.columns)
        if self._schema.trailing and len(cells) > 1 and not cells[-1]:
            cells = cells[:-1]
        if not self._is_full(cells):
            return Row(series=self._numbers(cells, range(len(cells)))[None, :])
        schema = self._schema
        self._full_rows += 1
        places = [at for at in range(len(cells)) if at not in schema.other_at]
        return Row(
            series=self._numbers(cells, places)[None, :],
            label=self._label(cells, schema.label_at),
            id=None if schema.id_at is None else cells[schema.id_at],
        )

    def read_channels(self, parts: Sequence[str]) -> Row:
        """Read channels as in a `.ts` file; one part more with a single cell is the label."""
        label = None
        cells = [split_cells(part, self._schema.decimal) for part in parts]
        if len(cells) == self._channels + 1 and len(cells[-1]) == 1:
            label = cells.pop()[0]
        channels = [self._numbers(part, range(len(part))) for part in cells]
        return Row(series=stack_channels(channels), label=label)

    def _read_named(self, cells: list[str], columns: Columns) -> Row:
        width = len(columns.names)
        if not any(cells[width:]):
            cells = cells[:width]
        least = max(columns.others, default=0) + 1
        if len(cells) != width and not (columns.is_open and len(cells) > least):
            raise ShapeError(
                f"The row has {len(cells)} cells, the header {width}. Mend it, or check the "
                "separators."
            )
        places: Sequence[Sequence[int]] = columns.values
        if columns.is_open:
            places = [range(columns.values[0][0], len(cells))]
        return Row(
            series=np.stack([self._numbers(cells, channel) for channel in places]),
            label=self._label(cells, columns.label),
            id=None if columns.id is None else cells[columns.id],
        )

    def _repeats_numbers(self, cells: Sequence[str]) -> bool:
        """Whether a row holds the names of value columns alone, which were numbers in training."""
        schema = self._schema
        if schema.channels != (NUMBERS_ALONE,) or not all(map(is_number, cells)):
            return False
        numbers = [to_number(cell) for cell in cells if cell]
        if len(numbers) < _FEWEST_NAMES or not are_even(sorted(numbers)):
            return False
        counted = [numbers[0] + index for index in range(len(numbers))]
        if numbers != counted or numbers[0] not in {0, 1}:
            raise DataError(
                f"The first row, {', '.join(map(quote, cells[:4]))}, may be a header or a series. "
                "Name a column 'label' in it if it is a header; if not, put a header above it."
            )
        return True

    def _is_full(self, cells: Sequence[str]) -> bool:
        """Whether a row has the columns of the training files that are no values, too."""
        others = len(self._schema.other_at)
        shortest, longest = self._schema.widths
        if shortest == longest:
            fits_bare, fits_full = len(cells) == longest, len(cells) == longest + others
            if not fits_full:
                self._check_label(cells, fits_bare)
            is_full = others > 0 and (fits_full or (not fits_bare and self._has_class(cells)))
        else:  # the number of cells tells nothing: all rows are as the first one
            if self._has_labels is None:
                self._has_labels = self._has_class(cells)
            is_full = self._has_labels
        if is_full:
            self._check_full(cells)
        else:
            self._check_extra(cells)
        return is_full

    def _check_full(self, cells: Sequence[str]) -> None:
        schema, at = self._schema, self._schema.label_at
        if len(schema.channels) > 1 or not schema.is_ordered:
            raise DataError(
                "The row has no header to tell its columns apart. Put that of the training data "
                "above it."
            )
        if at is None or self._has_class(cells) or cells[at].strip().lower() in NO_LABEL:
            return
        raise DataError(
            f"The row has {len(cells)} cells, as in the training data, where column {at + 1} is "
            f"the label; but {quote(cells[at])} is none of the classes. Leave that cell empty, or "
            "put a header above."
        )

    def _check_label(self, cells: Sequence[str], fits_bare: bool) -> None:
        """Refuse a row of another length than the rows of training, where a value may be a label.

        With as many cells as values in training, one cell alone must look like a class; with
        others, a label behind the values stands at no known place.
        """
        at, longest = self._schema.label_at, self._schema.widths[1]
        if at is None or not cells:
            return
        from_end = at - longest - len(self._schema.other_at)  # -1 is the last
        places = {place for place in (at, len(cells) + from_end) if 0 <= place < len(cells)}
        held = [p for p in places if self._is_class(cells[p])]
        if not held or (not fits_bare and at == 0):
            return
        rest = [cell for place, cell in enumerate(cells) if place not in places]
        if fits_bare and any(_may_be_label(cell) for cell in rest):
            return
        raise DataError(
            f"The row has {len(cells)} cells, in training there were {longest} values; whether "
            f"{quote(cells[held[0]])} is a label or a value cannot be told. Put a header above it."
        )

    def _check_extra(self, cells: Sequence[str]) -> None:
        """Refuse a row that has a value too many, where that may be a label or an id."""
        shortest, longest = self._schema.widths
        extra = len(cells) - longest
        if shortest != longest or not 0 < extra <= max(1, len(self._schema.other_at)):
            return
        if any(not cell or _may_be_label(cell) for cell in (*cells[:extra], *cells[-extra:])):
            raise ShapeError(
                f"{len(cells)} values where training had {longest}: is the first or the last one a "
                "label or an id? Name its column in a header, or remove it."
            )

    def _has_class(self, cells: Sequence[str]) -> bool:
        at = self._schema.label_at
        return at is not None and at < len(cells) and self._is_class(cells[at])

    def _is_class(self, cell: str) -> bool:
        return canonical_label(with_point(cell, self._schema.decimal)) in self._classes

    def _label(self, cells: Sequence[str], at: int | None) -> str | None:
        return None if at is None else with_point(cells[at], self._schema.decimal)

    def _splits_channels(self) -> bool:
        if self.columns is not None:
            return False
        return self._channels > 1 or self._schema.layout != "wide"

    def _numbers(self, cells: Sequence[str], places: Sequence[int]) -> Doubles:
        return to_numbers(cells, places, self._schema.decimal)


def to_numbers(cells: Sequence[str], places: Sequence[int], decimal: DecimalSign) -> Doubles:
    """Return some cells of a row as numbers; an empty one, `?` or `NaN` is a missing value.

    Raises:
        DataError: a cell is not a number, or there are too many.
    """
    if len(places) > MAX_VALUES:
        raise DataError(f"The series has more than {MAX_VALUES} values. Send it in pieces.")
    try:
        return np.array([to_number(cells[at], decimal) for at in places])
    except ValueError as error:
        wrong = next(at for at in places if not is_number(cells[at], decimal))
        raise DataError(
            f"Value {wrong + 1} is {quote(cells[wrong])}, not a number. Write a missing value as "
            "NaN."
        ) from error


def stack_channels(channels: Sequence[Doubles]) -> Doubles:
    """Stack channels (T,) to (C, T).

    Raises:
        ShapeError: they differ in length.
    """
    if any(len(row) != len(channels[0]) for row in channels):
        raise ShapeError(
            f"The channels have {', '.join(str(len(row)) for row in channels[:5])} values. Give "
            "all channels of a series the same length, the shorter ones with NaN at the end."
        )
    return np.stack(channels)


def column_names(schema: InputSchema) -> list[str]:
    """Return the names of columns that training saw, as they are compared."""
    roles = schema.roles
    named = (roles.label, roles.id, roles.time, roles.group, *roles.ignore, *roles.values)
    return [normal_name(name) for name in named if isinstance(name, str)]


def _may_be_label(cell: str) -> bool:
    return canonical_label(cell).lstrip("-").isdigit() or not is_number(cell)
