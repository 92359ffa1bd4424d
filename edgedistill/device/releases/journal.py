"""Journal of a switch: from which release to which, from before the links change until it is done.

It consists of links like `current` and `previous`, since those take no space: a full disk must not
stop a rollback. 0.1.0 wrote a JSON file, which is still read.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.device.releases import disk
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.errors import DataError, IntegrityError, UsageError
from edgedistill.io import files


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A change of the current release that is under way."""

    before: str | None  # the release that ran, None if none did
    to: str
    is_rollback: bool = False


def write(root: Root, turn: Turn) -> None:
    """Record a turn; it counts once the link to where it goes exists.

    Raises:
        MachineError: the disk is read-only, or full and no link can be used again.
    """
    if turn.before is None:
        disk.remove(root.journal_from)
    else:
        disk.point(root.journal_from, root.target(turn.before))
    if turn.is_rollback and turn.before is not None:
        disk.point(root.rolled_back, root.target(turn.before))
    elif linked_release(root.rolled_back) == turn.before:  # of a rollback that never began
        disk.remove(root.rolled_back)
    disk.point(root.journal, root.target(turn.to))


def read(root: Root) -> Turn | None:
    """Return the turn that is under way or was interrupted, None if there is none.

    Raises:
        IntegrityError: the journal is damaged.
    """
    if not exists(root):
        return None
    if not root.journal.is_symlink():
        return _read_json(root)
    to = linked_release(root.journal)
    before = linked_release(root.journal_from)
    is_rollback = before is not None and linked_release(root.rolled_back) == before
    return Turn(before=before, to=to or "", is_rollback=is_rollback)


def exists(root: Root) -> bool:
    """Return whether a turn is under way or was interrupted."""
    return root.journal.is_symlink() or root.journal.exists()


def remove(root: Root) -> None:
    """Remove the journal: the turn is done, or taken back.

    Raises:
        MachineError: the disk is read-only.
    """
    disk.remove(root.journal)
    disk.remove(root.journal_from)


def _read_json(root: Root) -> Turn:
    try:
        found = files.read_json(root.journal)
        before, to = found["from"], found["to"]
        for name in (before, to) if before is not None else (to,):
            root.folder(name)
    except (DataError, UsageError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{root.journal} is damaged: {error!r}. See which release should run, with `releases "
            "list`, remove the file, and switch to that release."
        ) from error
    return Turn(before=before, to=to)
