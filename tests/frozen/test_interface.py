"""What people type and write: help of every command, both schemas, exit codes of errors."""

from __future__ import annotations

import json
import re

import pytest

import edgedistill.errors


def _walk(call, words=()):
    """Yield the words and the help of a click command and of all below it."""
    ran = call(*words, "--help")
    assert ran.code == 0, words
    yield " ".join(words), ran.stdout
    listed = ran.stdout.partition("\nCommands:\n")[2]
    for name in re.findall(r"^  (\w+)", listed, re.M):
        yield from _walk(call, (*words, name))


def test_help(invoke, frozen):
    """Of every command, as it is wrapped at 80 columns."""
    frozen("help", {words: text.splitlines() for words, text in _walk(invoke)})


def test_help_of_the_device_side(device, frozen):
    """Of every command; argparse wraps by Python's version, so only the words count."""
    texts = dict(_walk_device(device))

    assert "releases install" in texts
    frozen("device-help", {words: " ".join(text.split()) for words, text in texts.items()})


def _walk_device(device, words=()):
    """Yield the words and the help of an argparse command and of all below it."""
    ran = device(*words, "--help")
    assert ran.code == 0, ran.stderr
    yield " ".join(words), ran.stdout
    listed = re.search(r"^  [A-Z]+\n((?:    .*\n)+)", ran.stdout, re.M)
    for name in re.findall(r"^    ([\w-]+)", listed.group(1), re.M) if listed else ():
        yield from _walk_device(device, (*words, name))


def test_schema_of_the_recipe(schema_of_recipe, comparing, frozen):
    """Keys, types, bounds and defaults."""
    frozen("recipe-schema", comparing.plain_schema(schema_of_recipe))


def test_template_of_the_recipe(invoke, home, frozen):
    """`init` writes every key, with what it means."""
    assert invoke("init", "template.yaml").code == 0

    frozen("recipe-template", (home / "template.yaml").read_text("utf-8").splitlines())


def test_schema_of_a_bundle(package, frozen):
    """What a manifest may hold."""
    path = package / "bundle" / "schema.json"

    frozen("bundle-schema", json.loads(path.read_text("utf-8")))


def test_exit_codes_of_errors(frozen):
    """Each class of error, with its code and whose child it is."""
    found = {
        name: [kind.exit_code, kind.__mro__[1].__name__]
        for name, kind in vars(edgedistill.errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }

    frozen("errors", found)


ERRORS = {
    "no such command": ("compres",),
    "no such option": ("compress", "--dat", "GunPoint"),
    "nothing to do": ("compress",),
    "no recipe": ("compress", "none.yaml"),
    "no such key": ("compress", "--data", "GunPoint", "--set", "student.widht=3"),
    "no such objective": (
        *("compress", "--data", "GunPoint"),
        *("--set", "student.objectives=[{name: kx}]"),
    ),
    "out of bounds": ("compress", "--data", "GunPoint", "--set", "student.width=0"),
    "no such target": ("compress", "--data", "GunPoint", "--target", "arch64"),
    "no such data": ("compress", "--data", "GunPont", "--out", "never"),
    "no bundle": ("validate", "none.zip"),
    "no board": ("status",),
    "no series": ("explain", "tiny.yaml"),
    "not a model": ("inspect", "tiny.yaml"),
    "no plan": ("experiment", "run", "none.yaml", "--out", "never"),
    "board away": ("status", "pi@127.0.0.1:1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_message_and_code_of_an_error(invoke, frozen_command, name):
    """What a person reads who made a slip."""
    frozen_command(f"error-{name.replace(' ', '-')}", invoke(*ERRORS[name]))
