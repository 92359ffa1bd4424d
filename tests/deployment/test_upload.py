"""A file arrives whole, or not at all, whatever happens on the way."""

from __future__ import annotations

import hashlib
import subprocess

import numpy as np
import pytest

from edgedistill.deployment import payload as module
from edgedistill.deployment.payload import UploadFile, upload
from edgedistill.errors import IntegrityError, LostConnectionError, MachineError

pytestmark = pytest.mark.slow

SIZE = 700_000


@pytest.fixture
def parcel(tmp_path, rng) -> UploadFile:
    """A file that does not compress."""
    path = tmp_path / "parcel"
    path.write_bytes(rng.bytes(SIZE))
    return UploadFile(
        path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size_bytes=SIZE
    )


@pytest.fixture
def incoming(board):
    """The folder that uploads go to; not made yet."""
    return board.root / "incoming"


def _upload(board, parcel, incoming, told=None):
    told = [] if told is None else told
    return board.run(
        lambda connection: upload(
            connection, parcel, str(incoming), lambda done, total: told.append((done, total))
        )
    )


def _is_whole(parcel, incoming) -> bool:
    return {path.name: path.read_bytes() for path in incoming.iterdir()} == {
        parcel.sha256: parcel.path.read_bytes()
    }


def test_file_is_uploaded_with_progress(board, parcel, incoming):
    """Under the name of its hash; the told bytes grow to the size."""
    told = []

    found = _upload(board, parcel, incoming, told)

    assert _is_whole(parcel, incoming)
    assert found.path == str(incoming / parcel.sha256)
    assert found.sent_bytes == SIZE
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, SIZE), (SIZE, SIZE))


def test_what_is_there_is_not_sent_again(board, parcel, incoming):
    """The second upload sends nothing."""
    _upload(board, parcel, incoming)

    assert _upload(board, parcel, incoming).sent_bytes == 0
    assert _is_whole(parcel, incoming)


@pytest.mark.parametrize("there", [0, 1, 299_999, SIZE])
def test_partial_upload_is_resumed(board, parcel, incoming, there):
    """Only what is missing is sent."""
    incoming.mkdir(parents=True)
    content = parcel.path.read_bytes()
    (incoming / f"{parcel.sha256}.part").write_bytes(content[:there])

    found = _upload(board, parcel, incoming)

    assert found.sent_bytes == SIZE - there
    assert _is_whole(parcel, incoming)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:1000] + b"\0" + content[1001:5000],  # a wrong byte
        lambda content: content[:5000] + bytes(5000),  # what a power cut leaves
        lambda content: content + b"more",
    ],
    ids=["wrong byte", "zeros at the end", "too long"],
)
def test_damaged_part_is_sent_again(board, parcel, incoming, damage):
    """A part that is not the file's beginning is worth nothing."""
    incoming.mkdir(parents=True)
    (incoming / f"{parcel.sha256}.part").write_bytes(damage(parcel.path.read_bytes()))

    found = _upload(board, parcel, incoming)

    assert found.sent_bytes == SIZE
    assert _is_whole(parcel, incoming)


def test_a_damaged_whole_file_is_replaced(board, parcel, incoming):
    """The name alone proves nothing."""
    incoming.mkdir(parents=True)
    (incoming / parcel.sha256).write_bytes(parcel.path.read_bytes()[:-1] + b"\0")

    _upload(board, parcel, incoming)

    assert _is_whole(parcel, incoming)


def test_cuts_at_random_bytes_only_cost_time(cutter, parcel, incoming, rng):
    """Each try keeps what the one before brought; no name is taken before all is there."""
    cuts = [int(n) for n in rng.integers(4_000, 300_000, size=8)]
    proxy, board = cutter(list(cuts))
    sent = []

    while not (incoming / parcel.sha256).exists():
        try:
            sent.append(_upload(board, parcel, incoming).sent_bytes)
        except (LostConnectionError, MachineError):  # the second: cut while logging in
            assert not (incoming / parcel.sha256).exists()
        assert proxy.connections <= len(cuts) + 1

    assert _is_whole(parcel, incoming)
    assert sent[0] < SIZE  # it did not begin anew


def test_a_file_that_arrives_damaged_is_refused(board, parcel, incoming, monkeypatch):
    """Here the board's disk is made to lose a byte between writing and reading back."""
    spoil = 'printf x | dd of="$1/$2.part" bs=1 seek=9 conv=notrunc 2>/dev/null\n'
    monkeypatch.setattr(module, "_FINISH", spoil + module._FINISH)

    with pytest.raises(IntegrityError, match="read back other bytes"):
        _upload(board, parcel, incoming)

    assert not list(incoming.iterdir())


def test_a_folder_that_cannot_be_made(board, parcel):
    """A file is in its place; the board's own words are in the message."""
    board.root.write_text("in the way")

    with pytest.raises(MachineError, match=r"cannot use .*incoming.*Not a directory|File exists"):
        _upload(board, parcel, board.root / "incoming")


def test_a_full_disk_is_named_and_left_as_it_was(board, parcel):
    """What did not fit is removed again."""
    board.root.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", board.root], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a tiny file system is not permitted here")
    try:
        with pytest.raises(MachineError, match=f"disk of .* is full: {SIZE} bytes do not fit"):
            _upload(board, parcel, board.root / "incoming")

        assert not list((board.root / "incoming").iterdir())
    finally:
        subprocess.run(["umount", board.root], check=True)


def test_a_place_that_cannot_be_written_is_explained(board, parcel, incoming):
    """A folder has the name of the part."""
    (incoming / f"{parcel.sha256}.part").mkdir(parents=True)

    with pytest.raises(MachineError, match="refused a file transfer"):
        _upload(board, parcel, incoming)


def test_equal_bytes_are_equal_whatever_the_chunk(board, parcel, incoming, monkeypatch):
    """The size of a chunk is a matter of speed alone."""
    monkeypatch.setattr(module, "_CHUNK_BYTES", 4097)
    small = parcel.path.read_bytes()[:20_000]
    parcel.path.write_bytes(small)
    digest = hashlib.sha256(small).hexdigest()
    tiny = UploadFile(path=parcel.path, sha256=digest, size_bytes=len(small))

    _upload(board, tiny, incoming)

    np.testing.assert_array_equal(
        np.frombuffer((incoming / digest).read_bytes(), np.uint8), np.frombuffer(small, np.uint8)
    )
