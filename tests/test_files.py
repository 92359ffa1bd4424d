"""Files: whole or absent, whatever comes in between; archives that lie are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgedistill import files
from edgedistill.errors import (
    DataError,
    IntegrityError,
    MachineError,
    UsageError,
)

REGULAR = stat.S_IFREG | 0o644


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _zip(path, members):
    """Write (name, content) pairs as they are; `zipfile` would mend some of the names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.external_attr = REGULAR << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def _begin_and_raise(block, begin, error):
    with block as partial:
        begin(partial)
        raise error


@pytest.fixture
def tree(tmp_path):
    """A small folder with a folder in it."""
    folder = tmp_path / "tree"
    (folder / "models").mkdir(parents=True)
    (folder / "manifest.json").write_text('{"name": "ItalyPowerDemand"}')
    (folder / "models" / "student.onnx").write_bytes(bytes(range(256)) * 20)
    return folder


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


def test_full_disk_leaves_no_archive_and_no_folder(disk, tmp_path, rng):
    """Packing onto it and unpacking onto it both leave nothing."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "f").write_bytes(rng.bytes(100_000))
    files.pack(folder, tmp_path / "large.zip")

    with pytest.raises(MachineError, match="disk is full"):
        files.pack(folder, disk / "large.zip")
    with pytest.raises(MachineError, match="disk is full"):
        files.unpack(tmp_path / "large.zip", disk / "large")

    assert _names(disk) == []


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
def test_folder_of_someone_else_is_explained(tmp_path):
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


def test_an_error_that_is_not_the_disks_passes_through(tmp_path):
    """A file that is missing inside the block is not called a full disk."""
    with pytest.raises(FileNotFoundError), files.whole_file(tmp_path / "f"):
        (tmp_path / "absent").read_text()


# Archives


def test_archive_comes_back(tree, tmp_path):
    """Every file, at its place, and nothing beside it."""
    files.pack(tree, tmp_path / "t.zip")
    files.unpack(tmp_path / "t.zip", tmp_path / "new" / "again")

    expected = {p.relative_to(tree): p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    again = tmp_path / "new" / "again"
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()} == (
        expected
    )
    assert _names(tmp_path / "new") == ["again"]


def test_equal_content_gives_equal_bytes(tree, tmp_path):
    """Times, permissions and the order of creation leave no trace; content does."""
    files.pack(tree, tmp_path / "one.zip")
    twin = tmp_path / "twin"
    (twin / "models").mkdir(parents=True)
    for path in sorted((p for p in tree.rglob("*") if p.is_file()), reverse=True):
        (twin / path.relative_to(tree)).write_bytes(path.read_bytes())
        os.utime(twin / path.relative_to(tree), (0, 1e9))
        (twin / path.relative_to(tree)).chmod(0o600)
    files.pack(twin, tmp_path / "two.zip")
    (twin / "manifest.json").write_text("{}")
    files.pack(twin, tmp_path / "three.zip")

    hashes = [files.sha256(tmp_path / f"{name}.zip") for name in ("one", "two", "three")]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    "name",
    ["../f", "a/../../f", "a/..", "/f", "//f", "a\\..\\f", "C:f", "", ".", "./f", "a//f", "a/./f"],
)
def test_name_that_leaves_the_folder_is_refused(tmp_path, name):
    """Nothing is written outside, and a file has one spelling only."""
    archive = _zip(tmp_path / "t.zip", [("fine", b"1"), (name, b"2")])

    with pytest.raises(IntegrityError, match=r"leaves its folder|is not a whole zip"):
        files.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize("kind", ["S_IFLNK", "S_IFIFO", "S_IFCHR", "S_IFDIR", "S_IFSOCK"])
def test_member_that_is_no_plain_file_is_refused(tmp_path, kind):
    """Links above all: what they point at could be overwritten."""
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        info = zipfile.ZipInfo("f")
        info.external_attr = (getattr(stat, kind) | 0o777) << 16
        archive.writestr(info, "/etc/passwd")

    with pytest.raises(IntegrityError, match="'f', which is no plain file"):
        files.unpack(tmp_path / "t.zip", tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize("mode", [0, 0o600, REGULAR])
def test_plain_files_of_other_tools_are_unpacked(tmp_path, mode):
    """Some note permissions without a type, some nothing; folders may be members too."""
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        info = zipfile.ZipInfo("a/f")
        info.external_attr = mode << 16
        archive.writestr(info, "1")
        archive.writestr("a/", "")

    files.unpack(tmp_path / "t.zip", tmp_path / "out")

    assert (tmp_path / "out" / "a" / "f").read_text() == "1"


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning:zipfile")  # made on purpose
def test_name_that_stands_twice_is_refused(tmp_path):
    """One reader would take the first, another the last."""
    archive = _zip(tmp_path / "t.zip", [("f", b"1"), ("f", b"2")])

    with pytest.raises(IntegrityError, match="holds 'f' twice"):
        files.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")], ids=str)
def test_name_of_a_file_and_a_folder_is_refused(tmp_path, names):
    """It cannot be both, in whatever order they stand."""
    archive = _zip(tmp_path / "t.zip", [(name, b"1") for name in names])

    with pytest.raises(IntegrityError, match="'a' both as a file and as a folder"):
        files.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


def test_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A few kilobytes that unpack to a thousand times as much."""
    archive = _zip(tmp_path / "t.zip", [("f", bytes(10_000_000))])

    with pytest.raises(IntegrityError, match=r"would unpack to 10000000 bytes from \d{4,5};"):
        files.unpack(archive, tmp_path / "out")


def test_bomb_that_understates_its_size_is_refused(tmp_path):
    """No more is written than the archive declared, and then it is found to be damaged."""
    archive = _zip(tmp_path / "t.zip", [("f", bytes(10_000_000))])
    content = archive.read_bytes().replace(struct.pack("<L", 10_000_000), struct.pack("<L", 100))
    archive.write_bytes(content)

    with pytest.raises(IntegrityError, match="is not a whole zip file"):
        files.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize(
    ("limit", "message"),
    [("MAX_ARCHIVE_FILES", "holds 3 files; at most 2"), ("MAX_ARCHIVE_BYTES", "to 3 bytes")],
)
def test_archive_over_a_limit_is_refused(tmp_path, monkeypatch, limit, message):
    """Too many files, too many bytes; the limits are lowered to keep the test small."""
    archive = _zip(tmp_path / "t.zip", [(name, b"1") for name in "abc"])
    files.unpack(archive, tmp_path / "out")
    monkeypatch.setattr(files, limit, 2)

    with pytest.raises(IntegrityError, match=message):
        files.unpack(archive, tmp_path / "again")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all" * 9])
def test_what_is_no_zip_is_refused(tmp_path, content):
    """An empty download, a cut-off one, another file."""
    (tmp_path / "t.zip").write_bytes(content)

    with pytest.raises(IntegrityError, match=r"t\.zip is not a whole zip file.*Copy it again"):
        files.unpack(tmp_path / "t.zip", tmp_path / "out")


def test_no_truncation_is_taken_for_the_whole(tree, tmp_path):
    """Cut off anywhere, the archive is refused and nothing stays."""
    files.pack(tree, tmp_path / "t.zip")
    content = (tmp_path / "t.zip").read_bytes()

    for end in range(0, len(content), 7):
        (tmp_path / "t.zip").write_bytes(content[:end])
        with pytest.raises(IntegrityError):
            files.unpack(tmp_path / "t.zip", tmp_path / "out")
    assert _names(tmp_path) == ["t.zip", "tree"]


def test_no_damaged_byte_ends_in_a_traceback(tree, tmp_path):
    """Any flipped byte is refused with a message of ours, or changes nothing that is unpacked."""
    files.pack(tree, tmp_path / "t.zip")
    content = (tmp_path / "t.zip").read_bytes()
    refused = 0

    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "t.zip").write_bytes(damaged)
        try:
            files.unpack(tmp_path / "t.zip", tmp_path / f"out{place}")
        except IntegrityError:
            refused += 1

    assert refused > len(content) / 2


def test_method_and_encryption_that_are_not_ours_are_refused(tmp_path):
    """What Python cannot or may not read is said to be unreadable."""
    for flag, method in ((1, 8), (0, 99)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("f", "content")
        content = bytearray(stream.getvalue())
        for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.index(header) + offset
            content[at : at + 4] = struct.pack("<HH", flag, method)
        (tmp_path / "t.zip").write_bytes(content)

        with pytest.raises(IntegrityError, match="is not a whole zip file"):
            files.unpack(tmp_path / "t.zip", tmp_path / "out")


def test_name_that_is_no_text_is_refused(tmp_path):
    """It says it is UTF-8 and is not."""
    archive = _zip(tmp_path / "t.zip", [("λ", b"1")])
    archive.write_bytes(archive.read_bytes().replace("λ".encode(), b"\xff\xff"))

    with pytest.raises(IntegrityError, match="is not a whole zip file"):
        files.unpack(archive, tmp_path / "out")


def test_folder_that_exists_is_not_unpacked_into(tree, tmp_path):
    """It may hold something of the user's."""
    files.pack(tree, tmp_path / "t.zip")

    with pytest.raises(UsageError, match="exists already"):
        files.unpack(tmp_path / "t.zip", tree)


def test_archive_that_cannot_be_read_is_named(tmp_path):
    """Missing, or a folder."""
    (tmp_path / "folder.zip").mkdir()

    for name in ("absent.zip", "folder.zip"):
        with pytest.raises(DataError, match=rf"Cannot read .*{name}: .*Check the path"):
            files.unpack(tmp_path / name, tmp_path / "out")


def test_json_is_written_for_people(tmp_path):
    """Indented, ending with a line break."""
    files.write_json(tmp_path / "f.json", {"a": 1})

    text = (tmp_path / "f.json").read_text()
    assert text == json.dumps({"a": 1}, indent=2) + "\n"
