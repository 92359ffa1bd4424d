"""The program with bytecode: another file, the same program, whatever Python runs it."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from edgedistill.deployment.zipapp import write_program
from edgedistill.device.releases.installation import compile_program, is_whole
from edgedistill.errors import IntegrityError


@pytest.fixture
def program(tmp_path):
    """A zipapp of two modules, one of which says where its code came from."""
    path = tmp_path / "p.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "import shop\nshop.say()\n")
        archive.writestr("shop/__init__.py", "def say():\n    print('hello', __cached__)\n")
        archive.writestr("shop/data.json", "{}")
    return path


def _run(path):
    return subprocess.run([sys.executable, path], capture_output=True, text=True).stdout.split()


def test_compiled_program_runs_from_its_bytecode(program, tmp_path):
    """It says the same; its sources are not even looked at."""
    out = tmp_path / "c.pyz"
    compile_program(program, out)
    with zipfile.ZipFile(out) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert set(contents) == {
        *("__main__.py", "__main__.pyc", "shop/__init__.py", "shop/__init__.pyc"),
        "shop/data.json",
    }

    contents["shop/__init__.py"] = b"def say():\n    print('from source')\n"
    with zipfile.ZipFile(tmp_path / "other.pyz", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)

    assert _run(out)[0] == _run(program)[0] == "hello"
    assert _run(tmp_path / "other.pyz")[0] == "hello"


def test_bytecode_of_another_python_is_ignored(program, tmp_path, monkeypatch):
    """After an upgrade of the board's Python the sources are run."""
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x00\x01\r\n")

    compile_program(program, tmp_path / "c.pyz")

    assert _run(tmp_path / "c.pyz")[0] == "hello"


def test_compiled_program_can_be_started_by_its_name(program, tmp_path):
    """It is executable and says what runs it."""
    compile_program(program, tmp_path / "c.pyz")

    assert (tmp_path / "c.pyz").read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert (tmp_path / "c.pyz").stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half"])
def test_what_is_no_program_is_refused(tmp_path, content):
    """A cut-off upload, say."""
    (tmp_path / "p").write_bytes(content)

    with pytest.raises(IntegrityError, match=r"/p is no device program: .*Make one with"):
        compile_program(tmp_path / "p", tmp_path / "c.pyz")


def test_program_that_does_not_compile_is_refused(tmp_path):
    """Written for a newer Python, say."""
    with zipfile.ZipFile(tmp_path / "p", "w") as archive:
        archive.writestr("__main__.py", "def (:\n")

    with pytest.raises(IntegrityError, match=r"is no device program: invalid syntax"):
        compile_program(tmp_path / "p", tmp_path / "c.pyz")


def test_damage_is_found(program, tmp_path):
    """A flipped byte of a module, a missing end, a missing file."""
    content = program.read_bytes()
    changed = content.replace(b"print('hello'", b"print('hullo'")
    (tmp_path / "changed.pyz").write_bytes(changed)
    (tmp_path / "short.pyz").write_bytes(content[:-30])

    assert changed != content
    assert is_whole(program)
    for name in ("changed", "short", "absent"):
        assert not is_whole(tmp_path / f"{name}.pyz")


def test_compiles_before_1980(tmp_path, monkeypatch):
    """A board without a battery thinks it is 1970; a zip has no date before 1980."""
    write_program(tmp_path / "program.pyz")
    monkeypatch.setattr("time.time", lambda: 86_400.0)

    compile_program(tmp_path / "program.pyz", tmp_path / "compiled.pyz")

    assert is_whole(tmp_path / "compiled.pyz")
