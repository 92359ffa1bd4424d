"""Times as people write them: step by step, of every form that docs/data.md names."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass

_START = datetime.datetime(2024, 3, 13, 9, 59)  # a day that is no month


@dataclass(frozen=True)
class TimeForm:
    """A form of times."""

    text: Callable[[int], str]  # of a step
    step: float  # in the unit of the times, seconds of all but numbers
    time_format: str | None = None
    has_names: bool = False  # of months, which boards do not read
    is_even: bool = True


def _moment(step: int) -> datetime.datetime:
    return _START + datetime.timedelta(seconds=5 * step)


def _written(style: str) -> Callable[[int], str]:
    return lambda step: _moment(step).strftime(style)


def _pandas(step: int) -> str:
    return f"{step // 2} days {12 * (step % 2):02}:00:00"


def _zoned(step: int) -> str:
    """One moment after the other, told in two zones."""
    hours = step % 2 + 1
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    return _moment(step).replace(tzinfo=datetime.timezone.utc).astimezone(zone).isoformat()


def _twelve(step: int) -> str:
    moment = datetime.datetime(2024, 3, 13, 11, 30) + datetime.timedelta(minutes=5 * step)
    return f"{(moment.hour - 1) % 12 + 1}:{moment:%M} {moment:%p}"


TIME_FORMS: dict[str, TimeForm] = {
    "numbers": TimeForm(lambda s: str(5 * s), 5),
    "decimals": TimeForm(lambda s: f"{s / 10:.1f}", 0.1),
    "negative": TimeForm(lambda s: str(s - 3), 1),
    "exponents": TimeForm(lambda s: f"{5 * s:.2e}", 5),
    "epoch": TimeForm(lambda s: str(1_709_632_800 + s), 1),
    "epoch in ns": TimeForm(lambda s: str((1_709_632_800 + s) * 10**9 + s % 2), 1e9, is_even=False),
    "years": TimeForm(lambda s: str(1995 + s), 1),
    "seconds": TimeForm(lambda s: f"{5 * s}s", 5),
    "milliseconds": TimeForm(lambda s: f"{1.5 * s} ms", 0.0015),
    "minutes": TimeForm(lambda s: f"{s // 2}m {30 * (s % 2)}s", 30),
    "ISO durations": TimeForm(lambda s: f"PT{s // 2}M{30 * (s % 2)}S", 30),
    "pandas durations": TimeForm(_pandas, 43_200),
    "elapsed": TimeForm(lambda s: f"{s // 4:02}:{15 * (s % 4):02}:00", 900),
    "clock": TimeForm(lambda s: f"{_moment(s).hour}:{_moment(s):%M:%S}", 5),
    "minutes of a clock": TimeForm(lambda s: f"{9 + s // 4}:{15 * (s % 4):02}", 900),
    "clock of twelve": TimeForm(_twelve, 300),
    "ISO": TimeForm(_written("%Y-%m-%d %H:%M:%S"), 5),
    "ISO with T": TimeForm(_written("%Y-%m-%dT%H:%M:%S"), 5),
    "ISO with Z": TimeForm(_written("%Y-%m-%dT%H:%M:%SZ"), 5),
    "ISO with fractions": TimeForm(lambda s: f"2024-03-13 09:59:00.{s:03}", 0.001),
    "ISO in zones": TimeForm(_zoned, 5),
    "days": TimeForm(lambda s: f"2024-02-{s + 20}" if s < 10 else f"2024-03-{s - 9:02}", 86_400),
    "basic days": TimeForm(lambda s: f"202402{s + 10}", 86_400),
    "months by name": TimeForm(_written("%d %b %Y %H:%M:%S"), 5, has_names=True),
    "days first": TimeForm(_written("%d/%m/%Y %H:%M:%S"), 5, "%d/%m/%Y %H:%M:%S"),
    "days only": TimeForm(lambda s: f"{s + 1:02}/03/2024", 86_400, "%d/%m/%Y"),
}
