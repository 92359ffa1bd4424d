"""When a board leaves a release by itself, and when it does not."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from edgedistill.device.releases import disk, fallback
from edgedistill.device.releases.fallback import fall_back, read_failures, record_failure
from edgedistill.device.releases.layout import linked_release
from edgedistill.device.releases.switch import listing, rollback, switch

pytestmark = pytest.mark.slow


@pytest.fixture
def switched(root, sick):
    """Release `b` runs, and `a` ran before."""
    switch(root, "a")
    switch(root, "b")
    return root


def _damage(root, name):
    (root.folder(name) / "bundle" / "golden.npz").write_bytes(b"nothing")


def _fail(root, times, result="watchdog", status="ABRT"):
    for _ in range(times):
        record_failure(root, result, status)


@pytest.mark.parametrize(
    ("result", "status", "cause"),
    [
        ("watchdog", "ABRT", "did not answer"),
        ("timeout", "TERM", "did not start or stop in time"),
        ("signal", "SEGV", "was ended by SIGSEGV"),
        ("core-dump", "ABRT", "was ended by SIGABRT"),
        ("oom-kill", "KILL", "needed more memory than it may have"),
        ("exit-code", "6", "ended with 6"),
        ("protocol", "0", "ended before it was ready"),
    ],
)
def test_third_failure_in_a_row_is_the_last(switched, result, status, cause):
    """However the service failed."""
    _fail(switched, 2, result, status)
    assert fall_back(switched).outcome == "unchanged"
    _fail(switched, 1, result, status)

    found = fall_back(switched)

    assert (found.outcome, found.current, found.failed) == ("returned", "a", "b")
    assert found.reason == f"its service {cause}, the last of 3 failures in a row"
    assert listing(switched)["fallback"]["reason"] == found.reason
    assert linked_release(switched.rolled_back) == "b"


@pytest.mark.parametrize("result", ["success", "exec-condition", "resources", "", "what"])
def test_orderly_ends_do_not_count(switched, result):
    """A service that was stopped has not failed, nor one that systemd could not start."""
    assert record_failure(switched, result, "0") is None
    assert read_failures(switched) is None


def test_failures_far_apart_do_not_count_together(switched):
    """Once a day is no row; a clock that jumped back begins one, too."""
    for hours in (-2, 2):
        time = datetime.now(timezone.utc) + timedelta(hours=hours)
        disk.point(switched.failures, f"2 {time:%Y-%m-%dT%H:%M:%SZ} watchdog ABRT")

        assert record_failure(switched, "watchdog", "ABRT").count == 1


@pytest.mark.parametrize(
    "text", ["", "2", "x 2026-01-01T00:00:00Z watchdog ABRT", "2 now signal 9"]
)
def test_unusable_count_begins_anew(switched, text):
    """Something else is in its place."""
    if text:
        switched.failures.symlink_to(text)
    else:
        switched.failures.write_text("")

    assert record_failure(switched, "signal", "KILL").count == 1


@pytest.mark.parametrize("status", ["5", "203"])
def test_fault_of_the_machine_is_no_fault_of_the_release(switched, sick, status):
    """An address that is taken is so for every release; a runtime that is gone is found out."""
    _fail(switched, 3, "exit-code", status)
    assert fall_back(switched).outcome == "unchanged"
    sick.add("b")

    found = fall_back(switched)

    assert found.current == "a"
    assert found.reason.endswith("3 failures in a row; it coughs")


def test_damaged_release_is_left_without_a_failure(switched):
    """The service would end with 6 each time."""
    _damage(switched, "b")

    found = fall_back(switched)

    assert found.current == "a"
    assert "golden.npz" in found.reason


@pytest.mark.parametrize("how", ["sick", "damaged"])
def test_bad_release_stays_where_the_previous_one_is_bad_too(switched, sick, how):
    """Something runs; the reasons of both are told, and the next deployment is not hindered."""
    _fail(switched, 3)
    if how == "sick":
        sick.add("a")
    else:
        (switched.folder("a") / "release.json").unlink()

    found = fall_back(switched)

    assert (found.outcome, found.current, found.failed) == ("unchanged", "b", "b")
    assert "did not answer" in found.reason
    assert ("a is not healthy here: it coughs" if how == "sick" else "release.json") in (
        found.reason
    )
    assert not switched.fallback.is_symlink()  # or a later rollback would be told as the board's
    assert linked_release(switched.current) == "b"
    assert linked_release(switched.previous) == "a"


def test_without_a_previous_release_nothing_is_left(root, sick):
    """A board without a release would be worse."""
    switch(root, "a")
    _damage(root, "a")
    _fail(root, 5)

    assert fall_back(root).outcome == "unchanged"
    assert linked_release(root.current) == "a"


def test_what_was_left_is_not_returned_to(switched, sick):
    """Not even if what came in its place fails as well."""
    _fail(switched, 3)
    fall_back(switched)
    _fail(switched, 9)

    assert fall_back(switched).outcome == "unchanged"
    assert linked_release(switched.current) == "a"


def test_next_switch_forgets(switched):
    """Its failures are its own, and the board says no more that it left one."""
    _fail(switched, 3)
    fall_back(switched)
    assert read_failures(switched) is None
    _fail(switched, 1)

    switch(switched, "c")

    assert read_failures(switched) is None
    assert listing(switched)["fallback"] is None
    assert [link for link in switched.path.iterdir() if link.name in {"fallback", "failures"}] == []


def test_rollback_by_a_person_is_none_by_the_board(switched):
    """Nor do failures of what was left count against what runs."""
    _fail(switched, 2)

    rollback(switched)

    assert listing(switched)["fallback"] is None
    assert read_failures(switched) is None


def test_reason_that_does_not_fit_on_a_disk_is_shortened(switched, monkeypatch):
    """A long text takes a block, which a full disk does not have."""
    point = disk.point

    def full(link, target):
        if len(target) > 59:
            raise fallback.MachineError("The disk is full.")
        point(link, target)

    monkeypatch.setattr(disk, "point", full)
    _fail(switched, 3)

    assert fall_back(switched).current == "a"
    assert listing(switched)["fallback"]["reason"] == "see the log of its service"
