"""Whom a board trusts is said once, by a person, and not by a deployment."""

from __future__ import annotations

import pytest

from edgedistill.deployment import trust as module
from edgedistill.deployment.trust import read_signers, read_trust, require_trust, trust
from edgedistill.errors import IntegrityError, MachineError, UsageError

ME = "me@example.org ssh-ed25519 AAAA\n"
OTHER = "other@example.org ssh-ed25519 BBBB\n"


def _require(board, signers):
    board.run(lambda connection: require_trust(connection, str(board.root), signers))


def _there(board):
    return board.run(lambda connection: read_trust(connection, str(board.root)))


def test_board_without_signers_is_refused(board):
    """Exit code 6, with the command."""
    with pytest.raises(IntegrityError, match=r"trusts no signer yet.*`edgedistill trust "):
        _require(board, None)

    assert not board.root.exists()


def test_first_signers_are_stored(board):
    """Afterwards nobody has to name it again."""
    _require(board, ME)
    _require(board, ME)
    _require(board, None)

    assert _there(board) == ME


def test_deployment_does_not_change_the_signers(board):
    """It is refused, and the board's file stays."""
    _require(board, ME)

    with pytest.raises(IntegrityError, match="trusts other signers than the named file"):
        _require(board, OTHER)

    assert _there(board) == ME


def test_set_trust_replaces_the_signers(board):
    """The file is replaced whole, and nothing else lies there."""
    for signers in (ME, OTHER):
        board.run(lambda connection, text=signers: trust(connection, str(board.root), text))

    assert _there(board) == OTHER
    assert [path.name for path in board.root.iterdir()] == ["allowed_signers"]


def test_a_file_that_is_cut_off_on_its_way_changes_nothing(board, monkeypatch):
    """The board sees the same end of its input; here it reads less of it."""
    _require(board, ME)
    monkeypatch.setattr(module, "_WRITE", module._WRITE.replace("cat >", "head -c 9 >"))

    with pytest.raises(MachineError, match="it did not arrive whole"):
        board.run(lambda connection: trust(connection, str(board.root), OTHER))

    assert _there(board) == ME
    assert [path.name for path in board.root.iterdir()] == ["allowed_signers"]


def test_a_file_that_cannot_be_written_is_explained(board):
    """The root is a file."""
    board.root.write_text("in the way")

    with pytest.raises(MachineError, match="allowed_signers cannot be written: "):
        board.run(lambda connection: trust(connection, str(board.root), ME))


def test_a_file_that_cannot_be_read_is_explained(board, monkeypatch):
    """The superuser can read everything, so the shell is told to fail."""
    monkeypatch.setattr(module, "_READ", "echo denied >&2; exit 1")

    with pytest.raises(MachineError, match="cannot be read: denied"):
        _there(board)


def test_allowed_signers_are_read(tmp_path):
    """Comments and options may stand in the file."""
    path = tmp_path / "allowed"
    path.write_text(f'# who\n\n{ME}x@example.org namespaces="edgedistill" ssh-ed25519 CCCC\n')

    assert read_signers(path) == path.read_text()


@pytest.mark.parametrize("text", ["", "# nobody\n", "ssh-ed25519 AAAA\n", f"{ME}rubbish\n"])
def test_file_without_signers_is_refused(tmp_path, text):
    """A public key alone is not enough: it has no name. The message shows a line."""
    path = tmp_path / "allowed"
    path.write_text(text)

    with pytest.raises(UsageError, match=r"is no file of allowed signers.*such as: me@"):
        read_signers(path)


def test_a_missing_file_of_signers_is_refused(tmp_path):
    """With its name."""
    with pytest.raises(UsageError, match=r"allowed signers in .*none cannot be read"):
        read_signers(tmp_path / "none")
