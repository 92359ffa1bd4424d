"""The service's unit is one that systemd takes, and its script does what it says, once."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT = DEPLOY / "install.sh"
UNIT = "edgedistill-predict.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A board's folder with a current release, as far as the script looks."""
    release = tmp_path / "root" / "releases" / "one"
    release.mkdir(parents=True)
    (release / "edgedistill-device.pyz").write_text("")
    (tmp_path / "root" / "current").symlink_to("releases/one")
    return tmp_path / "root"


def _run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", SCRIPT, "--python", sys.executable, *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_shellcheck_is_content(unavailable: Callable[[str], NoReturn]):
    """No quoting is forgotten, and nothing in it is bash's alone."""
    if shutil.which("shellcheck") is None:
        unavailable("shellcheck is not installed: apt-get install shellcheck")

    ran = subprocess.run(["shellcheck", "--shell=sh", SCRIPT], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout


def _verify(unit: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )


def test_systemd_takes_the_unit(root, tmp_path, unavailable: Callable[[str], NoReturn]):
    """It verifies what the script writes; a word that it does not know would be found."""
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd is not installed: apt-get install systemd")
    ran = _run("--root", root, "--options", "--saliency", "--dry-run")
    good, bad = tmp_path / "good" / UNIT, tmp_path / "bad" / UNIT
    for unit, text in ((good, ran.stdout), (bad, ran.stdout.replace("UMask=", "UMaks="))):
        unit.parent.mkdir()
        unit.write_text(text)

    assert (_verify(good).returncode, _verify(good).stderr) == (0, "")
    assert "UMaks" in _verify(bad).stderr


def test_unit_takes_the_interpreter_that_validated_what_runs(root, tmp_path):
    """Unless one is named."""
    python = tmp_path / "validator"
    python.symlink_to(sys.executable)
    (root / "current" / "python").symlink_to(python)

    for words, expected in (((), python), (("--python", sys.executable), sys.executable)):
        ran = subprocess.run(
            ["sh", SCRIPT, "--root", root, "--dry-run", *words], capture_output=True, text=True
        )
        assert f"\nExecStart={expected} {root}/current/" in ran.stdout, ran.stderr


def test_unit_never_gives_up(root):
    """A broker or a disk may be away longer than any count of attempts; the network comes first."""
    unit = _run("--root", root, "--dry-run").stdout

    assert "\nStartLimitIntervalSec=0\n" in unit
    assert "\nRestart=on-failure\n" in unit
    assert "\nWants=network-online.target\nAfter=network-online.target\n" in unit


def test_program_of_the_previous_release_judges_the_current_one(root):
    """Before each start and after each failure, within what systemd waits for."""
    unit = _run("--root", root, "--dry-run").stdout

    for key, words in (
        ("ExecStartPre", "fallback"),
        ("ExecStopPost", 'record-failure --result "$$SERVICE_RESULT" --status "$$EXIT_STATUS"'),
    ):
        (line,) = [line for line in unit.splitlines() if line.startswith(f"{key}=-")]
        assert "for r in previous current; do" in line
        assert f"releases --root {root} {words} && exit" in line
    assert "\nType=notify\n" in unit
    assert "\nWatchdogSec=60\n" in unit


def test_memory_is_bounded(root):
    """The board itself goes on, whatever its service does."""
    assert "\nMemoryMax=75%\n" in _run("--root", root, "--dry-run").stdout


def test_dry_run_changes_nothing(root, tmp_path):
    """It prints the whole unit, with nothing left to fill in."""
    ran = _run("--root", root, "--dry-run", DESTDIR=str(tmp_path / "image"))

    assert ran.returncode == 0, ran.stderr
    program = f"{sys.executable} {root}/current/edgedistill-device.pyz"
    listen = "--listen unix:/run/edgedistill/predict.sock"
    assert f"ExecStart={program} predict {root}/current {listen}\n" in ran.stdout
    assert f"User={getpass.getuser()}\n" in ran.stdout
    assert "@" not in ran.stdout.replace("SystemCallFilter=@system-service", "").partition("\n")[2]
    assert not (tmp_path / "image").exists()


def test_an_image_is_written_without_systemd(root, tmp_path):
    """DESTDIR is where the image's files lie; a second run finds everything as it should be."""
    image = tmp_path / "image"

    first = _run("--root", root, DESTDIR=str(image))
    unit = image / "etc" / "systemd" / "system" / UNIT
    written = unit.read_text()
    second = _run("--root", root, DESTDIR=str(image))
    third = _run("--root", root, "--listen", "127.0.0.1:5000", DESTDIR=str(image))

    assert [ran.returncode for ran in (first, second, third)] == [0, 0, 0]
    assert "Wrote" in first.stdout
    assert "as it should be" in second.stdout
    assert "Wrote" in third.stdout
    assert unit.read_text() == written.replace(
        "unix:/run/edgedistill/predict.sock", "127.0.0.1:5000 --token /etc/edgedistill/token"
    )
    assert [path.name for path in unit.parent.iterdir()] == [UNIT]


KINDS = {
    "edgedistill-predict": ["--listen", "127.0.0.1:5000"],
    "edgedistill-predict-folder": ["--folder", "{folder}"],
    "edgedistill-predict-mqtt": ["--mqtt", "me@broker", "--subscribe", "in", "--topic", "out"],
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_a_service_of_its_own(
    name, root, tmp_path, unavailable: Callable[[str], NoReturn]
):
    """Systemd takes its unit, `predict` its options, and it is removed alone."""
    if shutil.which("systemd-analyze") is None:
        unavailable("systemd is not installed: apt-get install systemd")
    image, folder = tmp_path / "image", tmp_path / "spool"
    folder.mkdir()
    words = [word.format(folder=folder) for word in KINDS[name]]
    unit = image / "etc" / "systemd" / "system" / f"{name}.service"

    ran = _run("--root", root, *words, DESTDIR=str(image))
    verified = _verify(unit)
    command = unit.read_text().partition("\nExecStart=")[2].partition("\n")[0].split()
    removed = _run(*words, "--remove", DESTDIR=str(image))

    assert (ran.returncode, verified.returncode, verified.stderr) == (0, 0, "")
    assert command[2:4] == ["predict", f"{root}/current"]
    assert command[4 : 4 + len(words)] == words
    assert (removed.returncode, unit.exists()) == (0, False)


def test_secrets_are_for_their_owner_alone(root, tmp_path):
    """The token of a port, made once; and the password of a broker, whatever is in it."""
    image, password = tmp_path / "image", tmp_path / "password"
    password.write_text('a "b" \\c\n')
    secrets = image / "etc" / "edgedistill"

    for _ in range(2):
        _run("--root", root, *KINDS["edgedistill-predict"], DESTDIR=str(image))
        token = (secrets / "token").read_text()
    words = [*KINDS["edgedistill-predict-mqtt"], "--password", password]
    _run("--root", root, *words, DESTDIR=str(image))

    assert {path.name: path.stat().st_mode & 0o777 for path in secrets.iterdir()} == {
        "token": 0o600,
        "mqtt.env": 0o600,
    }
    assert (secrets / "token").read_text() == token
    assert len(token) > 40
    line = (secrets / "mqtt.env").read_text()
    assert line == 'EDGEDISTILL_MQTT_PASSWORD="a \\"b\\" \\\\c"\n'


def test_removing(root, tmp_path):
    """The unit goes, the releases stay; there being nothing to remove is no error."""
    image = tmp_path / "image"
    _run("--root", root, DESTDIR=str(image))

    first = _run("--remove", DESTDIR=str(image))
    second = _run("--remove", DESTDIR=str(image))

    assert [first.returncode, second.returncode] == [0, 0]
    assert "Removed" in first.stdout
    assert "There is no" in second.stdout
    assert [path for path in image.rglob("*") if path.is_file()] == []
    assert (root / "current").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "--root"),
        (("--root",), 2, "needs a value"),
        (("--what",), 2, "is no option"),
        (("--root", "/no/such/folder"), 5, "Deploy a bundle first"),
        (("--root", "{empty}"), 5, "Deploy a bundle first"),
        (("--root", "{root}", "--user", "no-such-user"), 5, "There is no user"),
        (("--root", "{root}", "--python", "no-such-python"), 5, "no such Python"),
        (("--root", "{root}", "--listen", "a|b"), 2, "cannot take"),
        (("--root", "{root}", "--options", "%h"), 2, "cannot take"),
        (("--root", "{root}", "--options", "a\nb"), 2, "cannot take"),
        (("--root", "{root}", "--listen", "a b"), 2, "Blanks"),
        (("--root", "{root}", "--listen", "a:1", "--folder", "{empty}"), 2, "exclude each other"),
        (("--root", "{root}", "--mqtt", "b"), 2, "belong together"),
        (("--root", "{root}", "--folder", "/no/such/folder"), 5, "no folder /no/such/folder"),
        (("--root", "{root}", "--password", "p"), 2, "Add --mqtt"),
    ],
    ids=range(15),
)
def test_what_it_refuses(words, code, told, root, tmp_path):
    """Each has its message and the exit code that the commands have; nothing is written."""
    (tmp_path / "empty").mkdir()
    places = {"{root}": str(root), "{empty}": str(tmp_path / "empty")}

    ran = _run(*(places.get(word, word) for word in words), DESTDIR=str(tmp_path / "image"))

    assert (ran.returncode, ran.stdout) == (code, "")
    assert told in ran.stderr
    assert not (tmp_path / "image").exists()


def test_an_old_python(root, tmp_path):
    """The board's program would refuse it too, but later."""
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    ran = _run("--root", root, "--python", old, "--dry-run")

    assert ran.returncode == 5
    assert "older than 3.10" in ran.stderr


@pytest.mark.skipif(os.getuid() == 0, reason="as root it would be allowed")
def test_only_root_may(root):
    """Said before anything is tried."""
    ran = _run("--root", root)

    assert ran.returncode == 5
