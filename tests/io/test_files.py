"""Files: whole or absent, whatever comes in between."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgedistill.errors import DataError, MachineError
from edgedistill.io import files

REGULAR = stat.S_IFREG | 0o644


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _begin_and_raise(block, begin, error):
    with block as partial:
        begin(partial)
        raise error


@pytest.fixture
def disk(tmp_path):
    """A file system of its own with 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a tiny file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


# Hashes and JSON


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_reads_every_byte(tmp_path, size, rng):
    """Files around the size of a chunk hash like their bytes at once."""
    content = rng.bytes(size)
    (tmp_path / "f").write_bytes(content)

    assert files.sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_fingerprint_sees_values_and_not_key_order():
    """Equal values hash alike; any other value, type or order of a list does not."""
    value = {"b": [1, 2], "a": {"y": None, "x": 0.1}}

    assert files.fingerprint(value) == files.fingerprint({"a": {"x": 0.1, "y": None}, "b": [1, 2]})
    others = [{"b": [2, 1], "a": value["a"]}, {**value, "c": 0}, {**value, "b": ["1", 2]}, [value]]
    assert len({files.fingerprint(other) for other in [value, *others]}) == 5


def test_json_comes_back(tmp_path):
    """What is written is read, names of any language included."""
    value = {"name": "λ ≤ 1", "values": [1, 0.1, None, True]}

    files.write_json(tmp_path / "new" / "f.json", value)

    assert files.read_json(tmp_path / "new" / "f.json") == value
    assert _names(tmp_path / "new") == ["f.json"]


def test_nan_is_not_written(tmp_path):
    """JSON has no NaN; the old file stays."""
    files.write_json(tmp_path / "f.json", 1)

    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "f.json", float("nan"))

    assert files.read_json(tmp_path / "f.json") == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["empty", "half", "bytes", "deep"]
)
def test_what_is_no_json_is_named(tmp_path, content):
    """Empty, cut off, no text, nested without end."""
    (tmp_path / "f.json").write_bytes(content)

    with pytest.raises(DataError, match=r"f\.json is not valid JSON.*Make the file anew"):
        files.read_json(tmp_path / "f.json")


def test_missing_json_is_named(tmp_path):
    """The path is in the message."""
    with pytest.raises(DataError, match=r"Cannot read .*f\.json: No such file"):
        files.read_json(tmp_path / "f.json")


# Whole or absent


def test_file_appears_when_the_block_succeeds(tmp_path):
    """Not before, with the suffix that some writers look at, readable by others."""
    path = tmp_path / "new" / "weights.npz"

    with files.whole_file(path) as partial:
        assert partial.suffix == ".npz"
        np.savez(partial, a=np.arange(3))
        assert not path.exists()

    assert _names(path.parent) == ["weights.npz"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_block_leaves_the_old_file(tmp_path, error):
    """Whatever ends the block, no part of the new file stays."""
    path = tmp_path / "f"
    path.write_text("old")

    with pytest.raises(error):
        _begin_and_raise(files.whole_file(path), lambda p: p.write_text("new, but on"), error)

    assert _names(tmp_path) == ["f"]
    assert path.read_text() == "old"


def test_folder_appears_when_the_block_succeeds(tmp_path):
    """Not before; an older one gives way with all that was in it."""
    path = tmp_path / "stage"
    for name in ("first", "second"):
        with files.whole_folder(path) as partial:
            (partial / name).write_text(name)
            assert not (path / name).exists()

    assert _names(tmp_path) == ["stage"]
    assert _names(path) == ["second"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failed_block_leaves_the_old_folder(tmp_path, error):
    """Whatever ends the block, the old folder stands and the new one is gone."""
    path = tmp_path / "stage"
    path.mkdir()
    (path / "old").write_text("old")

    with pytest.raises(error):
        _begin_and_raise(files.whole_folder(path), lambda p: (p / "new").write_text("new"), error)

    assert _names(tmp_path) == ["stage"]
    assert _names(path) == ["old"]


@pytest.mark.parametrize("call", [1, 2])
def test_ctrl_c_between_the_renames_brings_the_old_folder_back(tmp_path, monkeypatch, call):
    """The swap takes two renames; after the first, nothing stands at the path."""
    path = tmp_path / "stage"
    path.mkdir()
    (path / "old").write_text("old")
    rename, calls = Path.rename, []

    def interrupted(self, target):
        calls.append(target)
        if len(calls) == call:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), files.whole_folder(path) as partial:
        (partial / "new").write_text("new")

    assert _names(tmp_path) == ["stage"]
    assert _names(path) == ["old"]


def test_full_disk_leaves_the_old_file(disk):
    """The message says what to do; the old file stays as it was."""
    path = disk / "f"
    files.write_text(path, "old")

    with pytest.raises(MachineError, match=r"disk is full while writing .*/f\. Free some space"):
        files.write_text(path, "x" * 100_000)

    assert _names(disk) == ["f"]
    assert path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_full_device_is_explained(tmp_path):
    """The same message without the right to mount anything."""
    with pytest.raises(MachineError, match="disk is full"), files.whole_file(tmp_path / "f"):
        Path("/dev/full").write_bytes(b"x")

    assert _names(tmp_path) == []


def test_read_only_disk_is_explained(disk):
    """Files, folders and archives name the place and what to do."""
    (disk / "old").write_text("old")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

    for write in (files.whole_file, files.whole_folder):
        with (
            pytest.raises(MachineError, match=r"Cannot write .*/f: .*Read-only.*another place"),
            write(disk / "f"),
        ):
            pytest.fail("the block must not run")
    assert _names(disk) == ["old"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_explained(tmp_path):
    """A folder without write permission, as a user meets it."""
    tmp_path.chmod(0o555)

    with pytest.raises(MachineError, match="Permission denied"):
        files.write_text(tmp_path / "f", "x")


def test_path_below_a_file_is_explained(tmp_path):
    """A file where a folder should be."""
    (tmp_path / "file").write_text("mine")

    for path in (tmp_path / "file" / "f", tmp_path / "file" / "deeper" / "f"):
        for write in (files.whole_file, files.whole_folder):
            with (
                pytest.raises(MachineError, match=r"Cannot write .*/file\S*: .*Choose another"),
                write(path),
            ):
                pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "mine"


def test_name_that_is_too_long_is_explained(tmp_path):
    """A file system has room for 255 bytes of name."""
    with pytest.raises(MachineError, match="File name too long"):
        files.write_text(tmp_path / ("f" * 300), "x")


def test_file_does_not_replace_a_folder_nor_a_folder_a_file(tmp_path):
    """What is of another kind is someone else's."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "f").write_text("mine")
    (tmp_path / "file").write_text("mine")

    with pytest.raises(MachineError, match=r"/folder: Is a directory"):
        files.write_text(tmp_path / "folder", "x")
    with (
        pytest.raises(MachineError, match=r"/file: a file of that name exists"),
        files.whole_folder(tmp_path / "file"),
    ):
        pytest.fail("the block must not run")

    assert _names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder" / "f").read_text() == (tmp_path / "file").read_text() == "mine"


def test_other_errors_pass_through(tmp_path):
    """A file that is missing inside the block is not called a full disk."""
    with pytest.raises(FileNotFoundError), files.whole_file(tmp_path / "f"):
        (tmp_path / "absent").read_text()


def test_json_is_indented(tmp_path):
    """Indented, ending with a line break."""
    files.write_json(tmp_path / "f.json", {"a": 1})

    text = (tmp_path / "f.json").read_text()
    assert text == json.dumps({"a": 1}, indent=2) + "\n"
