"""Output of predictions: JSON lines and CSV for machines, a table for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.formats.cells import spreadsheet_cell
from edgedistill.io.terminal import printable

Write = Callable[[PredictionResult], None]
_DIGITS: Final = 7  # float32 has no more
_ID_WIDTH, _CLASS_WIDTH = 12, 24  # of the table, in characters


def to_record(result: PredictionResult, predictor: Predictor) -> dict[str, Any]:
    """Return a result as JSON-able values."""
    item, found = result.item, result.prediction
    facts: dict[str, Any] = dict(item.place)
    if item.id is not None:
        facts["id"] = item.id
    if found is None:
        return {**facts, "error": result.error}
    if item.warning is not None:
        facts["warning"] = item.warning
    names = predictor.class_names
    facts["class"] = names[found.index]
    facts["index"] = found.index
    facts["probabilities"] = dict(zip(names, _rounded(found.probabilities), strict=True))
    if found.signed is not None:
        facts["saliency"] = _rounded(found.signed)
    return facts


def plan_record(predictor: Predictor) -> dict[str, Any]:
    """Return the windows of the `saliency` values; written once, before the predictions."""
    return {"plan": {**predictor.plan.to_dict(), "starts": predictor.plan.starts.tolist()}}


def to_line(facts: dict[str, Any]) -> str:
    """Return JSON in one line."""
    return json.dumps(facts, allow_nan=False)


class JsonLines:
    """Writer of an object a line; one without a prediction has an `error`."""

    def __init__(self, predictor: Predictor, out: TextIO) -> None:
        """Write the plan if maps will follow."""
        self._predictor = predictor
        self._out = out
        if predictor.saliency:
            print(to_line(plan_record(predictor)), file=out, flush=True)

    def __call__(self, result: PredictionResult) -> None:
        """Write one line at once: a reader may wait for it."""
        print(to_line(to_record(result, self._predictor)), file=self._out, flush=True)


class CsvRows:
    """Writer of a row a prediction under a header; errors go to another stream."""

    def __init__(self, predictor: Predictor, out: TextIO, errors: TextIO) -> None:
        """Write nothing yet: the first result defines the columns."""
        self._predictor = predictor
        self._out = out
        self._errors = errors
        self._headed = False

    def __call__(self, result: PredictionResult) -> None:
        """Write one row, or its error."""
        print_error(result, self._errors)
        if result.prediction is None:
            return
        cells = self._cells(to_record(result, self._predictor), result)
        if not self._headed:
            self._headed = True
            self._out.write(_csv_line(cells))
        self._out.write(_csv_line(cells.values()))
        self._out.flush()

    def _cells(self, facts: dict[str, Any], result: PredictionResult) -> dict[str, Any]:
        cells = {kind: facts[kind] for kind in result.item.place}
        cells |= {"id": facts.get("id", ""), "class": facts["class"], "index": facts["index"]}
        cells |= {f"p({name})": share for name, share in facts["probabilities"].items()}
        if "saliency" in facts:
            starts = self._predictor.plan.starts.tolist()
            cells |= {f"saliency@{at}": v for at, v in zip(starts, facts["saliency"], strict=True)}
        return cells


class Table:
    """Writer of aligned rows for people; errors go to another stream."""

    def __init__(self, predictor: Predictor, out: TextIO, errors: TextIO) -> None:
        """Write nothing yet: the first result defines the columns."""
        self._predictor = predictor
        self._out = out
        self._errors = errors
        self._headed = False
        self._width = min(
            _CLASS_WIDTH, max(map(len, map(printable, (*predictor.class_names, "class"))))
        )

    def __call__(self, result: PredictionResult) -> None:
        """Write one row, or its error."""
        found, item = result.prediction, result.item
        print_error(result, self._errors)
        if found is None:
            return
        (kind, number), *_ = item.place.items()
        if not self._headed:
            self._headed = True
            reason = "strongest reason" if self._predictor.saliency else ""
            self._row(kind, "id", "class", "probability", reason)
        name = self._predictor.class_names[found.index]
        share = f"{found.probabilities[found.index]:.4f}"
        reason = "" if found.signed is None else _strongest(found.signed, self._predictor)
        self._row(str(number), "" if item.id is None else str(item.id), name, share, reason)

    def _row(self, number: str, name: str, label: str, share: str, reason: str) -> None:
        row = f"{number:>8}  {printable(name):{_ID_WIDTH}}  {printable(label):{self._width}}"
        print(f"{row}  {share:>11}  {reason}".rstrip(), file=self._out, flush=True)


def print_error(result: PredictionResult, errors: TextIO) -> None:
    """Print the error of a result without a prediction, or its warning if it has one."""
    message = result.error if result.prediction is None else result.item.warning
    if message is None:
        return
    place = " ".join(f"{kind} {number}" for kind, number in result.item.place.items())
    print(printable(f"{place}: {message}"), file=errors, flush=True)


def _strongest(signed: NDArray[np.float32], predictor: Predictor) -> str:
    window = int(np.abs(signed).argmax())
    first = int(predictor.plan.starts[window])
    return f"steps {first} to {first + predictor.plan.width - 1}: {signed[window]:+.3f}"


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    safe = (spreadsheet_cell(printable(cell)) if isinstance(cell, str) else cell for cell in cells)
    csv.writer(line, lineterminator="\n").writerow(safe)
    return line.getvalue()


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]
