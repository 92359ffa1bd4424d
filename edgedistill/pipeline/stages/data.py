"""The data stage: from what a recipe names to arrays (N, C, T)."""

from __future__ import annotations

from edgedistill.data import Prepared, ReadOptions, Source, load, prepare
from edgedistill.preprocessing.transforms import Normalization
from edgedistill.recipe.recipe import Recipe


def read_source(recipe: Recipe) -> Source:
    """Return the series that the recipe names, as they stand in their files."""
    options = ReadOptions(limit_per_class=recipe.data.limit_per_class)
    return load(recipe.data.train, recipe.data.test, options=options)


def prepare_data(recipe: Recipe) -> Prepared:
    """Return the arrays that the recipe names; the same recipe and files give the same arrays."""
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
    )
