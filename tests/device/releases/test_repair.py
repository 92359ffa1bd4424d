"""Links that lead nowhere: a board returns to the last release that runs."""

from __future__ import annotations

import shutil

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.__main__ import main
from edgedistill.device.releases import health
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.switch import listing, rollback, root_lock, switch
from edgedistill.device.validate import validate
from edgedistill.io import files
from edgedistill.report import to_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(italy):
    """What a validation of the bundle writes."""
    with open_bundle(italy) as bundle:
        return to_json(validate(bundle, runs=5).report())


@pytest.fixture
def sick(monkeypatch):
    """Names of releases that are not healthy; the others are, without being asked."""
    names = set()
    monkeypatch.setattr(
        health, "failure", lambda release: "it coughs" if release.resolve().name in names else None
    )
    return names


@pytest.fixture
def root(tmp_path, italy, sick, report):
    """Three releases that kept their contract; b is current, a was before."""
    found = Root(tmp_path / "root")
    for number, name in enumerate(("c", "a", "b")):
        install(found, italy, Request(name=name))
        record = found.folder(name) / "release.json"
        files.write_json(
            record, {**files.read_json(record), "installed": f"2026-01-0{number + 1}T00:00:00Z"}
        )
        files.write_json(found.folder(name) / "report.json", report)
    switch(found, "a")
    switch(found, "b")
    return found


def _links(root):
    return tuple(linked_release(link) for link in (root.current, root.previous, root.rolled_back))


def test_current_that_is_gone_is_the_previous_one_again(root, capsys):
    """By the next command that changes anything; the list tells before."""
    shutil.rmtree(root.folder("b"))
    assert main(["releases", "--root", str(root.path), "list"]) == 0
    assert "b is gone; mend it with: releases settle" in capsys.readouterr().err

    assert main(["releases", "--root", str(root.path), "settle"]) == 0

    assert "b was current and is gone. Now a is current." in capsys.readouterr().err
    assert _links(root) == ("a", None, None)


def test_newest_release_that_runs_where_the_previous_one_is_gone_or_sick(root, sick):
    """Only one that kept its contract here."""
    sick.add("a")
    shutil.rmtree(root.folder("b"))

    with root_lock(root) as recovery:
        assert (recovery.outcome, recovery.current, recovery.failed) == ("repaired", "c", "b")

    assert _links(root) == ("c", "a", None)


def test_nothing_that_runs_leaves_no_current_release(root, sick):
    """Rather than one that leads nowhere."""
    sick.update("ac")
    shutil.rmtree(root.folder("b"))

    with root_lock(root) as recovery:
        assert (recovery.outcome, recovery.current) == ("repaired", None)

    assert linked_release(root.current) is None


def test_rollback_of_a_release_that_is_gone(root):
    """It returns to the last one that runs, however often it is asked."""
    shutil.rmtree(root.folder("b"))

    found = rollback(root, source="b", target="a")

    assert (found.outcome, found.current) == ("repaired", "a")
    assert rollback(root, source="b", target="a").outcome == "unchanged"
    assert _links(root) == ("a", None, None)


@pytest.mark.parametrize("back", [False, True])
def test_other_links_never_lead_nowhere(root, back):
    """Not in a list, and not after the next command."""
    gone = "a"
    if back:
        rollback(root)
        gone = "b"
    shutil.rmtree(root.folder(gone))

    found = listing(root)
    with root_lock(root):
        pass

    assert (found["previous"], found["rolled_back"]) == (None, None)
    assert _links(root)[1:] == (None, None)
