"""Archives come back as they were; those that lie are refused."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import zipfile

import pytest

from edgedistill.errors import DataError, IntegrityError, MachineError, UsageError
from edgedistill.io import archives, files

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


def test_full_disk_leaves_no_archive_and_no_folder(disk, tmp_path, rng):
    """Packing onto it and unpacking onto it both leave nothing."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "f").write_bytes(rng.bytes(100_000))
    archives.pack(folder, tmp_path / "large.zip")

    with pytest.raises(MachineError, match="disk is full"):
        archives.pack(folder, disk / "large.zip")
    with pytest.raises(MachineError, match=r"unpacks to 100000 bytes, and \d{4,5} are free on"):
        archives.unpack(tmp_path / "large.zip", disk / "large")

    assert _names(disk) == []


def test_archive_comes_back(tree, tmp_path):
    """Every file, at its place, and nothing beside it."""
    archives.pack(tree, tmp_path / "t.zip")
    archives.unpack(tmp_path / "t.zip", tmp_path / "new" / "again")

    expected = {p.relative_to(tree): p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    again = tmp_path / "new" / "again"
    assert {p.relative_to(again): p.read_bytes() for p in again.rglob("*") if p.is_file()} == (
        expected
    )
    assert _names(tmp_path / "new") == ["again"]


def test_equal_content_gives_equal_bytes(tree, tmp_path):
    """Times, permissions and the order of creation leave no trace; content does."""
    archives.pack(tree, tmp_path / "one.zip")
    twin = tmp_path / "twin"
    (twin / "models").mkdir(parents=True)
    for path in sorted((p for p in tree.rglob("*") if p.is_file()), reverse=True):
        (twin / path.relative_to(tree)).write_bytes(path.read_bytes())
        os.utime(twin / path.relative_to(tree), (0, 1e9))
        (twin / path.relative_to(tree)).chmod(0o600)
    archives.pack(twin, tmp_path / "two.zip")
    (twin / "manifest.json").write_text("{}")
    archives.pack(twin, tmp_path / "three.zip")

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
        archives.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize("kind", ["S_IFLNK", "S_IFIFO", "S_IFCHR", "S_IFDIR", "S_IFSOCK"])
def test_member_that_is_no_plain_file_is_refused(tmp_path, kind):
    """Links above all: what they point at could be overwritten."""
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        info = zipfile.ZipInfo("f")
        info.external_attr = (getattr(stat, kind) | 0o777) << 16
        archive.writestr(info, "/etc/passwd")

    with pytest.raises(IntegrityError, match="'f', which is no plain file"):
        archives.unpack(tmp_path / "t.zip", tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize("mode", [0, 0o600, REGULAR])
def test_plain_files_of_other_tools_are_unpacked(tmp_path, mode):
    """Some note permissions without a type, some nothing; folders may be members too."""
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        info = zipfile.ZipInfo("a/f")
        info.external_attr = mode << 16
        archive.writestr(info, "1")
        archive.writestr("a/", "")

    archives.unpack(tmp_path / "t.zip", tmp_path / "out")

    assert (tmp_path / "out" / "a" / "f").read_text() == "1"


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning:zipfile")  # made on purpose
def test_name_that_stands_twice_is_refused(tmp_path):
    """One reader would take the first, another the last."""
    archive = _zip(tmp_path / "t.zip", [("f", b"1"), ("f", b"2")])

    with pytest.raises(IntegrityError, match="holds 'f' twice"):
        archives.unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")], ids=str)
def test_name_of_a_file_and_a_folder_is_refused(tmp_path, names):
    """It cannot be both, in whatever order they stand."""
    archive = _zip(tmp_path / "t.zip", [(name, b"1") for name in names])

    with pytest.raises(IntegrityError, match="'a' both as a file and as a folder"):
        archives.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


def test_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A few kilobytes that unpack to a thousand times as much."""
    archive = _zip(tmp_path / "t.zip", [("f", bytes(10_000_000))])

    with pytest.raises(IntegrityError, match=r"would unpack to 10000000 bytes from \d{4,5};"):
        archives.unpack(archive, tmp_path / "out")


def test_bomb_that_understates_its_size_is_refused(tmp_path):
    """No more is written than the archive declared, and then it is found to be damaged."""
    archive = _zip(tmp_path / "t.zip", [("f", bytes(10_000_000))])
    content = archive.read_bytes().replace(struct.pack("<L", 10_000_000), struct.pack("<L", 100))
    archive.write_bytes(content)

    with pytest.raises(IntegrityError, match="is not a whole zip file"):
        archives.unpack(archive, tmp_path / "out")

    assert _names(tmp_path) == ["t.zip"]


@pytest.mark.parametrize(
    ("limit", "message"),
    [("MAX_ARCHIVE_FILES", "holds 3 files; at most 2"), ("MAX_ARCHIVE_BYTES", "to 3 bytes")],
)
def test_archive_over_a_limit_is_refused(tmp_path, monkeypatch, limit, message):
    """Too many files, too many bytes; the limits are lowered to keep the test small."""
    archive = _zip(tmp_path / "t.zip", [(name, b"1") for name in "abc"])
    archives.unpack(archive, tmp_path / "out")
    monkeypatch.setattr(archives, limit, 2)

    with pytest.raises(IntegrityError, match=message):
        archives.unpack(archive, tmp_path / "again")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all" * 9])
def test_what_is_no_zip_is_refused(tmp_path, content):
    """An empty download, a cut-off one, another file."""
    (tmp_path / "t.zip").write_bytes(content)

    with pytest.raises(IntegrityError, match=r"t\.zip is not a whole zip file.*Copy it again"):
        archives.unpack(tmp_path / "t.zip", tmp_path / "out")


def test_no_truncation_is_taken_for_the_whole(tree, tmp_path):
    """Cut off anywhere, the archive is refused and nothing stays."""
    archives.pack(tree, tmp_path / "t.zip")
    content = (tmp_path / "t.zip").read_bytes()

    for end in range(0, len(content), 7):
        (tmp_path / "t.zip").write_bytes(content[:end])
        with pytest.raises(IntegrityError):
            archives.unpack(tmp_path / "t.zip", tmp_path / "out")
    assert _names(tmp_path) == ["t.zip", "tree"]


def test_no_damaged_byte_ends_in_a_traceback(tree, tmp_path):
    """Any flipped byte is refused with a message of ours, or changes nothing that is unpacked."""
    archives.pack(tree, tmp_path / "t.zip")
    content = (tmp_path / "t.zip").read_bytes()
    refused = 0

    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "t.zip").write_bytes(damaged)
        try:
            archives.unpack(tmp_path / "t.zip", tmp_path / f"out{place}")
        except IntegrityError:
            refused += 1

    assert refused > len(content) / 2


def test_method_and_encryption_that_are_not_ours_are_refused(tmp_path):
    """What Python cannot or may not read is said to be unreadable."""
    for flag, method, message in (
        (1, 8, "is not a whole zip file"),
        (0, 12, "compressed by method 12"),  # bzip2, whose damage is an OSError without a number
        (0, 99, "compressed by method 99"),
    ):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("f", "content")
        content = bytearray(stream.getvalue())
        for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = content.index(header) + offset
            content[at : at + 4] = struct.pack("<HH", flag, method)
        (tmp_path / "t.zip").write_bytes(content)

        with pytest.raises(IntegrityError, match=message):
            archives.unpack(tmp_path / "t.zip", tmp_path / "out")


def test_name_that_is_no_text_is_refused(tmp_path):
    """It says it is UTF-8 and is not."""
    archive = _zip(tmp_path / "t.zip", [("λ", b"1")])
    archive.write_bytes(archive.read_bytes().replace("λ".encode(), b"\xff\xff"))

    with pytest.raises(IntegrityError, match="is not a whole zip file"):
        archives.unpack(archive, tmp_path / "out")


def test_folder_that_exists_is_not_unpacked_into(tree, tmp_path):
    """It may hold something of the user's."""
    archives.pack(tree, tmp_path / "t.zip")

    with pytest.raises(UsageError, match="exists already"):
        archives.unpack(tmp_path / "t.zip", tree)


def test_archive_that_cannot_be_read_is_named(tmp_path):
    """Missing, or a folder."""
    (tmp_path / "folder.zip").mkdir()

    for name in ("absent.zip", "folder.zip"):
        with pytest.raises(DataError, match=rf"Cannot read .*{name}: .*Check the path"):
            archives.unpack(tmp_path / name, tmp_path / "out")
