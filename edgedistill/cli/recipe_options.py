"""Options that choose what to run: a recipe file, or its main settings one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgedistill.recipe.recipe import Recipe

F = TypeVar("F", bound=Callable[..., Any])


def recipe_options(command: F) -> F:
    """Add RECIPE, --data, --test, --unlabeled and --set to a command."""
    for option in reversed(
        (
            click.argument(
                "recipe", required=False, type=click.Path(dir_okay=False, path_type=Path)
            ),
            click.option("--data", help="Set's name, file or folder, instead of RECIPE's."),
            click.option("--test", help="Test series, where they are a file of their own."),
            click.option("--unlabeled", help="File of series to learn from without labels."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="A.B=VALUE",
                help="Set a recipe key; may be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def data_options(command: F) -> F:
    """Add --data, --test and --set to a command for models that may bring their own data."""
    for option in reversed(
        (
            click.option(
                "--data", help="Set's name, file or folder; a run and a bundle bring their own."
            ),
            click.option("--test", help="Test series, where they are a file of their own."),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="A.B=VALUE",
                help="Set a recipe key, such as data.length; may be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


def read_data_recipe(
    models: Sequence[Path], data: str | None, test: str | None, settings: tuple[str, ...]
) -> Recipe | None:
    """Read the recipe that names the series for models: a run's own, or of the options.

    None for models that bring their own series, such as a bundle.

    Raises:
        UsageError: options for reading data, without data.
        ConfigError: the recipe or a setting is invalid.
    """
    from edgedistill.errors import UsageError

    own = next((m / "recipe.yaml" for m in models if (m / "recipe.yaml").is_file()), None)
    if data is not None or own is not None:
        return read_recipe(own, data=data, test=test, settings=settings)
    if test is not None or settings:
        raise UsageError("--test and --set say how data are read. Name the data with --data too.")
    return None


def read_recipe(
    recipe: Path | None,
    *,
    data: str | None,
    test: str | None,
    settings: tuple[str, ...],
    teacher: str | None = None,
    target: str | None = None,
    trust: bool = False,
    unlabeled: str | None = None,
) -> Recipe:
    """Read the recipe that the options of a command describe.

    Raises:
        UsageError: neither a recipe nor data is named.
        ConfigError: the recipe or a setting is invalid.
    """
    from edgedistill.errors import UsageError
    from edgedistill.recipe.recipe import default_settings, load, parse

    above = default_settings(
        data, test, teacher=teacher, target=target, trust=trust, unlabeled=unlabeled
    )
    if recipe is not None:
        return load(recipe, settings, file_overrides=above)
    if data is None:
        raise UsageError(
            "Name a recipe, or data with --data, such as: edgedistill compress --data GunPoint"
        )
    return parse("", settings, file_overrides=above, origin="the command line")
