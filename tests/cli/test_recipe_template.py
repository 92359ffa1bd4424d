"""The commented recipe that `init` writes is the default recipe, key for key."""

from __future__ import annotations

from pathlib import Path

import yaml

from edgedistill import cli
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe

TEMPLATE = Path(cli.__file__).with_name("recipe.yaml")


def _keys(values: object, path: str = "") -> set[str]:
    if isinstance(values, dict):
        return set().union(*(_keys(v, f"{path}.{k}") | {f"{path}.{k}"} for k, v in values.items()))
    if isinstance(values, list):
        return set().union(*(_keys(v, f"{path}.{i}") for i, v in enumerate(values)), set())
    return set()


def test_template_is_the_default_recipe():
    """An unchanged template has all defaults."""
    assert config.load(TEMPLATE) == Recipe()


def test_template_holds_every_key():
    """No setting is missing."""
    template = yaml.safe_load(TEMPLATE.read_text("utf-8"))

    assert _keys(template) == _keys(Recipe().to_dict())


def test_check_of_keys_can_fail():
    """The comparison includes keys inside lists of mappings."""
    assert _keys({"a": [{"b": 1}]}) == {".a", ".a.0.b"}


def test_init_writes_a_recipe_that_loads(invoke, tmp_path):
    """It has the data of the option, and the comments."""
    path = tmp_path / "folder" / "recipe.yaml"

    ran = invoke("init", path, "--data", "my: data.npz")

    assert ran.code == 0
    assert f"edgedistill compress {path}" in ran.stdout
    assert config.load(path).data.train == "my: data.npz"
    assert "# of the bundle" in path.read_text("utf-8")


def test_init_keeps_an_existing_file(invoke, tmp_path):
    """Without --force no file is replaced."""
    path = tmp_path / "recipe.yaml"
    path.write_text("mine")

    refused = invoke("init", path)
    kept = path.read_text()
    forced = invoke("init", path, "--force")

    assert refused.code == 2
    assert f"{path} exists. Name another file, or replace it with --force." in refused.stderr
    assert kept == "mine"
    assert forced.code == 0
    assert config.load(path) == Recipe()
