"""Help is there for every command, with an example, and instant."""

from __future__ import annotations

import json
import re
import shlex

import click
import pytest

from edgedistill.cli import cli

COMMANDS = sorted(cli.commands)
HEAVY = {"torch", "numpy", "onnx", "onnxruntime", "aeon", "pydantic", "rich", "matplotlib"}
_REPORT_IMPORTS = """
import atexit, json, resource, sys
def report():
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    print(json.dumps([sorted(sys.modules), seconds]), file=sys.stderr)
atexit.register(report)
"""


def test_every_stage_is_a_command():
    """The commands are those that the documentation names."""
    assert set(COMMANDS) == {
        *("init", "compress", "train", "distill", "export", "optimize", "bundle"),
        *("validate", "benchmark", "explain", "compare", "experiment", "report", "inspect"),
        *("sign", "verify", "doctor", "program", "deploy", "rollback", "status", "trust"),
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(invoke, command, tmp_path, monkeypatch):
    """The example of each help is a command line that the parser takes."""
    ran = invoke(command, "--help")
    lines = re.sub(r"\\\s+", "", ran.stdout)
    examples = re.findall(rf"edgedistill {command} (?!\[OPTIONS).*", lines)
    monkeypatch.chdir(tmp_path)
    for folder in ("teacher", "student", "model", "variants"):
        (tmp_path / "runs" / folder).mkdir(parents=True)
    (tmp_path / "runs" / "model" / "student.onnx").touch()

    assert ran.code == 0
    assert examples
    for example in examples:
        words = shlex.split(example)[2:]
        cli.commands[command].make_context(command, words)  # refuses what it does not know


def test_check_of_examples_can_fail():
    """The parser of the examples refuses an unknown option."""
    with pytest.raises(click.NoSuchOption):
        cli.commands["train"].make_context("train", ["--date", "GunPoint", "--out", "runs"])


@pytest.mark.parametrize("arguments", [("--help",), ("compress", "--help"), ("--version",)])
def test_help_is_instant(execute, arguments):
    """Help imports nothing heavy and takes less than a second of computing."""
    ran = execute(*arguments, before=_REPORT_IMPORTS)

    modules, seconds = json.loads(ran.stderr)
    assert ran.code == 0
    assert not HEAVY & set(modules)
    assert seconds < 1


def test_check_of_imports_can_fail(execute):
    """The list of modules of the test above contains an imported module."""
    ran = execute("--help", before=_REPORT_IMPORTS + "import numpy")

    assert "numpy" in json.loads(ran.stderr)[0]


def test_help_lists_every_exit_code(invoke):
    """Scripts depend on them."""
    text = invoke("--help").stdout

    assert [int(code) for code in re.findall(r"^    (\d)  ", text, re.M)] == [0, 1, 2, 3, 4, 5, 6]
