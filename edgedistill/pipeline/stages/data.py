"""The data stage: from what a recipe names to arrays (N, C, T)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from edgedistill.data import Prepared, ReadOptions, Source, load, prepare
from edgedistill.data.checks import data_warnings
from edgedistill.device.predict.readers import series_items
from edgedistill.errors import DataError
from edgedistill.formats.schema import Roles
from edgedistill.io.arrays import Floats
from edgedistill.preprocessing.transforms import Normalization, check_series
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import Data

DataCallback = Callable[[Data], None]  # called once the data are read, before anything is trained


def ignore_data(data: Data) -> None:
    """Report nothing."""


def read_source(recipe: Recipe) -> Source:
    """Return the series that the recipe names, as they stand in their files."""
    section = recipe.data
    roles = Roles(
        label=section.label,
        id=section.id,
        time=section.time,
        group=section.group,
        ignore=section.ignore,
        values=section.values,
        time_format=section.time_format,
        resample_step=None if section.resample is None else section.resample.step,
    )
    options = ReadOptions(limit_per_class=section.limit_per_class, roles=roles)
    return load(section.train, section.test, options=options)


def read_unlabeled(recipe: Recipe, source: Source) -> list[Floats]:
    """Return the unlabeled series that the recipe names, read as `predict` reads a file.

    Raises:
        DataError: the file cannot be used, or a series of it.
    """
    path, train = recipe.data.unlabeled, source.train
    if path is None:
        return []
    if train.schema is None or Path(path).is_dir():
        raise DataError(
            f"data.unlabeled is {path}. It is a file of series, beside training series in a file; "
            "folders of sounds are not read for it."
        )
    try:
        with Path(path).open("rb") as stream:
            items = list(series_items(stream, train.channels, train.schema, set(train.labels)))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Check the path.") from error
    except DataError as error:
        raise type(error)(f"{path}: {error}") from error
    series = []
    for number, item in enumerate(items, start=1):
        if item.series is None:
            raise DataError(f"{path}: series {number}: {item.error}")
        series.append(item.series.astype(np.float32))
    check_series(series, path)
    return series


def prepare_data(recipe: Recipe, on_data: DataCallback = ignore_data) -> Prepared:
    """Return the arrays that the recipe names; the same recipe and files give the same arrays."""
    data = _prepare(recipe)
    on_data(report_data(data))
    return data


def report_data(data: Prepared) -> Data:
    """Return what a report holds about the data, with the warnings about them."""
    return Data(
        name=data.name,
        classes=data.classes,
        class_names=data.class_names,
        train=len(data.train.y),
        validation=len(data.validation.y),
        test=len(data.test.y),
        length=data.length,
        channels=data.channels,
        fingerprint=data.fingerprint,
        warnings=data_warnings(data.facts),
        **{field.name: getattr(data.facts, field.name) for field in fields(data.facts)},
    )


def _prepare(recipe: Recipe) -> Prepared:
    section = recipe.data
    source = read_source(recipe)
    usual: Normalization = "series" if len(source.train.series[0]) == 1 else "train"
    return prepare(
        source,
        length=section.length,
        max_length=section.max_length,
        sizing=section.sizing,
        normalization=section.normalization or usual,
        features=section.features,
        validation_fraction=section.validation_fraction,
        test_fraction=section.test_fraction,
        seed=recipe.seed,
        unlabeled=read_unlabeled(recipe, source),
    )
