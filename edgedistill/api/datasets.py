"""Series in memory or in files, as a recipe names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.api.display import html_table
from edgedistill.errors import DataError, ShapeError, UsageError, brief
from edgedistill.formats.arrays import array_series
from edgedistill.formats.cells import canonical_label
from edgedistill.io.arrays import AnyArray
from edgedistill.io.files import whole_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SPLITS = {
    "train": "TRAIN",
    "test": "TEST",
    "unlabeled": "UNLABELED",
}  # key of the recipe, and end of the file's name


class Dataset:
    """Labeled series: arrays, torch tensors or pandas frames, with or without test series.

    A run keeps what is in memory in files beside its recipe, so that the recipe repeats it.

    Args:
        x: series, (N, C, T) or (N, T), NaN for a missing value; or a sequence of series (C, T_i)
            of unequal lengths; or a frame with a series or a time step a row.
        y: labels, (N,): names or numbers; of a frame the name of their column, or None where it
            has a usual name.
        test: test series, as (x, y) or a frame; None splits some off.
        unlabeled: further series without labels, of the kind of `x`, for objectives that need none.
        class_names: names of the classes 0..K-1 where `y` are such numbers.
        name: name of the data set, and of its files.
        settings: further keys of the recipe's section `data`, such as `normalization` or, of a
            frame, `id` and `time`.

    Raises:
        UsageError: arguments that contradict each other.
        ShapeError: arrays that do not fit together.
        DataError: arrays that are no numbers.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(20, 60))
    >>> Dataset(x, np.arange(20) % 2, class_names=["rest", "walk"], name="steps")
    Dataset 'steps': 20 series of 1 channel and 60 steps, rest 10, walk 10
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        *,
        test: Any = None,
        unlabeled: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "data",
        **settings: Any,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"name is {brief(name)}. Use at most 64 letters, digits, dots, dashes and "
                "underscores."
            )
        self.name = name
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.settings: dict[str, Any] = settings
        self._contents: dict[str, Any] = {}  # arrays of an NPZ, or a pandas frame
        if _is_frame(x):
            self._take_frames(x, y, {"test": test, "unlabeled": unlabeled})
        else:
            self._contents["train"] = self._arrays(x, y, "x")
            if test is not None:
                self._contents["test"] = self._arrays(*_pair(test), "test x")
            if unlabeled is not None:
                self._contents["unlabeled"] = series_arrays(unlabeled)

    def _take_frames(self, train: Any, label: Any, others: Mapping[str, Any]) -> None:
        if self.class_names is not None:
            raise UsageError("class_names name numbers of y; a frame has its labels in a column.")
        if label is not None and not isinstance(label, str):
            raise UsageError(f"y is {brief(label)}; of a frame it is the name of a column.")
        others = {name: frame for name, frame in others.items() if frame is not None}
        if not all(map(_is_frame, others.values())):
            raise UsageError("The training series are a frame; give the other series as one, too.")
        if label is not None:
            self.settings["label"] = label
        self._contents = {"train": train, **others}

    def _arrays(self, x: Any, y: Any, what: str) -> dict[str, AnyArray]:
        if y is None:
            raise UsageError(f"{what} has no labels. Give y, (N,).")
        arrays = series_arrays(x)
        labels = [canonical_label(str(one)) for one in np.asarray(y).ravel().tolist()]
        count = len(array_series(arrays))
        if len(labels) != count:
            raise ShapeError(f"{what} holds {count} series, but y {len(labels)} labels.")
        return {**arrays, "y": np.array([self._named(label) for label in labels])}

    def _named(self, label: str) -> str:
        if self.class_names is None:
            return label
        if not label.isdigit() or int(label) >= len(self.class_names):
            raise DataError(
                f"y holds {label!r}, and class_names has the numbers 0 to "
                f"{len(self.class_names) - 1} only. Leave class_names out where y holds names."
            )
        return self.class_names[int(label)]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write what is in memory into a folder; return the section `data` of a recipe.

        Files of an earlier call that this set has not are removed.
        """
        section: dict[str, Any] = {}
        for key, end in _SPLITS.items():
            content = self._contents.get(key)
            for suffix in (".npz", ".csv"):
                path = folder / f"{self.name}_{end}{suffix}"
                if content is None or _is_frame(content) != (suffix == ".csv"):
                    path.unlink(missing_ok=True)
                    continue
                with whole_file(path) as partial:
                    if suffix == ".csv":
                        content.to_csv(partial, index=False)
                    else:
                        np.savez(partial, allow_pickle=False, **content)
                section[key] = str(path)
        return section | self.settings

    def __repr__(self) -> str:
        rows = ", ".join(" ".join(row) for row in self._rows())
        return f"Dataset {self.name!r}: {rows}"

    def _repr_html_(self) -> str:
        return html_table(f"Dataset {self.name}", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        train = self._contents["train"]
        if _is_frame(train):
            return [(f"{len(train)} rows", f"and {train.shape[1]} columns")]
        series = array_series(train)
        channels = f"{series.channels} channel{'s' * (series.channels > 1)}"
        lengths = sorted({one.shape[1] for one in series.series()})
        steps = " to ".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
        names, counts = np.unique(train["y"], return_counts=True)
        rows = [(f"{len(series)} series", f"of {channels} and {steps} steps")]
        rows += [(str(name), str(count)) for name, count in zip(names, counts, strict=True)]
        if "test" in self._contents:
            rows.append(("test", str(len(self._contents["test"]["y"]))))
        if "unlabeled" in self._contents:
            rows.append(("unlabeled", str(len(array_series(self._contents["unlabeled"])))))
        return rows


class _FileDataset(Dataset):
    """A data set in files."""

    def __init__(self, data: str, test: str | None, settings: Mapping[str, Any]) -> None:
        from edgedistill.pipeline.stages.data import read_source
        from edgedistill.recipe.recipe import default_settings, parse

        section = default_settings(data, test)["data"] | settings
        source = read_source(parse("", file_overrides={"data": section}, origin="load"))
        self.name, self.class_names, self.settings = source.name, None, section
        self._counts = Counter(source.train.labels)
        self._test = None if source.test is None else len(source.test.labels)

    def write(self, folder: Path) -> dict[str, Any]:
        del folder
        return dict(self.settings)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("file", str(self.settings["train"]))]
        rows += [(label, str(count)) for label, count in self._counts.items()]
        return rows if self._test is None else [*rows, ("test", str(self._test))]


def load(data: str | Path, test: str | Path | None = None, **settings: Any) -> Dataset:
    """Open a data set: the name of a bundled one, a file or a folder.

    Args:
        data: name or path, as `edgedistill compress --data` takes it.
        test: test series, where they are a file of their own.
        settings: further keys of the recipe's section `data`, such as `label` or `limit_per_class`.

    Raises:
        DataError: it cannot be found, read or used.
        ConfigError: a setting is not allowed.

    >>> load("ItalyPowerDemand", limit_per_class=15)
    Dataset 'ItalyPowerDemand': file ItalyPowerDemand, 1 15, 2 15, test 30
    """
    return _FileDataset(str(data), None if test is None else str(test), settings)


def to_dataset(data: Dataset | str | Path) -> Dataset:
    """Return a data set, opened if it is named."""
    return data if isinstance(data, Dataset) else load(data)


def series_arrays(x: Any) -> dict[str, AnyArray]:
    """Return the arrays of an NPZ that holds series in memory.

    Args:
        x: series, (N, C, T) or (N, T), or a sequence of series (C, T_i) or (T_i,).

    Raises:
        ShapeError: arrays of other shapes.
        DataError: not numbers.
    """
    if hasattr(x, "detach"):  # a torch tensor, on any device
        x = x.detach().cpu().numpy()
    if isinstance(x, np.ndarray) and x.dtype != object:
        arrays: dict[str, AnyArray] = {"x": x}
    else:
        parts = [np.atleast_2d(_array(one)) for one in x]
        if len({part.shape for part in parts}) == 1:
            arrays = {"x": np.stack(parts)}
        elif len({part.shape[0] for part in parts}) > 1 or any(p.ndim != 2 for p in parts):
            raise ShapeError(
                f"The series have the shapes {brief([part.shape for part in parts])}. Give each as "
                "(C, T_i), with the same number of channels C."
            )
        else:
            offsets = np.cumsum([0, *(part.shape[1] for part in parts)])
            arrays = {"values": np.concatenate(parts, axis=1).T, "offsets": offsets}
    array_series(arrays)
    return arrays


def _array(one: Any) -> AnyArray:
    array = np.asarray(one.detach().cpu() if hasattr(one, "detach") else one)
    return array.astype(np.float64) if array.dtype == object else array


def _is_frame(x: Any) -> bool:
    return hasattr(x, "to_csv") and hasattr(x, "columns")


def _pair(test: Any) -> tuple[Any, Any]:
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise UsageError(f"test is {brief(type(test).__name__)}; give (x, y) or a frame.")
    return test[0], test[1]
