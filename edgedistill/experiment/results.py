"""Table of an experiment: one row for each run, as CSV that is complete at any time."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill.errors import DataError
from edgedistill.formats.cells import spreadsheet_cell
from edgedistill.io.files import whole_file

RESULTS = "results.csv"
_NAMES = ("set", "method", "seed", "status", "error")
MEASURES = (
    *("accuracy", "auc_prc", "roc_auc", "agreement", "kl", "ece"),
    *("saliency_pearson", "saliency_pearson_median", "saliency_pearson_p10"),
    *("saliency_spearman", "saliency_top_sign"),
    *("unseen_pearson", "unseen_pearson_median", "unseen_pearson_p10"),
    *("unseen_spearman", "unseen_top_sign"),
    *("validation_accuracy", "validation_kl", "validation_pearson"),  # to choose settings by
)
_COSTS = ("parameters", "seconds")
REFERENCES = ("teacher_accuracy", "teacher_auc_prc", "ceiling_pearson", "floor_pearson")
NUMBERS = (*MEASURES, *_COSTS, *REFERENCES)
COLUMNS = (*_NAMES, *MEASURES, *_COSTS, "weights", *REFERENCES)


@dataclass(frozen=True, slots=True)
class Row:
    """One run, with its measurements or its error."""

    set: str
    method: str
    seed: int
    error: str | None  # None: done
    numbers: dict[str, float]  # by column; without those that were not measured
    weights: str = ""  # chosen weights of the objectives, as JSON

    @property
    def status(self) -> str:
        """Status of the run: "done" or "failed"."""
        return "done" if self.error is None else "failed"


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the whole table."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_to_cells(row) for row in rows)


def read(path: Path) -> list[Row]:
    """Read the rows of a table.

    Raises:
        DataError: the file is missing, or not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            if tuple(table.fieldnames or ()) != COLUMNS:
                raise DataError(
                    f"{path} has other columns than an experiment writes. Run the experiment again."
                )
            return [_read(values) for values in table]
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror}. Name the folder of an experiment."
        ) from error
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is damaged: {error}. Run the experiment again.") from error


def read_published(path: Path, columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read published accuracies by column and set; a set without one is left out.

    Args:
        path: path of a CSV file whose first column names the set.
        columns: names of the columns to read.

    Raises:
        DataError: the file is missing, has no such column, or holds something else than numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            first, *others = table.fieldnames or ("",)
            missing = [name for name in columns if name not in others]
            if missing:
                raise DataError(
                    f"{path} has no column {missing[0]}. Choose from {', '.join(others)}."
                )
            rows = list(table)
        return {name: {r[first]: float(r[name]) for r in rows if r[name]} for name in columns}
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is no table of accuracies: {error}.") from error


def _to_cells(row: Row) -> dict[str, str | int | float]:
    names = (row.set, row.method, row.seed, row.status, spreadsheet_cell(row.error or ""))
    numbers: dict[str, str | int | float] = {**row.numbers}
    if "parameters" in row.numbers:
        numbers["parameters"] = int(row.numbers["parameters"])
    return {**dict(zip(_NAMES, names, strict=True)), **numbers, "weights": row.weights}


def _read(values: dict[str, str]) -> Row:
    return Row(
        set=values["set"],
        method=values["method"],
        seed=int(values["seed"]),
        error=None if values["status"] == "done" else values["error"],
        numbers={name: float(values[name]) for name in NUMBERS if values[name] != ""},
        weights=values["weights"],
    )
