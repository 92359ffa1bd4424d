"""Current and previous release: switch, roll back, recover, list; a board always has one that runs.

A journal exists from before the links change until the new release is healthy. The next command
that finds it, because the machine died in between, checks the release again and goes on or back.
A lock lets one command at a time change the releases.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from edgedistill.device.releases import disk
from edgedistill.device.releases.layout import REPORT, Root, linked_release
from edgedistill.errors import ContractError, DataError, IntegrityError, MachineError, UsageError
from edgedistill.io import files
from edgedistill.report import from_json

RELEASES_TO_KEEP: Final = "kept"
Outcome = Literal["unchanged", "confirmed", "returned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRecovery:
    """Outcome of a switch, or of recovering an interrupted one."""

    outcome: Outcome
    current: str | None  # the release that runs now
    failed: str | None = None  # the one that was left again
    reason: str = ""  # why


def recover_interrupted_switch(root: Root) -> SwitchRecovery:
    """Confirm or take back an unfinished switch; the caller holds the lock.

    Raises:
        IntegrityError: the journal, or a link, is damaged.
        MachineError: the disk is read-only.
    """
    current = linked_release(root.current)
    if not root.journal.exists():
        return SwitchRecovery(outcome="unchanged", current=current)
    before, to = _journal(root)
    if current != to:  # it had not been switched yet
        disk.remove(root.journal)
        return SwitchRecovery(outcome="unchanged", current=current)
    return _confirm(root, before, to)


def switch(root: Root, name: str, *, force: bool = False) -> SwitchRecovery:
    """Make a release the current one if it is healthy; the caller holds `lock.root_lock`.

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
    root.release(name)
    if not force:
        _check_validated(root.folder(name))
    before = linked_release(root.current)
    if before == name:
        return SwitchRecovery(outcome="unchanged", current=name)
    with files.translate_os_errors(root.journal):
        files.write_json(root.journal, {"from": before, "to": name})
        disk.flush(root.path)
    disk.point(root.current, root.target(name))
    found = _confirm(root, before, name)
    if found.outcome == "returned":
        back = f"{before} is current again" if before else "no release is current, as before"
        raise ContractError(f"{name} is not healthy here: {found.reason}. So {back}.")
    return found


def rollback(root: Root) -> SwitchRecovery:
    """Make the previous release the current one again; the caller holds `lock.root_lock`.

    Raises:
        UsageError: there is no previous release.
        ContractError: it is not healthy any more, so nothing was changed.
        IntegrityError: its record is damaged.
        MachineError: the disk is full or read-only.
    """
    name = linked_release(root.previous)
    if name is None:
        raise UsageError(f"There is no previous release in {root.path} to return to.")
    return switch(root, name, force=True)  # it was current, so it had kept its contract


def listing(root: Root) -> dict[str, Any]:
    """Return the releases of a root, as JSON values.

    Returns:
        `root`; `current` and `previous`, names or None; `switching`, whether a switch was
        interrupted; `releases`, each with its record, `path`, and `verdict`, which is
        None before a validation; a damaged one has `damage` instead of its record.

    Raises:
        IntegrityError: `current` or `previous` leads to no release.
    """
    return {
        "root": str(root.path),
        "current": linked_release(root.current),
        "previous": linked_release(root.previous),
        "switching": root.journal.exists(),
        "releases": [_entry(root, name) for name in root.names()],
    }


@contextmanager
def root_lock(root: Root) -> Iterator[SwitchRecovery]:
    """Hold the lock of a root and recover an interrupted switch; yield its outcome.

    Raises:
        MachineError: another command holds the lock, or the disk is read-only.
        IntegrityError: the journal, or a link, is damaged.
    """
    with file_lock(root.lock):
        yield recover_interrupted_switch(root)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock in a file; the system releases it when the process ends, however it does.

    Raises:
        MachineError: another process holds it, or the file cannot be written.
    """
    with files.translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("ab", buffering=0)
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MachineError(
                f"Another command is changing {path.parent} ({_holder(path)}). Wait until it is "
                "done, and run again."
            ) from None
        with suppress(OSError):  # the name is a courtesy: a full disk must not stop a rollback
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n".encode())
        yield


def _confirm(root: Root, before: str | None, to: str) -> SwitchRecovery:
    """Keep the current release if it is healthy, else go back."""
    from edgedistill.device.releases import health  # loads runtimes: `list` starts without

    try:
        reason = health.failure(root.current)
    except BaseException:
        _return(root, before)
        raise
    if reason is not None:
        _return(root, before)
        return SwitchRecovery(outcome="returned", current=before, failed=to, reason=reason)
    if before is not None:
        disk.point(root.previous, root.target(before))
    disk.remove(root.journal)
    return SwitchRecovery(outcome="confirmed", current=to)


def _return(root: Root, before: str | None) -> None:
    if before is None:
        disk.remove(root.current)
    else:
        disk.point(root.current, root.target(before))
    disk.remove(root.journal)


def _check_validated(folder: Path) -> None:
    path = folder / REPORT
    if not path.exists():
        raise UsageError(
            f"{folder.name} was not validated here. Do so first, with `validate {folder}`, or "
            "switch with --force."
        )
    try:
        verdict = from_json(files.read_json(path)).verdict
    except DataError as error:
        raise IntegrityError(
            f"{path} is unusable: {error} Validate {folder.name} again."
        ) from error
    if verdict != RELEASES_TO_KEEP:
        raise ContractError(
            f"{folder.name} breaks its contract here, as {path} says. Nothing was switched."
        )


def _journal(root: Root) -> tuple[str | None, str]:
    """Return the two releases of an interrupted switch: from, to."""
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
    return before, to


def _entry(root: Root, name: str) -> dict[str, Any]:
    folder = root.folder(name)
    try:
        facts = root.release(name).to_dict()
    except IntegrityError as error:
        facts = {"name": name, "damage": str(error)}
    return {**facts, "path": str(folder), "verdict": _verdict(root, name)}


def _verdict(root: Root, name: str) -> str | None:
    """Return the verdict of a release's validation here, "unusable" if its report is."""
    path = root.folder(name) / REPORT
    if not path.exists():
        return None
    try:
        return from_json(files.read_json(path)).verdict
    except (DataError, IntegrityError):
        return "unusable"


def _holder(path: Path) -> str:
    """Return the holder of a lock, as text; its number may not be written yet."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    return f"process {text}" if text.isdecimal() else "process unknown"
