"""Links that are turned in one step, and what is flushed."""

from __future__ import annotations

import subprocess

import pytest

from edgedistill.device.releases import disk
from edgedistill.errors import MachineError


def test_link_is_created_and_replaced(tmp_path):
    """Nothing stays beside it, and what somebody who was killed left is in nobody's way."""
    (tmp_path / ".current.new").symlink_to("half")

    disk.point(tmp_path / "current", "releases/a")
    disk.point(tmp_path / "current", "releases/b")

    assert str((tmp_path / "current").readlink()) == "releases/b"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_link_does_not_replace_a_folder(tmp_path):
    """It is somebody's."""
    (tmp_path / "current").mkdir()

    with pytest.raises(MachineError, match=r"Cannot write .*/current"):
        disk.point(tmp_path / "current", "releases/a")

    assert (tmp_path / "current").is_dir()


def test_removed_file_may_be_absent(tmp_path):
    """Removing twice is no error."""
    (tmp_path / "f").touch()

    disk.remove(tmp_path / "f")
    disk.remove(tmp_path / "f")

    assert not (tmp_path / "f").exists()


def test_everything_is_flushed(tmp_path, monkeypatch):
    """Every file and every folder, and the system takes them all."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_text("x")
    flushed = []
    flush = disk.flush
    monkeypatch.setattr(disk, "flush", lambda path: flushed.append(path) or flush(path))

    disk.flush_all(tmp_path)

    assert {path.relative_to(tmp_path).as_posix() for path in flushed} == {".", "a", "a/b", "a/b/f"}


@pytest.fixture
def read_only(tmp_path):
    """A folder on a file system that cannot be written."""
    folder = tmp_path / "ro"
    folder.mkdir()
    (folder / "f").touch()
    for options in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder]):
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_read_only_disk_is_explained(read_only):
    """What cannot be turned or removed is named."""
    with pytest.raises(MachineError, match=r"Cannot write .*/current.*Read-only file system"):
        disk.point(read_only / "current", "releases/a")
    with pytest.raises(MachineError, match=r"Cannot write .*/f.*Read-only file system"):
        disk.remove(read_only / "f")
