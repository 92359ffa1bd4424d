"""The device program: all that the device side imports, and nothing of the workstation."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomli

from edgedistill.deployment import zipapp as program
from edgedistill.deployment.zipapp import contents, write_program
from edgedistill.device.releases.installation import compile_program
from edgedistill.errors import MachineError
from edgedistill.io import files

ROOT = Path(__file__).parents[2]
OURS = ("edgedistill", "edgedistill_kernels")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The program as a file, in a folder of its own."""
    path = tmp_path_factory.mktemp("program") / "edgedistill-device.pyz"
    write_program(path)
    return path


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _run(path, *arguments, python=sys.executable):
    """Run the program as a board does: nothing of the checkout can be imported."""
    return subprocess.run(
        [python, "-I", path, *arguments],
        cwd=path.parent,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_program_is_one_small_file(written):
    """It travels with every first deployment."""
    assert written.stat().st_size < 300_000
    assert written.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert written.stat().st_mode & 0o111 == 0o111


def test_equal_sources_give_equal_bytes(tmp_path):
    """The hash names the program: written twice, it is sent once."""
    first, again = (write_program(tmp_path / name) for name in ("one.pyz", "two.pyz"))

    assert first == again == files.sha256(tmp_path / "one.pyz")
    with zipfile.ZipFile(tmp_path / "one.pyz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = archive.namelist()
    assert names == ["__main__.py", *sorted(names[1:])]


def test_every_import_of_ours_is_there(written):
    """At the top of a module or in a function: each file of ours that is named travels."""
    members = _members(written)
    for name, source in members.items():
        if not name.endswith(".py"):
            continue
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body.clear()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in OURS:
                base = node.module.replace(".", "/")
                assert f"{base}.py" in members or f"{base}/__init__.py" in members, (name, base)


def test_whole_device_side_travels(written):
    """Every module in its folder, and the schemas of what it reads and writes."""
    members = set(_members(written))
    folder = ROOT / "edgedistill" / "device"

    assert {f"edgedistill/device/{p.relative_to(folder)}" for p in folder.rglob("*.py")} <= members
    assert {"edgedistill/bundle/schema.json", "edgedistill/report/schema.json"} <= members


def test_nothing_of_the_workstation_travels(written):
    """Only modules that the import rules let run on a board, and those that draw stay behind."""
    config = tomli.loads((ROOT / "pyproject.toml").read_text())
    contracts = config["tool"]["importlinter"]["contracts"]
    (board,) = (each for each in contracts if each["name"].startswith("What runs on a board"))
    allowed = {*board["source_modules"], "edgedistill", "edgedistill.report"}

    for name in _members(written):
        if name == "__main__.py":
            continue
        parts = name.removesuffix(".py").removesuffix("/__init__").split("/")
        if parts[0] == "edgedistill" and name.endswith(".py"):
            assert ".".join(parts[:2]) in allowed, name
    drawing = ("html", "svg", "figures", "markdown")
    assert not [name for name in contents() if name.rpartition("/")[2].split(".")[0] in drawing]


def test_help_names_the_program(written):
    """Not a module that nobody has."""
    ran = _run(written, "--help")

    assert ran.returncode == 0
    assert ran.stdout.startswith("usage: edgedistill-device [-h]")
    assert "edgedistill-device validate gunpoint.zip" in ran.stdout


def test_every_module_can_be_imported_from_the_zip(written):
    """Also those that only one command needs."""
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in contents()
        if name.endswith(".py") and not name.endswith("__main__.py")
    ]
    code = (
        "import importlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "for name in sys.argv[2:]: assert sys.argv[1] in importlib.import_module(name).__file__"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, written, *modules], capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stderr


def test_schema_is_read_from_inside(written):
    """A file in a zip has no path."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from edgedistill.report import schema; "
        "print(schema()['type'])"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, written], capture_output=True, text=True, check=True
    )

    assert ran.stdout == "object\n"


def test_program_knows_where_it_is(written):
    """So that it can come along with what it installs."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from edgedistill.device.releases.installation import running_program as found; "
        "print(found())"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, written], capture_output=True, text=True, check=True
    )

    assert ran.stdout == f"{written}\n"


def test_program_refuses_old_python(written, tmp_path):
    """The first lines run on any Python 3, and say which one is needed."""
    with zipfile.ZipFile(written) as archive:
        main = archive.read("__main__.py").decode()
    (tmp_path / "old.py").write_text(
        f"import sys\nsys.version_info = (3, 9, 7)\n{main.split('from edgedistill')[0]}"
    )

    ran = subprocess.run([sys.executable, tmp_path / "old.py"], capture_output=True, text=True)

    assert ran.returncode == 5
    assert "error: This is Python 3.9; edgedistill-device needs 3.10 or newer" in ran.stderr


def test_package_without_sources_is_refused(tmp_path, monkeypatch):
    """Nothing half is written."""
    monkeypatch.setattr(program, "_FOLDERS", {"edgedistill": tmp_path})

    with pytest.raises(MachineError, match=r"There are no sources of edgedistill\.device in "):
        write_program(tmp_path / "p.pyz")

    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def installed(written, tmp_path_factory):
    """The program of a release: with bytecode, and its hash beside it."""
    folder = tmp_path_factory.mktemp("release")
    compile_program(written, folder / "edgedistill-device.pyz")
    digest = files.sha256(folder / "edgedistill-device.pyz")
    (folder / "edgedistill-device.pyz.sha256").write_text(f"{digest}  edgedistill-device.pyz\n")
    return folder / "edgedistill-device.pyz"


def test_installed_program_checks_its_hash(installed, tmp_path):
    """One byte of a source that Python never looks at is enough; the message has the way out."""
    assert _run(installed, "--version").returncode == 0
    content = installed.read_bytes()
    at = content.index(b"Current and previous release")
    damaged = tmp_path / installed.name
    damaged.write_bytes(content[:at] + b"K" + content[at + 1 :])
    assert _run(damaged, "--version").returncode == 0

    digest = installed.with_name(f"{installed.name}.sha256").read_text()
    damaged.with_name(f"{installed.name}.sha256").write_text(digest)
    done = _run(damaged, "--version")

    assert done.returncode == 6
    assert f"error: {damaged} is damaged: it has SHA-256 " in done.stderr
    assert f"installed was {digest[:12]}. Return to another release" in done.stderr


SWITCHED = """
import os, runpy, sys

def switch(event, arguments):
    if event == "import" and arguments[0] == "edgedistill.device.__main__":
        os.symlink("new", "link")
        os.replace("link", "current")

sys.addaudithook(switch)
sys.argv = ["current/program.pyz", "--help"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_program_stays_itself_when_the_link_to_it_moves(written, tmp_path):
    """A release switched by its own program goes on to import from the release it came from."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "program.pyz").write_bytes(written.read_bytes())
    with zipfile.ZipFile(tmp_path / "new" / "program.pyz", "w") as other:
        other.writestr("__main__.py", "print('new')")
    (tmp_path / "current").symlink_to("old")

    ran = subprocess.run(
        [sys.executable, "-I", "-c", SWITCHED], cwd=tmp_path, capture_output=True, text=True
    )

    assert (tmp_path / "current").readlink() == Path("new")
    assert ran.stdout.startswith("usage: edgedistill-device"), ran.stderr
