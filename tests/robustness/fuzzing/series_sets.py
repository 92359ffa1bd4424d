"""Sets of labeled series, and what a reader should see of them.

The rules of docs/data.md are written down here a second time, in other words than the readers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

LABELS: tuple[tuple[str, ...], ...] = (
    ("walk", "run"),
    ("walk", "run", "sit"),
    ("a b", "c"),
    ("c,d", "e"),
    ("x;y", "z"),
    ("it's", 'say "no"'),
    ("größer", "ß"),
    ("true", "false"),
    ("7", "None"),
    ("null", "one"),
    ("2024-01-05", "2024-01-06"),
    ("007", "8"),
    ("t0", "t1"),
    ("1", "2"),
    ("1", "2", "3"),
    ("-1", "1"),
    ("0", "1"),
    ("10", "9"),
    ("0.5", "1.5"),
    ("123456789012345678901234567890", "1"),
)
_SPELLINGS = {  # of equal numbers, the first of which is the class
    "1": ("1", "1.0", "+1", "1e+00", "1.", "b'1'"),
    "2": ("2", "2.0", "2.000", "20e-1"),
    "0": ("0", "0.0", "-0", ".0"),
    "-1": ("-1", "-1.0", "-1e0"),
    "0.5": ("0.5", ".5", "5e-1", "0.50"),
}
NUMBERS = ("four digits", "four digits", "four digits", "integers", "large", "small")


@dataclass(frozen=True)
class Part:
    """Training or test series."""

    series: list[np.ndarray]  # float32 (C, T_i) as written; NaN is missing or padding
    labels: list[str]  # classes
    spelled: list[str]  # the same as written


@dataclass(frozen=True)
class SeriesSet:
    """Training and test series."""

    channels: int
    train: Part
    test: Part

    @property
    def is_ragged(self) -> bool:
        """Whether series differ in length."""
        return len({one.shape[1] for part in (self.train, self.test) for one in part.series}) > 1

    def expected(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the series of both parts as a reader should see them."""
        both = self.train.series, self.test.series
        if is_padding(self.train.series):
            return [trimmed(one) for one in both[0]], [trimmed(one) for one in both[1]]
        return both


def draw_set(random: Random, *, channels: int, is_grid: bool, has_gaps: bool = True) -> SeriesSet:
    """Draw a set; for a grid all series of a part are padded to one length."""
    length, is_ragged = random.randint(5, 12), random.random() < 0.35
    classes = random.choice(LABELS)
    has_spellings = random.random() < 0.2
    numbers = random.choice(NUMBERS)
    gaps = random.choice(("none", "none", "ends", "inner", "both")) if has_gaps else "none"
    sides = random.choice(("end", "end", "start", "both"))
    parts = []
    for count in (random.randint(5, 9), random.randint(3, 5)):
        series = [draw_series(random, channels, length, is_ragged, numbers) for _ in range(count)]
        series = [punctured(random, one, gaps) for one in series]
        if is_grid:
            width = max(one.shape[1] for one in series) + (random.randint(0, 2) if is_ragged else 0)
            series = [padded(random, one, width, sides) for one in series]
        if random.random() < 0.1 and len(parts) == 1 and not is_ragged:
            series = [np.concatenate([one, one[:, :2]], axis=1) for one in series]  # longer ones
        labels = [*classes, *(random.choice(classes) for _ in series[len(classes) :])]
        labels = labels[:count]
        random.shuffle(labels)
        spelled = [random.choice(_SPELLINGS.get(one, (one,))) for one in labels]
        parts.append(Part(series, labels, spelled if has_spellings else labels))
    return SeriesSet(channels, parts[0], parts[1])


def draw_series(
    random: Random, channels: int, length: int, is_ragged: bool, numbers: str
) -> np.ndarray:
    """Draw a series (C, T) without gaps."""
    steps = length + random.randint(0, 4) if is_ragged else length
    values = np.array([[random.gauss(0, 1) for _ in range(steps)] for _ in range(channels)])
    scale = {"large": 1e6, "small": 1e-6, "integers": 5.0}.get(numbers, 1.0)
    values = values * scale
    digits = {"large": 0, "small": 10, "integers": 0}.get(numbers, 4)
    return values.round(digits).astype(np.float32) + np.float32(0)  # no -0


def punctured(random: Random, one: np.ndarray, gaps: str) -> np.ndarray:
    """Return the series with NaN at its ends, or within, or both."""
    one = one.copy()
    if gaps in {"ends", "both"}:
        start, stop = random.randint(0, 1), one.shape[1] - random.randint(0, 2)
        one[:, :start] = one[:, stop:] = np.nan
    if gaps in {"inner", "both"} and random.random() < 0.7:
        inner = random.randint(1, one.shape[1] - 2)
        last = random.random() < 0.2 and len(one) > 1
        one[random.randrange(len(one)), -1 if last else inner] = np.nan
    return one


def padded(random: Random, one: np.ndarray, width: int, sides: str) -> np.ndarray:
    """Return the series with NaN at its ends up to a width."""
    room = width - one.shape[1]
    before = {"end": 0, "start": room, "both": random.randint(0, room)}[sides]
    return np.pad(one, ((0, 0), (before, room - before)), constant_values=np.nan)


def trimmed(one: np.ndarray) -> np.ndarray:
    """Cut steps without any value off both ends, one by one."""
    while np.isnan(one[:, 0]).all():
        one = one[:, 1:]
    while np.isnan(one[:, -1]).all():
        one = one[:, :-1]
    return one


def is_padding(train: list[np.ndarray]) -> bool:
    """Whether NaN at the ends are padding, as docs/data.md has it."""
    if any(np.isnan(trimmed(one)).any() for one in train):
        return False
    has_ends = any(np.isnan(one).any() for one in train)
    return has_ends or len({one.shape[1] for one in train}) > 1


def number_text(random: Random, value: float, missing: str, decimal: str = ".") -> str:
    """Return a number as files have it: exact in float32."""
    if np.isnan(value):
        return missing
    number = float(np.float32(value))
    text = random.choice((repr, repr, repr, "{:.9e}".format))(number)
    return text.replace(".", decimal)
