"""Current and previous release: switch, roll back, recover, list; a board always has one that runs.

A journal exists from before the links change until the new release is healthy. The next command
that finds it, because the machine died in between, checks the release again and goes on or back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from edgedistill.device.releases import disk, journal
from edgedistill.device.releases.downgrade import record_version
from edgedistill.device.releases.journal import Turn
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.lock import check_lease, file_lock
from edgedistill.device.releases.repair import is_gone, repair_links
from edgedistill.device.releases.signers import is_signer_trusted
from edgedistill.device.releases.verdict import require_kept_contract, verdict_of
from edgedistill.errors import ContractError, IntegrityError, MachineError, UsageError

Outcome = Literal["unchanged", "confirmed", "returned", "repaired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRecovery:
    """Outcome of a switch, or of recovering an interrupted one."""

    outcome: Outcome
    current: str | None  # the release that runs now
    failed: str | None = None  # the one that was left again, or that `current` led to and is gone
    reason: str = ""  # why


def recover_interrupted_switch(root: Root) -> SwitchRecovery:
    """Confirm or take back an unfinished switch, and mend links that lead nowhere.

    The caller holds the lock.

    Returns:
        The outcome; "repaired" if `current` led nowhere: then `failed` is gone.

    Raises:
        IntegrityError: the journal, or a link, is damaged.
        MachineError: the disk is read-only.
    """
    recovery = _recover(root)
    gone = repair_links(root)
    if gone is None:
        return recovery
    return SwitchRecovery(
        outcome="repaired",
        current=linked_release(root.current),
        failed=gone,
        reason="its folder is gone",
    )


def switch(root: Root, name: str, *, force: bool = False) -> SwitchRecovery:
    """Make a release the current one if it is healthy; the caller holds `root_lock`.

    Args:
        root: root of the releases.
        name: name of the release.
        force: accept a release that was not validated here, or broke its contract.

    Raises:
        UsageError: there is no such release, or it was not validated here.
        ContractError: it broke its contract here; or it is not healthy, and the one before is
            current again.
        IntegrityError: its record is damaged.
        MachineError: the disk is full or read-only.
    """
    found = _switch(root, name, force=force)
    record_version(root, name)
    return found


def rollback(root: Root, *, source: str | None = None, target: str | None = None) -> SwitchRecovery:
    """Return to the release that ran before, once: repeated, it changes nothing.

    The caller holds `file_lock` of the root and has not recovered an interrupted switch: that
    switch is what is taken back.

    Args:
        root: root of the releases.
        source: release to leave; None: the current one.
        target: release to return to; None: the previous one. Another one must have been validated.

    Returns:
        The outcome: "unchanged" if the board was rolled back already, or `target` runs.

    Raises:
        UsageError: there is no previous release, or no such release.
        ContractError: it is not healthy any more, so nothing was changed.
        IntegrityError: its record, the journal or a link is damaged.
        MachineError: another release than `source` runs; the disk is read-only.
    """
    interrupted = journal.read(root)
    if interrupted is not None and target is None and _is_unconfirmed(root, interrupted):
        return _take_back(root, interrupted)
    recovery = recover_interrupted_switch(root)
    if recovery.outcome == "repaired" and target in {None, recovery.current}:
        return recovery
    current, previous = linked_release(root.current), linked_release(root.previous)
    left = linked_release(root.rolled_back)
    is_done = left is not None and previous is None if target is None else current == target
    if is_done:
        return SwitchRecovery(outcome="unchanged", current=current, failed=left)
    if source not in {None, current}:
        raise MachineError(
            f"{current} runs, not {source}: somebody switched in the meantime. Nothing was "
            "changed. Look at what runs, and roll back again if it is to go."
        )
    if target not in {None, previous}:
        return _switch(root, str(target))  # without the record: nothing may stop a rollback
    if previous is None:
        raise UsageError(f"There is no previous release in {root.path} to return to.")
    root.release(previous)  # it was current, so it had kept its contract
    return _turn(root, Turn(before=current, to=previous, is_rollback=True))


def listing(root: Root) -> dict[str, Any]:
    """Return the releases of a root, as JSON values.

    Returns:
        `root`; `current`, `previous` and `rolled_back` (what the last rollback left), names or
        None; `fallback`, the time and the reason of a rollback by the board itself, or None;
        `switching`, whether a switch was interrupted; `releases`, each with its record, `path`,
        `trusted`, as for `is_signer_trusted`, and `verdict`, which is None before a validation; a
        damaged one has `damage` instead of its record. A `current` without a folder is none of the
        releases; the other links are None then.

    Raises:
        IntegrityError: `current` or `previous` leads to no release.
    """
    return {
        "root": str(root.path),
        "current": linked_release(root.current),
        "previous": _whole(root, linked_release(root.previous)),
        "rolled_back": _whole(root, linked_release(root.rolled_back)),
        "fallback": _fallback(root),
        "switching": journal.exists(root),
        "releases": [_entry(root, name) for name in root.names()],
    }


@contextmanager
def root_lock(root: Root, *, lease: str | None = None) -> Iterator[SwitchRecovery]:
    """Hold the lock of a root and recover an interrupted switch; yield its outcome.

    Args:
        root: root of the releases.
        lease: token of the deployment that wants it; None: a person on the board.

    Raises:
        MachineError: another command holds the lock, another deployment took over, or the disk
            is read-only.
        IntegrityError: the journal, or a link, is damaged.
    """
    with file_lock(root.lock):
        if lease is not None:
            check_lease(root, lease)
        yield recover_interrupted_switch(root)


def _recover(root: Root) -> SwitchRecovery:
    current = linked_release(root.current)
    turn = journal.read(root)
    if turn is None:
        if root.journal_from.is_symlink():  # killed while the journal was removed
            journal.remove(root)
        return SwitchRecovery(outcome="unchanged", current=current)
    if current != turn.to:  # it had not been switched yet
        _end_unturned(root, turn)
        return SwitchRecovery(outcome="unchanged", current=current)
    return _confirm(root, turn)


def _switch(root: Root, name: str, *, force: bool = False) -> SwitchRecovery:
    root.release(name)
    if not force:
        require_kept_contract(root.folder(name))
    before = linked_release(root.current)
    if before == name:
        return SwitchRecovery(outcome="unchanged", current=name)
    return _turn(root, Turn(before=before, to=name))


def _turn(root: Root, turn: Turn) -> SwitchRecovery:
    journal.write(root, turn)
    disk.point(root.current, root.target(turn.to))
    found = _confirm(root, turn)
    if found.outcome == "returned":
        before = turn.before
        back = f"{before} is current again" if before else "no release is current, as before"
        raise ContractError(f"{turn.to} is not healthy here: {found.reason}. So {back}.")
    return found


def _confirm(root: Root, turn: Turn) -> SwitchRecovery:
    """Keep the current release if it is healthy, else go back."""
    from edgedistill.device.releases import health  # loads runtimes: `list` starts without

    try:
        reason = health.failure(root.current)
    except BaseException:
        _return(root, turn)
        raise
    if reason is not None:
        _return(root, turn)
        return SwitchRecovery(
            outcome="returned", current=turn.before, failed=turn.to, reason=reason
        )
    if turn.is_rollback:
        disk.remove(root.previous)  # what was left is in `rolled_back`, and is not returned to
    else:
        if turn.before is not None:
            disk.point(root.previous, root.target(turn.before))
        disk.remove(root.rolled_back)
        disk.remove(root.fallback)
    disk.remove(root.failures)
    journal.remove(root)
    return SwitchRecovery(outcome="confirmed", current=turn.to)


def _return(root: Root, turn: Turn) -> None:
    if turn.before is None:
        disk.remove(root.current)
    else:
        disk.point(root.current, root.target(turn.before))
    _end_unturned(root, turn)


def _end_unturned(root: Root, turn: Turn) -> None:
    """Remove what a switch has recorded whose release is not current, or not any more."""
    journal.remove(root)
    if turn.is_rollback:
        disk.remove(root.rolled_back)


def _is_unconfirmed(root: Root, turn: Turn) -> bool:
    """Return whether an interrupted switch made its release current, or is being taken back."""
    if turn.before is None or turn.is_rollback:
        return False
    return turn.to in {linked_release(root.current), linked_release(root.rolled_back)}


def _take_back(root: Root, turn: Turn) -> SwitchRecovery:
    """Return from an interrupted switch, whose release nobody has confirmed."""
    disk.point(root.rolled_back, root.target(turn.to))
    disk.remove(root.previous)
    disk.point(root.current, root.target(str(turn.before)))
    journal.remove(root)
    return SwitchRecovery(outcome="confirmed", current=turn.before)


def _whole(root: Root, name: str | None) -> str | None:
    return None if is_gone(root, name) else name


def _fallback(root: Root) -> dict[str, str] | None:
    if not root.fallback.is_symlink() or linked_release(root.rolled_back) is None:
        return None
    time, _, reason = str(root.fallback.readlink()).partition(" ")
    return {"time": time, "reason": reason}


def _entry(root: Root, name: str) -> dict[str, Any]:
    folder = root.folder(name)
    try:
        release = root.release(name)
    except IntegrityError as error:
        facts: dict[str, Any] = {"name": name, "damage": str(error)}
    else:
        facts = {**release.to_dict(), "trusted": is_signer_trusted(root, release)}
    return {**facts, "path": str(folder), "verdict": verdict_of(root, name)}
