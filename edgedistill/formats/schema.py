"""What the files of a data set hold, as training understood it. Bundles carry it to boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from edgedistill.errors import IntegrityError
from edgedistill.formats.cells import DecimalSign
from edgedistill.io.arrays import AnyFloats

Role = Literal["values", "label", "id", "time", "group", "index", "ignored"]
Layout = Literal["wide", "long", "arrays", "ts"]
TestOrigin = Literal["named", "found", "drawn"]  # by the user, beside the training file, from it
Column = str | int  # name in the header, or without one the number, from 1; -1 is the last


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRole:
    """A column, or a run of value columns such as `t0 to t23`, and what it was taken for."""

    name: str  # as in the header; without one its number, from 1
    role: Role
    why: str  # what tells the role, such as "usual name" or "data.label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The columns that settings name; the others are recognized by their names."""

    label: Column | None = None
    id: Column | None = None
    time: Column | None = None
    group: Column | None = None
    ignore: tuple[Column, ...] = ()
    values: tuple[Column, ...] = ()  # `first..last` is a range; empty: told from the names
    time_format: str | None = None  # of strptime
    resample_step: float | None = None  # in the unit of the times, seconds of dates and durations


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSchema:
    """How the files of a data set are read: what training understood.

    A wide table has a series a row, a long one a time step a row.
    """

    layout: Layout
    header: bool = False
    roles: Roles = Roles()  # every column that is no value, by the name that training saw
    label_at: int | None = None  # places in a row without header, from 0
    id_at: int | None = None
    other_at: tuple[int, ...] = ()  # all columns of a wide table that are no values
    is_ordered: bool = True  # whether the value columns of a wide table stand in their order
    channels: tuple[str, ...] = ()  # names of channels, or what names of value columns begin with
    decimal: DecimalSign = "."
    trailing: bool = False  # whether rows end with a separator
    padding: bool = False  # whether NaN at the ends of series are padding
    lengths: tuple[int, int] = (0, 0)  # time steps of the shortest and longest training series
    widths: tuple[int, int] = (0, 0)  # the same before padding is cut off

    def fitted(self, series: Sequence[AnyFloats]) -> InputSchema:
        """Return the schema with the padding rule and the lengths of training series (C, T_i).

        NaN at the ends are padding where a training series has some there and none has one
        elsewhere, or where none has any and lengths differ. Else they are missing values.
        """
        trimmed = [_present(one) for one in series]
        has_inner = any(
            np.isnan(one[:, part]).any() for one, part in zip(series, trimmed, strict=True)
        )
        widths = [one.shape[1] for one in series]
        inner = [part.stop - part.start for part in trimmed]
        padding = not has_inner and (inner != widths or len(set(widths)) > 1)
        lengths = inner if padding else widths
        return replace(
            self,
            padding=padding,
            lengths=(min(lengths, default=0), max(lengths, default=0)),
            widths=(min(widths, default=0), max(widths, default=0)),
        )

    def without_padding(self, one: AnyFloats) -> AnyFloats:
        """Cut padding off a series (C, T_i)."""
        return one[:, _present(one)] if self.padding else one

    def length_remark(self, steps: int) -> str | None:
        """Describe a length that training did not see, with the likely reason."""
        shortest, longest = self.lengths
        if shortest <= steps <= longest:
            return None
        span = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
        extra = steps - longest
        reason = ""
        if extra == 1 and shortest == longest:
            reason = ": is the first or the last one a label or an id?"
        return f"{steps} values where training had {span}{reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: object) -> InputSchema:
        """Return the schema of `to_dict`.

        Raises:
            IntegrityError: a key is missing or unknown, or a value is not allowed.
        """
        try:
            facts = _tupled(_checked(cls, value))
            return cls(**{**facts, "roles": Roles(**_tupled(_checked(Roles, facts["roles"])))})
        except (TypeError, ValueError) as error:
            raise IntegrityError(
                f"The description of the input files cannot be used: {error} Make the bundle anew."
            ) from error


def _present(one: AnyFloats) -> slice:
    """Steps without NaN at both ends; all of a series of NaN alone, for a check to refuse."""
    present = np.flatnonzero(~np.isnan(one).all(axis=0))
    return slice(int(present[0]), int(present[-1]) + 1) if len(present) else slice(0, one.shape[1])


def _checked(cls: type, value: object) -> dict[str, Any]:
    known = {field.name for field in fields(cls)}
    if not isinstance(value, Mapping) or set(value) != known:
        raise ValueError(f"It is not an object of {', '.join(sorted(known))}.")
    for key, allowed in _ALLOWED.items():
        if key in value and not allowed(value[key]):
            raise ValueError(f"{key} is {value[key]!r}.")
    return dict(value)


def _tupled(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with tuples for the lists that JSON has."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}


def _is_place(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_column(value: object) -> bool:
    return value is None or type(value) in {str, int}


def _is_list(value: object, of: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(of, value))


def _is_span(value: object) -> bool:
    return _is_list(value, _is_place) and len(value) == 2  # type: ignore[arg-type]


_ALLOWED: Mapping[str, Any] = {
    "layout": lambda value: value in get_args(Layout),
    "decimal": lambda value: value in get_args(DecimalSign),
    **dict.fromkeys(("header", "trailing", "padding", "is_ordered"), lambda v: type(v) is bool),
    **dict.fromkeys(("label_at", "id_at"), lambda value: value is None or _is_place(value)),
    **dict.fromkeys(("lengths", "widths"), _is_span),
    "other_at": lambda value: _is_list(value, _is_place),
    "channels": lambda value: _is_list(value, lambda name: isinstance(name, str)),
    **dict.fromkeys(("label", "id", "time", "group"), _is_column),
    **dict.fromkeys(
        ("ignore", "values"), lambda value: _is_list(value, lambda name: type(name) in {str, int})
    ),
    "time_format": lambda value: value is None or isinstance(value, str),
    "resample_step": lambda v: v is None or (type(v) in {int, float} and 0 < v < float("inf")),
}
