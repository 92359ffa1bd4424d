"""What is known of a board before anything is written: its shell, its Python, its disk."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgedistill.deployment import board as module
from edgedistill.deployment.board import BoardFacts, check_disk, probe
from edgedistill.deployment.payload import DeploymentPayload, UploadFile
from edgedistill.errors import MachineError


def _probe(board, **changes) -> BoardFacts:
    return replace(board, host=replace(board.host, **changes)).run(probe)


def _python(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_probe_returns_board_facts(board):
    """Nothing is made there."""
    found = _probe(board)

    assert found.machine == platform.machine()
    assert (found.root, found.python) == (str(board.root), sys.executable)
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.free_bytes > 0
    assert not board.root.exists()


@pytest.mark.parametrize(
    ("named", "below"),
    [("~/some where", "some where"), ("~", ""), ("edge", "edge"), ("a/b", "a/b")],
)
def test_a_root_starts_at_the_home_of_the_board(board, named, below):
    """The board's shell is told the path as it is; spaces stay in it."""
    home = Path.home()

    assert Path(_probe(board, root=named).root) == home / below


def test_a_python_by_name_is_looked_up_there_and_a_path_starts_at_home(board):
    """`python3` is a command, `~/x` a file."""
    assert _probe(board, python="python3").python == "python3"
    with pytest.raises(MachineError, match=f"as ~/none/python: .*{Path.home()}/none/python"):
        _probe(board, python="~/none/python")


def test_free_space_of_a_disk_whose_name_has_blanks(board, monkeypatch):
    """Of a share, for example; here `df` is told to say so."""
    line = "//nas/my share 1000 400 600 40% /mnt/my share"
    monkeypatch.setattr(module, "_PROBE", f"df() {{ echo '{line}'; }}\n{module._PROBE}")

    assert _probe(board).free_bytes == 600 << 10


def test_the_interpreter_that_validated_what_runs_is_used(board):
    """Unless one is named, or it is gone."""
    (board.root / "releases" / "one").mkdir(parents=True)
    (board.root / "current").symlink_to("releases/one")
    link = board.root / "current" / "python"

    assert _probe(board, python=None).python == "python3"
    link.symlink_to(sys.executable)
    assert _probe(board, python=None).python == sys.executable
    assert _probe(board, python="python3").python == "python3"
    link.unlink()
    link.symlink_to("/none/python")
    assert _probe(board, python=None).python == "python3"


def test_an_old_python_is_refused(board, tmp_path):
    """The message has both versions."""
    old = _python(tmp_path / "python", "echo version=3.9.2")

    with pytest.raises(MachineError, match=r"has Python 3\.9\.2 .* 3\.10 or newer is needed"):
        _probe(board, python=old)


def test_a_python_that_does_not_start_is_refused(board, tmp_path):
    """With the board's own words."""
    broken = _python(tmp_path / "python", "echo no libpython >&2; exit 1")

    with pytest.raises(MachineError, match=r"no working Python .*: no libpython"):
        _probe(board, python=broken)


def test_a_root_that_cannot_be_written_is_refused(board, shipped):
    """A file is in the way; even the superuser cannot write below it. It can be asked, though."""
    board.root.write_text("a file")

    ground = _probe(board, root=f"{board.root}/deeper")

    with pytest.raises(MachineError, match=r"cannot be written on .*sudo mkdir -p"):
        board.run(lambda connection: check_disk(connection, ground, shipped))


def test_another_system_is_refused(board, monkeypatch):
    """Here the shell is told to say so."""
    monkeypatch.setattr(module, "_PROBE", "uname() { echo Darwin; }\n" + module._PROBE)

    with pytest.raises(MachineError, match="is no Linux: it says 'Darwin'"):
        _probe(board)


@pytest.fixture
def shipped(tmp_path) -> DeploymentPayload:
    """Parts of one mebibyte each."""
    parcel = UploadFile(path=tmp_path, sha256="0" * 64, size_bytes=1 << 20)
    return DeploymentPayload(
        name="tiny", archive=parcel, program=parcel, runtime="onnxruntime", unpacked_bytes=1 << 20
    )


@pytest.mark.parametrize(("runtime", "needed"), [("onnxruntime", 5), ("tensorrt", 69)])
def test_space_is_counted_generously(board, shipped, runtime, needed):
    """Archive, bundle twice, program twice; an engine where one is built."""
    ground = _probe(board)
    goods = replace(shipped, runtime=runtime)

    def check(free_bytes):
        facts = replace(ground, free_bytes=free_bytes)
        board.run(lambda connection: check_disk(connection, facts, goods))

    check(needed << 20)
    with pytest.raises(
        MachineError,
        match=rf"{needed - 0.1:.1f} MiB free .* needs {needed}\.0 MiB\. Nothing of edgedistill",
    ):
        check(int((needed - 0.1) * 2**20))


def test_what_would_free_room_is_named(board, shipped):
    """Uploads, and the releases that neither run nor are returned to, with the command."""
    for name in ("now", "before", "old one", "older"):
        (board.root / "releases" / name).mkdir(parents=True)
        (board.root / "releases" / name / "model").write_bytes(bytes(2 << 20))
    (board.root / "current").symlink_to("releases/now")
    (board.root / "previous").symlink_to("releases/before")
    (board.root / "incoming").mkdir()
    (board.root / "incoming" / "part").write_bytes(bytes(3 << 20))
    facts = replace(_probe(board), free_bytes=0)

    with pytest.raises(MachineError) as raised:
        board.run(lambda connection: check_disk(connection, facts, shipped))

    told = str(raised.value)
    assert "3.0 MiB of uploads and 4.0 MiB in 2 old releases (old one, older) can go" in told
    assert told.endswith(f"releases --root {board.root} prune --keep 1")
