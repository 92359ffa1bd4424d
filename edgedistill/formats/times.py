"""Times of a column: numbers, durations, clock times or dates, exact to find equal ones."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Literal

from edgedistill.errors import DataError
from edgedistill.formats.cells import MISSING, quote

Kind = Literal["number", "duration", "clock", "date"]
_SECONDS = {
    "ns": "1e-9",
    "us": "1e-6",
    "µs": "1e-6",
    "μs": "1e-6",
    "ms": "1e-3",
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "1"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "60"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "3600"),
    **dict.fromkeys(("d", "day", "days"), "86400"),
}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*[a-zµμ]+[\s,]*)+", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµμ]+)", re.IGNORECASE)
_ISO_DURATION = re.compile(
    r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII
)
_CLOCK = re.compile(
    r"(?:(\d+) days?,? )?(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?\s*([ap]\.?m\.?)?",
    re.ASCII | re.IGNORECASE,
)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d(?:[.,]\d+)?))?\s*(Z|[+-]\d\d(?::?\d\d)?)?)?",
    re.ASCII,
)
_BASIC = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", re.ASCII)
_EPOCH = datetime(1970, 1, 1)
_MISSING_PARTS = datetime(2000, 1, 1), datetime(2001, 2, 2)
_HALF_DAY = 43_200
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Times:
    """Parsed times: numbers in their own unit, all others in seconds."""

    values: tuple[Decimal, ...]
    kind: Kind


def parse_times(
    cells: Sequence[str],
    time_format: str | None = None,
    rows: Sequence[int] | None = None,
) -> Times:
    """Parse a column of times, all of one kind.

    Args:
        cells: cells of the column.
        time_format: format of strptime; None recognizes numbers, durations, clock times and ISO
            8601, and where python-dateutil is installed dates with names of months.
        rows: numbers of the rows, for messages; None counts from 1.

    Raises:
        DataError: a time is missing, is not of the first one's kind, or may be read in two ways.
    """
    texts = [cell.strip() for cell in cells]
    for row, text in zip(rows or range(1, len(texts) + 1), texts, strict=True):
        if text.lower() in MISSING:
            raise DataError(f"Row {row} has no time ({quote(text)}). Remove it, or fill it in.")
    if time_format is not None:
        return Times(tuple(_formatted(text, time_format) for text in texts), "date")
    if texts and all(map(_BASIC.fullmatch, texts)):
        return Times(tuple(_formatted(text, "%Y%m%d") for text in texts), "date")
    kind, parse = _kind_of(texts[0]) if texts else ("number", _number)
    if kind == "date":
        _check_zones(texts)
    return Times(tuple(_parsed(parse, text, kind, texts[0]) for text in texts), kind)


def check_midnight(times: Times, ordered: Sequence[Decimal], *, is_sorted: bool = True) -> None:
    """Refuse clock times with a gap so long that the series may pass midnight.

    Args:
        times: times of the whole table.
        ordered: times of a series, the earliest first.
        is_sorted: whether its rows stand in this order.

    Raises:
        DataError: the gap is longer than half a day; or the rows stand in another order, and it is
            not shorter than the night from the last time to the first.
    """
    gaps = [later - earlier for earlier, later in itertools.pairwise(ordered)]
    if times.kind != "clock" or not gaps or ordered[-1] >= _DAY:
        return
    night = _DAY - (ordered[-1] - ordered[0])
    if max(gaps) > _HALF_DAY or (max(gaps) >= night and not is_sorted):
        raise DataError(
            f"The clock times leave a gap of {max(gaps) / 3600:.1f} hours, so the series may pass "
            "midnight. Give dates with the times."
        )


def _check_zones(texts: Sequence[str]) -> None:
    """Refuse ISO dates with a zone among those without."""
    with_zone = {bool(iso[4]) for text in texts if (iso := _ISO.fullmatch(text))}
    if len(with_zone) > 1:
        raise DataError(
            "Some times have a zone, such as Z or +01:00, and some have none. Give all or none one."
        )


def _kind_of(text: str) -> tuple[Kind, Callable[[str], Decimal | None]]:
    kinds: tuple[tuple[Kind, Callable[[str], Decimal | None]], ...] = (
        ("number", _number),
        ("duration", _duration),
        ("clock", _clock),
        ("date", _date),
    )
    for kind, parse in kinds:
        if parse(text) is not None:
            return kind, parse
    raise DataError(
        f"{quote(text)} is no time that can be read. Write numbers, durations such as 1.5s, or "
        "dates in ISO 8601, or set data.time_format."
    )


def _parsed(parse: Callable[[str], Decimal | None], text: str, kind: Kind, first: str) -> Decimal:
    value = parse(text)
    if value is None:
        raise DataError(
            f"{quote(text)} is no {kind}, as the first time, {quote(first)}, is. Write all times "
            "in one way."
        )
    return value


def _number(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _duration(text: str) -> Decimal | None:
    if len(text) > 1 and (iso := _ISO_DURATION.fullmatch(text)):
        days, hours, minutes, seconds = (Decimal(part or 0) for part in iso.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("+-").lower()
    parts = _PART.findall(body)
    if not _DURATION.fullmatch(body) or any(unit not in _SECONDS for _, unit in parts):
        return None
    return sign * sum(
        (Decimal(count) * Decimal(_SECONDS[unit]) for count, unit in parts), Decimal()
    )


def _clock(text: str) -> Decimal | None:
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds, half = found.groups()
    hour = int(hours)
    if half is not None:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half[0].lower() == "p" else 0)
    whole = (int(days or 0) * 24 + hour) * 3600 + int(minutes) * 60
    return whole + Decimal((seconds or "0").replace(",", "."))


def _date(text: str) -> Decimal | None:
    iso = _ISO.fullmatch(text)
    if iso is None:
        return _other_date(text)
    day, clock, seconds, zone = iso.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
    except ValueError:
        return None
    offset = _offset(zone)
    return _since_epoch(moment) + Decimal((seconds or "0").replace(",", ".")) - offset


def _offset(zone: str | None) -> Decimal:
    """Seconds east of Greenwich."""
    if zone is None or zone == "Z":
        return Decimal()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return Decimal(-seconds if zone[0] == "-" else seconds)


def _other_date(text: str) -> Decimal | None:
    """Parse a date as people write it, where every reading of it is the same."""
    try:
        from dateutil import parser
    except ModuleNotFoundError as error:
        raise DataError(
            f"{quote(text)} is no time that a board reads. Write dates in ISO 8601, such as "
            "2024-03-05 10:00:00."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a zone that is not known
            readings = {
                parser.parse(text, default=missing, dayfirst=day_first)
                for day_first in (False, True)
                for missing in _MISSING_PARTS
            }
    except (ValueError, OverflowError, Warning):
        return None
    if len(readings) > 1:
        raise DataError(
            f"{quote(text)} can be read as {' or '.join(sorted(str(r) for r in readings)[:2])}. "
            "Set data.time_format, such as '%d/%m/%Y %H:%M'."
        )
    return _since_epoch(readings.pop())


def _formatted(text: str, time_format: str) -> Decimal:
    try:
        return _since_epoch(datetime.strptime(text, time_format))
    except ValueError as error:
        raise DataError(
            f"{quote(text)} does not fit the time format {time_format!r}. Change data.time_format."
        ) from error


def _since_epoch(moment: datetime) -> Decimal:
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    elapsed = moment - _EPOCH
    whole = elapsed // timedelta(microseconds=1)
    return Decimal(whole) / 1_000_000
