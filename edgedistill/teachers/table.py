"""A file of logits as a classifier: of the series it lists, and of no other."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgedistill.errors import DataError, ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.teachers.classifier import check_logits, check_series


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


def read_table(path: Path, *, train: Floats, test: Floats | None) -> TableClassifier:
    """Read a teacher from an NPZ of logits: `train` (N, K), and `test` (N, K) if there.

    Args:
        path: path of the NPZ.
        train: all training series, preprocessed, in the order of their file.
        test: all test series, likewise, if there are any.

    Raises:
        ModelError: unreadable, or without `train`.
        ShapeError: another number of rows than the data have series.
    """
    arrays = _read(path)
    if "train" not in arrays:
        raise ModelError(
            f"{path} holds {sorted(arrays) or 'nothing'}, but no array 'train'. Write logits "
            "of the training series as 'train', (N, K), and of the test series as 'test'."
        )
    arrays = {name: _as_columns(rows) for name, rows in arrays.items()}
    x, logits = [train], [arrays["train"]]
    if test is not None and "test" in arrays:
        x.append(test)
        logits.append(arrays["test"])
    for part, rows, name in zip(x, logits, ("train", "test"), strict=False):
        if rows.ndim != 2 or len(rows) != len(part):
            raise ShapeError(
                f"'{name}' in {path} has shape {rows.shape}; the data have {len(part)} {name} "
                "series. Write one row a series, in the order of the file."
            )
    return TableClassifier(np.concatenate(x), np.concatenate(logits), name=path.name)


def _as_columns(rows: Floats) -> Floats:
    return rows[:, None] if rows.ndim == 1 else rows


def _read(path: Path) -> dict[str, Floats]:
    try:
        # NumPy leaves a file it opened itself open when the archive is damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ModelError(f"{path} is a single array, no NPZ. Write it with numpy.savez.")
            return {name: np.asarray(archive[name], dtype=np.float32) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(f"Cannot read logits from {path}: {error}. Write the NPZ anew.") from error


def _key(series: Floats) -> bytes:
    return np.ascontiguousarray(series, dtype=np.float32).tobytes()
