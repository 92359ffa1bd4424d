"""Switching: whatever happens, a release that runs is current, and everybody is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from contextlib import suppress

import pytest

from edgedistill.device.__main__ import main
from edgedistill.device.releases import disk, health, journal
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.lock import file_lock
from edgedistill.device.releases.switch import (
    recover_interrupted_switch,
    rollback,
    root_lock,
    switch,
)
from edgedistill.errors import ContractError, IntegrityError, MachineError, UsageError
from edgedistill.io import files

pytestmark = pytest.mark.slow


def fill(path):
    """Write to a file until its disk has no byte left."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        with suppress(OSError):
            while os.write(handle, bytes(size)):
                pass
    os.close(handle)


def _state(root):
    return linked_release(root.current), linked_release(root.previous), root.journal.exists()


def test_first_switch_has_nothing_to_return_to(root, sick):
    """There is a current release, and no previous one."""
    found = switch(root, "a")

    assert (found.outcome, found.current) == ("confirmed", "a")
    assert _state(root) == ("a", None, False)


def test_switch_sets_the_previous_release(root, sick):
    """Only the last one."""
    for name in ("a", "b", "c"):
        switch(root, name)

    assert _state(root) == ("c", "b", False)


def test_switch_to_what_runs_changes_nothing(root, sick):
    """A second deployment of the same bundle."""
    switch(root, "a")
    switch(root, "b")

    assert switch(root, "b").outcome == "unchanged"
    assert _state(root) == ("b", "a", False)


def test_unhealthy_release_is_rolled_back(root, sick):
    """The message says why, and what runs now; the previous one is still the one before that."""
    switch(root, "a")
    switch(root, "b")
    sick.add("c")

    with pytest.raises(ContractError, match=r"c is not healthy here: it coughs\. So b is current"):
        switch(root, "c")

    assert _state(root) == ("b", "a", False)


def test_unhealthy_first_release_leaves_no_current_one(root, sick):
    """As before."""
    sick.add("a")

    with pytest.raises(ContractError, match="So no release is current, as before"):
        switch(root, "a")

    assert _state(root) == (None, None, False)


def test_interrupted_health_check_rolls_back(root, sick, monkeypatch):
    """Ctrl-C, or a disk that refuses, in the middle of it."""
    switch(root, "a")

    def interrupted(release):
        raise KeyboardInterrupt

    monkeypatch.setattr(health, "failure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        switch(root, "b")

    assert _state(root) == ("a", None, False)


def test_rollback_repeated_changes_nothing(root, sick):
    """Somebody whose line was cut does not know whether it was done, and runs it again."""
    for name in ("c", "a", "b"):
        switch(root, name)

    outcomes = [rollback(root) for _ in range(3)]

    assert [each.outcome for each in outcomes] == ["confirmed", "unchanged", "unchanged"]
    assert [each.current for each in outcomes] == ["a", "a", "a"]
    assert outcomes[1].failed == "b"
    assert (_state(root), linked_release(root.rolled_back)) == (("a", None, False), "b")


def test_release_that_was_left_is_returned_to_by_name(root, sick):
    """Afterwards a rollback leaves it again."""
    switch(root, "a")
    switch(root, "b")
    rollback(root)

    assert rollback(root, target="b").current == "b"
    assert (_state(root), linked_release(root.rolled_back)) == (("b", "a", False), None)
    assert rollback(root, target="b").outcome == "unchanged"
    assert rollback(root).current == "a"


def test_switch_after_a_rollback_can_be_rolled_back(root, sick):
    """To what ran then, not to what was left."""
    for name in ("a", "b"):
        switch(root, name)
    rollback(root)
    switch(root, "c")

    assert rollback(root).current == "a"
    assert linked_release(root.rolled_back) == "c"


def test_rollback_of_a_release_that_does_not_run_is_refused(root, sick):
    """Somebody deployed since its user looked."""
    for name in ("a", "b", "c"):
        switch(root, name)

    with pytest.raises(MachineError, match=r"c runs, not b: somebody switched in the meantime"):
        rollback(root, source="b", target="a")

    assert _state(root) == ("c", "b", False)


def test_rollback_takes_an_interrupted_switch_back(root, sick):
    """Once, without a look at the release that is left: it may hang."""
    for name in ("a", "b"):
        switch(root, name)
    files.write_json(root.journal, {"from": "b", "to": "c"})
    root.current.unlink()
    root.current.symlink_to("releases/c")
    sick.add("c")

    outcomes = [rollback(root) for _ in range(2)]

    assert [each.current for each in outcomes] == ["b", "b"]
    assert (_state(root), linked_release(root.rolled_back)) == (("b", None, False), "c")


def test_unhealthy_previous_release_is_not_rolled_back_to(root, sick):
    """What runs goes on, and the next try tries again."""
    switch(root, "a")
    switch(root, "b")
    sick.add("a")

    for _ in range(2):
        with pytest.raises(ContractError, match=r"a is not healthy here: .* So b is current"):
            rollback(root)
    assert (_state(root), linked_release(root.rolled_back)) == (("b", "a", False), None)
    sick.clear()
    assert rollback(root).current == "a"


def test_rollback_needs_no_report(root, sick):
    """What ran before may run again; going back must not depend on more than it needs."""
    switch(root, "a")
    switch(root, "b")
    (root.folder("a") / "report.json").unlink()

    assert rollback(root).current == "a"


def test_rollback_without_a_previous_release(root, sick):
    """There is nothing to return to."""
    switch(root, "a")

    with pytest.raises(UsageError, match=r"There is no previous release in .*root to return to"):
        rollback(root)

    assert _state(root) == ("a", None, False)


def test_release_must_have_kept_its_contract_here(root, sick, report):
    """Not validated, broken, unusable: each is another message; --force overrules the first two."""
    path = root.folder("a") / "report.json"

    path.unlink()
    with pytest.raises(UsageError, match=r"a was not validated here.*`validate .*/a`.*--force"):
        switch(root, "a")
    files.write_json(path, {**report, "verdict": "broken"})
    with pytest.raises(ContractError, match=r"a breaks its contract here, as .*report\.json says"):
        switch(root, "a")
    path.write_text("{}")
    with pytest.raises(IntegrityError):
        switch(root, "a")
    assert _state(root) == (None, None, False)

    assert switch(root, "a", force=True).current == "a"


@pytest.mark.parametrize("text", ["", "[]", '{"format": "edgedistill.report/1"}'])
def test_report_that_is_unusable_is_refused(root, sick, text):
    """A file that somebody cut off or wrote by hand."""
    (root.folder("a") / "report.json").write_text(text)

    with pytest.raises(IntegrityError, match=r"report\.json is unusable: .*Validate a again"):
        switch(root, "a")


def test_absent_release_is_not_switched_to(root, sick):
    """Those that are there are named."""
    with pytest.raises(UsageError, match="There are: a, b, c"):
        switch(root, "d")


# What a crash leaves


@pytest.mark.parametrize("before", ["a", None])
def test_journal_of_a_switch_before_the_link_is_removed(root, sick, before):
    """The journal stood, the link had not been turned: the old release runs on, unasked."""
    if before:
        switch(root, before)
        sick.add(before)
    files.write_json(root.journal, {"from": before, "to": "b"})

    assert recover_interrupted_switch(root).outcome == "unchanged"
    assert _state(root) == (before, None, False)


def test_unconfirmed_switch_to_a_healthy_release_is_confirmed(root, sick):
    """The link had been turned and the release is healthy."""
    switch(root, "a")
    files.write_json(root.journal, {"from": "a", "to": "b"})
    root.current.unlink()
    root.current.symlink_to("releases/b")

    found = recover_interrupted_switch(root)

    assert (found.outcome, found.current) == ("confirmed", "b")
    assert _state(root) == ("b", "a", False)


@pytest.mark.parametrize("before", ["a", None])
def test_unconfirmed_switch_to_an_unhealthy_release_is_taken_back(root, sick, before):
    """The link had been turned and the release is not healthy: who comes later goes back."""
    files.write_json(root.journal, {"from": before, "to": "b"})
    root.current.symlink_to("releases/b")
    sick.add("b")

    with root_lock(root) as found:
        assert (found.outcome, found.current, found.failed) == ("returned", before, "b")
        assert found.reason == "it coughs"
    assert _state(root) == (before, None, False)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "null", '{"from": "a", "to": null}', '{"from": "../a", "to": "b"}'),
        '{"from": 1, "to": "b"}',
    ],
)
def test_damaged_journal_stops_everything(root, sick, text):
    """Which release should run is for a person to say; the message says how."""
    root.journal.write_text(text)

    with pytest.raises(IntegrityError, match=r"switching\.json is damaged: .*releases list"):
        recover_interrupted_switch(root)


def test_two_at_once(root, sick):
    """The second is told to wait."""
    with (
        root_lock(root),
        pytest.raises(MachineError, match="Another command is changing"),
        root_lock(root),
    ):
        pytest.fail("the block must not run")


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request, tmp_path):
    """A folder that is a disk of its own, a small one; ext4 stores long links in blocks."""
    folder, image = tmp_path / "disk", tmp_path / "image"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]
    if request.param == "ext4":
        with image.open("wb") as stream:
            stream.truncate(4 << 20)
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("there is no mkfs.ext4")
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        mount = ["mount", "-o", "loop", image, folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_full_disk_does_not_stop_a_rollback(root, small_disk, sick):
    """No block is free, and the names are as long as they may be; nor does it stop the next."""
    small = Root(small_disk / "root")
    names = ["a" * 64, "b" * 64]
    for name in names:
        small.folder(name).mkdir(parents=True)
        record = (root.folder("a") / "release.json").read_bytes()
        (small.folder(name) / "release.json").write_bytes(record)
        with root_lock(small):
            switch(small, name, force=True)
    fill(small_disk / "filler")

    with file_lock(small.lock):
        outcomes = [rollback(small).outcome for _ in range(2)]

    assert outcomes == ["confirmed", "unchanged"]
    assert (_state(small), linked_release(small.rolled_back)) == ((names[0], None, False), names[1])
    with pytest.raises(OSError, match="No space"):
        (small_disk / "byte").write_bytes(b"1")


@pytest.mark.parametrize("holder", ["process 7 ffff me@laptop", "process 7", "", "rollback"])
def test_deployment_that_lost_its_lease_changes_nothing(root, sick, holder):
    """Another one, one of 0.1.0, or a rollback took over; who holds the lease goes on."""
    root.deploying.write_text("process 6 eeee you@desk\n")
    with root_lock(root, lease="eeee"):
        switch(root, "a")
    root.deploying.write_text(holder)

    with pytest.raises(MachineError, match="took over"), root_lock(root, lease="eeee"):
        pytest.fail("the block must not run")


def test_rollback_stops_a_deployment_under_way(root, sick):
    """Or it would switch again to what was left."""
    for name in ("a", "b"):
        switch(root, name)
    root.deploying.write_text("process 6 eeee you@desk\n")

    main(["releases", "rollback", "--root", str(root.path)])

    assert _state(root) == ("a", None, False)
    assert main(["releases", "switch", "b", "--root", str(root.path), "--lease", "eeee"]) == 5
    assert _state(root) == ("a", None, False)


@pytest.mark.parametrize("healthy", [True, False])
def test_switch_killed_at_any_step(kills, root, sick, tmp_path, healthy):
    """Current is the old or the new release, and whoever comes next ends it."""
    switch(root, "a")
    steps = kills(root.path, ["releases", "switch", "b", "--root", "{root}"])
    assert len(steps) >= 8
    if not healthy:
        sick.add("b")

    for number, step in enumerate(steps):
        found = Root(tmp_path / "kills" / str(number))
        assert linked_release(found.current) in {"a", "b"}, step
        pending = found.journal.exists()
        recover_interrupted_switch(found)
        current = linked_release(found.current)
        assert not found.journal.exists()
        assert current == "a" or healthy or not pending, step
        switch(found, "c")
        assert _state(found) == ("c", current, False), step


@pytest.mark.parametrize("interrupted", [False, True])
def test_rollback_killed_at_any_step_and_repeated(kills, root, sick, tmp_path, interrupted):
    """Ends as one that nobody killed, be it repeated at once or after what a boot settles."""
    for name in ("c", "a") if interrupted else ("c", "a", "b"):
        switch(root, name)
    if interrupted:
        journal.write(root, journal.Turn(before="a", to="b"))
        disk.point(root.current, "releases/b")
    steps = kills(root.path, ["releases", "rollback", "--root", "{root}"])
    assert len(steps) >= 8

    for number, step in enumerate(steps):
        found = Root(tmp_path / "kills" / str(number))
        settled = Root(tmp_path / "settled" / str(number))
        shutil.copytree(found.path, settled.path, symlinks=True)
        recover_interrupted_switch(settled)
        for each in (found, settled):
            assert rollback(each).current == "a", step
            assert rollback(each).outcome == "unchanged"
            assert _state(each) == ("a", None, False), step
            assert linked_release(each.rolled_back) == "b"
            left = {path.name for path in each.path.iterdir()}
            assert left | {"lock"} == {"releases", "lock", "current", "rolled-back"}, step


def test_switch_to_an_unhealthy_release_killed_at_any_step(kills, root, sick, tmp_path):
    """On the way there or back: in the end the old one is current."""
    switch(root, "a")
    sick.add("b")
    (root.folder("b") / "sick").touch()
    steps = kills(root.path, ["releases", "switch", "b", "--root", "{root}"], code=4)
    assert len(steps) >= 12

    for number, step in enumerate(steps):
        found = Root(tmp_path / "kills" / str(number))
        assert linked_release(found.current) in {"a", "b"}, step
        recover_interrupted_switch(found)
        assert _state(found) == ("a", None, False), step


def test_real_health_check_switches_and_rolls_back(tmp_path, italy, report):
    """With the real check by a program of its own: one that answers, one that does not."""
    root = Root(tmp_path / "root")
    for name, code in (("good", "pass"), ("bad", "import sys; sys.exit('error: no runtime')")):
        with zipfile.ZipFile(tmp_path / f"{name}.pyz", "w") as program:
            program.writestr("__main__.py", code)
        install(root, italy, Request(name=name, program=tmp_path / f"{name}.pyz"))
        files.write_json(root.folder(name) / "report.json", report)

    switch(root, "good")
    with pytest.raises(ContractError, match="bad is not healthy here: no runtime"):
        switch(root, "bad")

    assert _state(root) == ("good", None, False)
