"""A file of logits as a classifier: of the series it lists, and of no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgedistill.errors import DataError, ModelError, ShapeError
from edgedistill.io.arrays import AnyArray, Floats
from edgedistill.io.npz import read_npz
from edgedistill.teachers.classifier import (
    NoteCallback,
    check_logits,
    check_series,
    ignore_notes,
    output_kind,
    single_kind,
)


class TableClassifier:
    """Logits that were computed elsewhere, looked up by the bytes of the series.

    It has no perturbed series, so it has no saliency, and no objective that needs saliency can use
    it. Of equal series the first one's logits count.

    Args:
        x: preprocessed series, (N, C, T).
        logits: logits of these series, (N, K).
        name: name for messages and reports.

    Raises:
        ShapeError: the two disagree on N, or the logits are not (N, K).
    """

    can_explain = False
    changes = None

    def __init__(self, x: Floats, logits: Floats, *, name: str = "table") -> None:
        check_series(x)
        if logits.ndim != 2 or len(logits) != len(x):
            raise ShapeError(
                f"{name} holds logits of shape {logits.shape} for {len(x)} series. "
                "Write one row a series, in the order of the file, and one column a class."
            )
        check_logits(logits, name=name, count=len(x), classes=logits.shape[1])
        self.name = name
        self.classes = int(logits.shape[1])
        self._rows: dict[bytes, Floats] = {}
        for series, row in zip(x, logits, strict=True):
            self._rows.setdefault(_key(series), row.astype(np.float32))

    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32, that the table lists.

        Raises:
            DataError: a series is not in the table.
        """
        check_series(x)
        rows = [self._rows.get(_key(series)) for series in x]
        unknown = sum(row is None for row in rows)
        if unknown:
            raise DataError(
                f"{self.name} has no logits for {unknown} of {len(x)} series. A file of logits "
                "answers only for the series it was made from, never for perturbed ones: bring the "
                "model itself for saliency, or distill without it."
            )
        return np.stack([row for row in rows if row is not None])


def read_table(
    path: Path, *, train: Floats, test: Floats | None, on_note: NoteCallback = ignore_notes
) -> TableClassifier:
    """Read a teacher from an NPZ of outputs: `train`, and `test` where the data have test series.

    Each is (N, K), or of two classes (N, 1) or (N,), in any precision of real numbers.

    Args:
        path: path of the NPZ.
        train: all training series, preprocessed, in the order of their file.
        test: all test series, likewise, if there are any.
        on_note: reports arrays that nothing uses.

    Raises:
        ModelError: unreadable, without one of the two, no real numbers, or one of the two holds
            logits and the other probabilities.
        ShapeError: another number of rows than the data have series.
    """
    series = {"train": train} if test is None else {"train": train, "test": test}
    arrays = _read(path)
    missing = [name for name in series if name not in arrays]
    if missing:
        raise ModelError(
            f"{path} holds {sorted(arrays) or 'nothing'}, but no array {missing[0]!r}. Write the "
            f"logits of the {len(series[missing[0]]):,} {missing[0]} series as {missing[0]!r}, "
            "(N, K), one row a series, in the order of their file."
        )
    if unused := sorted(arrays.keys() - series.keys()):
        on_note(f"Of {path.name} nothing uses {', '.join(unused)}.")
    parts = {name: _as_outputs(arrays[name], f"{name!r} in {path}") for name in series}
    _check_counts(path, parts, {name: len(x) for name, x in series.items()})
    _check_kinds(path, parts)
    x, logits = np.concatenate(list(series.values())), np.concatenate(list(parts.values()))
    return TableClassifier(x, logits, name=path.name)


def _read(path: Path) -> dict[str, AnyArray]:
    try:
        return read_npz(path, is_bounded=False)
    except DataError as error:
        raise ModelError(f"Cannot read logits: {error}") from error


def _as_outputs(rows: AnyArray, where: str) -> Floats:
    if rows.dtype.kind != "f":
        raise ModelError(
            f"{where} holds {rows.dtype}, no real numbers: classes or votes, say. Give the logits "
            "they are made from, as float32."
        )
    with np.errstate(over="ignore"):  # infinity is refused, by the number of its rows
        outputs = rows.astype(np.float32)
    return outputs[:, None] if outputs.ndim == 1 else outputs


def _check_counts(path: Path, parts: Mapping[str, Floats], counts: Mapping[str, int]) -> None:
    """Refuse arrays with another number of rows than there are series, and name the likely slip."""
    rows = {name: len(part) for name, part in parts.items()}
    columns = parts["train"].shape[1:]
    if rows == counts and all(p.ndim == 2 and p.shape[1:] == columns for p in parts.values()):
        return
    seen = ", ".join(f"{name!r} {part.shape}" for name, part in parts.items())
    wanted = " and ".join(f"{count:,} {name} series" for name, count in counts.items())
    slip = ""
    if list(rows.values()) == list(counts.values())[::-1]:
        slip = "The two arrays seem to be swapped. "
    elif all(part.shape[1:] == (counts[name],) for name, part in parts.items()):
        slip = "They seem to be transposed. "
    raise ShapeError(
        f"{path} has {seen}; the data have {wanted}. {slip}Write one row a series, in the order of "
        "the file, before validation series are split off, and one column a class."
    )


def _check_kinds(path: Path, parts: Mapping[str, Floats]) -> None:
    for name, part in parts.items():
        check_logits(part, name=f"{path.name} ({name})", count=len(part), classes=part.shape[1])
    kinds = {
        name: single_kind(part)
        if part.shape[1] == 1
        else output_kind(part, f"{path.name} ({name})")
        for name, part in parts.items()
    }
    if len(set(kinds.values())) > 1:
        seen = " and ".join(f"{kind} of the {name} series" for name, kind in kinds.items())
        raise ModelError(f"{path} holds {seen}. Write logits of both.")


def _key(series: Floats) -> bytes:
    return np.ascontiguousarray(series, dtype=np.float32).tobytes()
