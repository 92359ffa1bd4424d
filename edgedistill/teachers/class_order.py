"""Whether a teacher's columns stand in the order of the data set's classes.

The teacher predicts series with known labels. Two findings are refused:

- its accuracy is at or below chance, that of predictions which are as frequent as its own but do
  not depend on the series (Cohen's kappa is not positive);
- another order of its columns fits clearly better: the best one, an assignment on the confusion
  matrix, wins McNemar's one-sided exact test against the order as it is, at 1 % shared by all other
  orders (Bonferroni): a part for each number of columns that move, shared by the K!/(K - m)! ways
  to move m, so that two columns of many need few series. A teacher that is weak but rightly ordered
  has about as many series that only the other order gets right as series that only its own does,
  and passes.

Where it is likely, but the series are too few for that, a note says so.

Sources: McNemar 1947, doi:10.1007/BF02295996; Kuhn 1955, doi:10.1002/nav.3800020109.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma, log

import numpy as np

from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.teachers.classifier import NoteCallback, ignore_notes

_LEVEL = 0.01  # of falsely refusing a teacher, over all other orders together
_LIKELY = 0.1  # of the test alone, for a note
_MOSTLY = 4  # series that only the other order gets right, for each that only its own does


@dataclass(frozen=True, slots=True)
class OrderFit:
    """How well predictions fit the labels in the order as it is, and in the best other one."""

    accuracy: float  # in the order as it is
    chance: float  # accuracy of such predictions if they did not depend on the series
    order: tuple[int, ...]  # class of each column in the best order, (K,)
    best_accuracy: float  # in that order
    is_clear: bool  # whether the best order fits clearly better
    is_likely: bool  # whether it fits better where it differs, on however few series

    @property
    def is_at_chance(self) -> bool:
        """Whether predictions that do not depend on the series would be as good."""
        return self.accuracy <= self.chance


def fit_order(logits: Floats, labels: Ints) -> OrderFit:
    """Compare the order of the columns with the best one.

    Args:
        logits: logits of series, (N, K).
        labels: classes of the series, (N,), 0..K-1.

    >>> fit_order(np.eye(2, dtype=np.float32)[[0, 1] * 20], np.array([1, 0] * 20)).order
    (1, 0)
    """
    from scipy.optimize import linear_sum_assignment  # only where an order is checked
    from scipy.stats import binom

    count, classes = logits.shape
    columns = logits.argmax(axis=1)
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (columns, labels), 1)
    # A class or column without series is assigned to itself where it may be.
    _, order = linear_sum_assignment(confusion + 0.5 / (classes + 1) * np.eye(classes), True)
    right, right_reordered = columns == labels, order[columns] == labels
    lost, won = (right & ~right_reordered).sum(), (right_reordered & ~right).sum()
    log_p = float(binom.logsf(won - 1, won + lost, 0.5)) if won else 0.0
    moved = int((order != np.arange(classes)).sum())
    log_orders = lgamma(classes + 1) - lgamma(classes - moved + 1) + log(max(classes - 1, 1))
    chance = float(confusion.sum(axis=0) @ confusion.sum(axis=1)) / count**2
    return OrderFit(
        accuracy=float(right.mean()),
        chance=chance,
        order=tuple(order.tolist()),
        best_accuracy=float(right_reordered.mean()),
        is_clear=log_p + log_orders < log(_LEVEL),
        is_likely=bool(log_p < log(_LIKELY) and won >= _MOSTLY * lost),
    )


def check_class_order(
    name: str,
    logits: Floats,
    labels: Ints,
    class_names: Sequence[str],
    *,
    setting: str | None = "teacher.class_names",
    allows_chance: bool = False,
    on_note: NoteCallback = ignore_notes,
) -> None:
    """Refuse a teacher whose columns stand in another order, or that is no better than chance.

    Args:
        name: name of the teacher, for the message.
        logits: its logits of series, (N, K).
        labels: classes of the series, (N,), 0..K-1.
        class_names: class names, (K,).
        setting: recipe key that names its columns; None where there is none.
        allows_chance: whether a teacher that is no better than chance passes, unless another order
            fits clearly better.
        on_note: reports an order that is likely, on too few series to refuse the teacher.

    Raises:
        ModelError: the message has the order that fits.
    """
    fit = fit_order(logits, labels)
    if fit.is_clear or (fit.is_at_chance and not allows_chance):
        raise ModelError(_message(f"The teacher {name}", fit, len(labels), class_names, setting))
    if fit.is_likely:
        on_note(_message(f"The teacher {name}", fit, len(labels), class_names, setting))


def _message(
    subject: str, fit: OrderFit, count: int, class_names: Sequence[str], setting: str | None
) -> str:
    start = f"{subject} is right in {fit.accuracy:.1%} of {count} series"
    best = [class_names[index] for index in fit.order]
    better = f"in {fit.best_accuracy:.1%} if its columns are {', '.join(best)}"
    chance = f"no more than chance ({fit.chance:.1%})"
    if fit.is_clear:
        return (
            f"{start}, and {better}: they stand in another order of the classes. "
            f"{_way_out(best, setting, 'Write')}"
        )
    if fit.is_likely:
        chance = f"{chance}, " if fit.is_at_chance else ""
        return (
            f"{start}, {chance}and {better}; that these stand in another order is likely, but "
            f"the series are too few to be sure. {_way_out(best, setting, 'If they do, write')}"
        )
    return (
        f"{start}, {chance}, and no other order of its columns fits clearly better. Check its "
        "weights, that the data are sized and normalized as those it was trained on, and of a file "
        "of logits the order of its rows. "
        f"{_way_out(class_names, setting, 'To take it as it is, write')}"
    )


def _way_out(names: Sequence[str], setting: str | None, lead: str) -> str:
    if setting is None:
        return "Put its columns in the order of the classes where it is made."
    return f"{lead} {setting}: {json.dumps(list(names), ensure_ascii=False)}."
