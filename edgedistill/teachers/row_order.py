"""Whether the rows of a file of logits stand in the order of the series.

A network computes from each series itself; a row of a file is matched to one by its place alone, so
that a file in another order is a teacher that runs and is wrong. Rows are refused if they are right
no more often than in random order (Cohen's kappa, tested against 0 at 1 %), and clearly less often
than in the right one (half of the expected kappa, tested at 1 %). Expected of the training series
is 1, of the test series what the training series reached. Where the series are too few to tell, a
note says so.

Source: Fleiss, Cohen and Everitt 1969, doi:10.1037/h0028106, the variance of kappa around 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.teachers.classifier import NoteCallback, ignore_notes

_LEVEL = 0.01  # of each test
_DEVIATIONS = 2.326  # beyond which 1 % of a normal distribution lies


@dataclass(frozen=True, slots=True)
class RowFit:
    """How well rows fit the labels in their order."""

    accuracy: float
    chance: float  # accuracy of the same rows in random order, on average
    is_at_chance: bool  # whether rows in random order could well be as good

    @property
    def kappa(self) -> float:
        """Cohen's kappa; 0 at chance, 1 if all are right."""
        return (self.accuracy - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0


def fit_rows(logits: Floats, labels: Ints) -> RowFit:
    """Compare the accuracy of rows with that of the same rows in random order.

    Args:
        logits: rows of a file, (N, K).
        labels: classes of the series that they are matched to, (N,), 0..K-1.

    >>> fit_rows(np.eye(2, dtype=np.float32)[[0, 1] * 20], np.array([0, 1] * 20)).is_at_chance
    False
    """
    count, classes = logits.shape
    columns = logits.argmax(axis=1)
    p, q = (np.bincount(each, minlength=classes) / count for each in (columns, labels))
    accuracy, chance = float((columns == labels).mean()), float(p @ q)
    variance = (chance - p**2 @ q - p @ q**2 + chance**2) / max(count - 1, 1)
    is_at_chance = accuracy - chance <= _DEVIATIONS * float(np.sqrt(max(variance, 0.0)))
    return RowFit(accuracy=accuracy, chance=chance, is_at_chance=is_at_chance)


def check_row_order(
    name: str,
    parts: Mapping[str, tuple[Floats, Ints]],
    class_names: Sequence[str],
    *,
    setting: str | None = "teacher.class_names",
    on_note: NoteCallback = ignore_notes,
) -> None:
    """Refuse a file of logits whose rows do not stand in the order of the series.

    Args:
        name: name of the teacher, for the message.
        parts: logits (N, K) and labels (N,) of the training series, and then of the test series.
        class_names: class names, (K,).
        setting: recipe key with which the rows are taken as they are; None where there is none.
        on_note: reports rows at chance that are too few to refuse.

    Raises:
        ModelError: the rows of a part stand in another order.
    """
    from scipy.stats import binom  # only where a file of logits is checked

    expected, before = 1.0, ""
    for part, (logits, labels) in parts.items():
        fit, count = fit_rows(logits, labels), len(labels)
        if fit.is_at_chance:
            half = fit.chance + expected / 2 * (1 - fit.chance)
            is_clear = binom.cdf(round(fit.accuracy * count), count, half) < _LEVEL
            seen = (
                f"The rows of {name} are right in {fit.accuracy:.1%} of {count:,} {part} series, "
                f"no more than in random order ({fit.chance:.1%}){before}"
            )
            if is_clear:
                raise ModelError(f"{seen}. {_way_out(class_names, setting)}")
            on_note(f"{seen}; the series are too few to be sure. Check the order of the rows.")
        expected, before = fit.kappa, f", and in {fit.accuracy:.1%} of {count:,} {part} series"


def _way_out(class_names: Sequence[str], setting: str | None) -> str:
    order = "Write one row a series, in the order of the file of the series"
    if setting is None:
        return f"{order}."
    names = json.dumps(list(class_names), ensure_ascii=False)
    return f"{order}; to take them as they are, write {setting}: {names}."
