"""YAML within bounds: what would exhaust time, memory or the stack is refused at once."""

from __future__ import annotations

import time

import pytest

from edgedistill.cli import run
from edgedistill.errors import ConfigError
from edgedistill.experiment import plan
from edgedistill.recipe import recipe, yaml_text

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
)
BLOCKS = "".join(f"{' ' * n}a:\n" for n in range(1000)) + " " * 1000 + "a: 1"
UNBOUNDED = {
    "aliases of aliases": (LAUGHS, r"line \d+: there are more than 20,000 values"),
    "merged aliases of aliases": (MERGES, r"line \d+: there are more than 20,000 values"),
    "an alias in itself": ("a: &a\n  b: *a", r"line 2: \*a stands in itself"),
    "nested flows": ("a: " + "[" * 10_000, "line 1: values are nested deeper than 50"),
    "nested mappings": ("{a: " * 10_000, "line 1: values are nested deeper than 50"),
    "nested blocks": (BLOCKS, "line 51: values are nested deeper than 50"),
    "nested keys": ("? " * 10_000 + "a", "line 1: values are nested deeper than 50"),
    "many values": ("- 1\n" * 30_000, "line 20000: there are more than 20,000 values"),
}
INVALID = {
    "a day 32": ("a: 2001-02-32", "is not valid YAML: day is out of range"),
    "5,000 digits": ("a: " + "9" * 5000, "line 1: a number has 5,000 characters"),
    "a wrong boolean": ("a: !!bool maybe", "is not valid YAML"),
    "an empty integer": ("a: !!int ''", "is not valid YAML"),
    "a wrong time": ("a: !!timestamp now", "is not valid YAML"),
    "a Python object": ("a: !!python/object:os.system {}", "is not valid YAML"),
    "an unknown alias": ("a: *b", "is not valid YAML"),
    "a key that is a list": ("a: 1\n? [b]\n: 2", "line 2: a key is a sequence"),
    "a key twice": ("a: 1\nb:\n  c: 1\n  c: 2", "line 4: c stands twice"),
}


@pytest.mark.parametrize(("text", "message"), UNBOUNDED.values(), ids=UNBOUNDED)
@pytest.mark.parametrize("parse", [recipe.parse, plan.parse], ids=["recipe", "plan"])
def test_unbounded_text_is_refused_at_once(parse, text, message):
    start = time.perf_counter()

    with pytest.raises(ConfigError, match=message):
        parse(text)

    assert time.perf_counter() - start < 10  # on a busy machine; unbounded it takes hours


@pytest.mark.parametrize(("text", "message"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize("parse", [recipe.parse, plan.parse], ids=["recipe", "plan"])
def test_what_pyyaml_cannot_build_is_an_error(parse, text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(("text", "message"), [*UNBOUNDED.values(), *INVALID.values()])
def test_settings_are_bounded_likewise(text, message):
    with pytest.raises(ConfigError, match=rf"--set name,? {message}"):
        recipe.parse("", [f"name={text}"])


def test_a_setting_nested_by_its_key_is_refused():
    with pytest.raises(ConfigError, match="no recipe has a key of 5000 dots"):
        recipe.parse("", ["data." * 5000 + "x=1"])


def test_large_values_are_short_in_messages():
    with pytest.raises(ConfigError) as caught:
        recipe.parse("seed: [" + "9, " * 9_000 + "1]")

    assert len(str(caught.value)) < 300


def test_aliases_within_bounds_are_values():
    _, values = yaml_text.parse("a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}", "recipe")

    assert values == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}], "c": {"x": 1, "y": 2}}


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "recipe.yaml"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)  # sparse

    with pytest.raises(ConfigError, match=r"recipe\.yaml is larger than 1 MiB"):
        recipe.load(path)
    with pytest.raises(ConfigError, match=r"plan .*recipe\.yaml is larger than 1 MiB"):
        plan.load(path)


@pytest.mark.parametrize("command", [["compress"], ["experiment"]], ids=" ".join)
def test_the_command_line_exits_with_2(command, tmp_path, capsys):
    path = tmp_path / "file.yaml"
    path.write_text(LAUGHS)

    assert run([*command, str(path), "--out", str(tmp_path / "out")]) == 2

    assert "more than 20,000 values" in capsys.readouterr().err
