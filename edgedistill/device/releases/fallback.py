"""Fall-back: a board leaves a release whose service keeps failing, or whose files went bad.

systemd starts a failed service again, and has each failure counted here. Before every start the
release is judged: one whose files are damaged is left for the previous one at once, one that failed
three times then. That is a rollback: the previous release has to pass its health check, and what
was left is not returned to, so two bad releases never take turns. All facts are texts of links,
which take no space on a full disk.

Source: the boot counter of U-Boot (`bootcount`, `bootlimit`, `altbootcmd`) and of systemd's
automatic boot assessment.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from edgedistill.device.releases import disk, health
from edgedistill.device.releases.installation import damage
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.switch import SwitchRecovery, rollback
from edgedistill.errors import ContractError, IntegrityError, MachineError

LIMIT: Final = 3  # failures in a row
_WINDOW: Final = timedelta(hours=1)  # a longer time between two failures begins a new row
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_OWN_STATUS: Final = 200  # and above: of systemd itself, such as for a missing interpreter
_LONGEST: Final = 500  # characters of a reason
_CAUSES: Final = {  # by systemd's word for how a service failed
    "watchdog": "its service did not answer",
    "timeout": "its service did not start or stop in time",
    "protocol": "its service ended before it was ready",
    "oom-kill": "its service needed more memory than it may have",
    "exit-code": "its service ended with {status}",
    "signal": "its service was ended by SIG{status}",
    "core-dump": "its service was ended by SIG{status}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFailures:
    """Failures of the current release's service in a row."""

    count: int
    last: str  # time, ISO 8601, UTC
    result: str  # of the last: SERVICE_RESULT of systemd
    status: str  # of the last: EXIT_STATUS of systemd, "-" if there is none

    @property
    def may_be_the_machine(self) -> bool:
        """Whether the service ended because something is missing or taken on the machine."""
        number = int(self.status) if self.status.isdecimal() else 0
        return self.result == "exit-code" and (
            number == MachineError.exit_code or number >= _OWN_STATUS
        )

    @property
    def cause(self) -> str:
        """Cause of the last failure, in words."""
        return _CAUSES[self.result].format(status=self.status)


def record_failure(root: Root, result: str, status: str) -> ServiceFailures | None:
    """Count a failure of the service; None if it has not failed.

    Args:
        root: root of the releases.
        result: SERVICE_RESULT of systemd.
        status: EXIT_STATUS of systemd; "" if the service was not started.

    Raises:
        MachineError: the disk is read-only.

    Source: systemd.exec(5), Environment Variables Set or Propagated by the Service Manager.
    """
    if result not in _CAUSES:
        return None
    now = datetime.now(timezone.utc)
    before = read_failures(root)
    in_a_row = before is not None and abs(now - _parse(before.last)) < _WINDOW
    count = before.count + 1 if before is not None and in_a_row else 1
    failures = ServiceFailures(
        count=count, last=now.strftime(_TIME), result=result, status=status or "-"
    )
    disk.point(root.failures, f"{count} {failures.last} {result} {failures.status}")
    return failures


def read_failures(root: Root) -> ServiceFailures | None:
    """Return the failures since the last switch; None if there are none."""
    match _text(root.failures).split():
        case [count, last, result, status] if count.isdecimal() and result in _CAUSES:
            with suppress(ValueError):
                _parse(last)
                return ServiceFailures(count=int(count), last=last, result=result, status=status)
    return None


def fall_back(root: Root) -> SwitchRecovery:
    """Leave the current release for the previous one if it must be left.

    The caller holds the lock of the root and has recovered an interrupted switch.

    Returns:
        The outcome: "returned" if it was left, else "unchanged"; if it has failed, `failed` is its
        name, with the reason: also where it stays, because the previous one is not healthy.

    Raises:
        IntegrityError: a link is damaged.
        MachineError: the disk is read-only.
    """
    current, previous = linked_release(root.current), linked_release(root.previous)
    unchanged = SwitchRecovery(outcome="unchanged", current=current)
    if current is None or previous is None:
        return unchanged
    reason = damage(root.folder(current)) or _failure(root)
    if reason is None:
        return unchanged
    _record(root, reason)
    try:
        found = rollback(root, source=current)
    except (ContractError, IntegrityError) as error:
        disk.remove(root.fallback)
        return replace(unchanged, failed=current, reason=f"{reason}. {error}")
    return SwitchRecovery(outcome="returned", current=found.current, failed=current, reason=reason)


def _failure(root: Root) -> str | None:
    """Return why the service's failures count against the release, None if they do not."""
    failures = read_failures(root)
    if failures is None or failures.count < LIMIT:
        return None
    reason = f"{failures.cause}, the last of {failures.count} failures in a row"
    if failures.may_be_the_machine:  # an address that is taken would be so for any release
        found = health.failure(root.current)
        return None if found is None else f"{reason}; {found}"
    return reason


def _record(root: Root, reason: str) -> None:
    """Record why the current release is left; a full disk may leave no room for all of it."""
    time = datetime.now(timezone.utc).strftime(_TIME)
    line = "".join(sign for sign in " ".join(reason.split()) if sign.isprintable())[:_LONGEST]
    for text in (line, "see the log of its service"):
        with suppress(MachineError):
            disk.point(root.fallback, f"{time} {text}")
            return


def _text(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # there is none, or something else has its name
        return ""


def _parse(time: str) -> datetime:
    return datetime.strptime(time, _TIME).replace(tzinfo=timezone.utc)
