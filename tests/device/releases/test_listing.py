"""What a root is said to hold."""

from __future__ import annotations

import json

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root
from edgedistill.device.releases.switch import listing
from edgedistill.device.validate import validate
from edgedistill.io import files
from edgedistill.report import to_json


def test_empty_root_lists_nothing(tmp_path):
    """One that is not there does neither, and is not made."""
    assert listing(Root(tmp_path / "root")) == {
        "root": str(tmp_path / "root"),
        "current": None,
        "previous": None,
        "rolled_back": None,
        "fallback": None,
        "switching": False,
        "releases": [],
    }
    assert not (tmp_path / "root").exists()


@pytest.fixture
def root(tmp_path, italy):
    """Four releases: kept, not validated, with an unusable report, damaged."""
    found = Root(tmp_path / "root")
    for name in ("kept", "new", "odd", "torn"):
        install(found, italy, Request(name=name))
    with open_bundle(italy) as bundle:
        report = to_json(validate(bundle, runs=5).report())
    files.write_json(found.folder("kept") / "report.json", report)
    (found.folder("odd") / "report.json").write_text("{")
    (found.folder("torn") / "release.json").write_text("{}")
    found.current.symlink_to("releases/kept")
    found.previous.symlink_to("releases/new")
    found.journal.write_text("{}")
    return found


def test_every_release_is_listed_as_it_is(root):
    """Its record, where it is, and what its validation said; damage is no reason to stop."""
    found = listing(root)
    releases = {each["name"]: each for each in found["releases"]}

    assert (found["current"], found["previous"], found["switching"]) == ("kept", "new", True)
    verdicts = {"kept": "kept", "new": None, "odd": "unusable", "torn": None}
    assert {name: each["verdict"] for name, each in releases.items()} == verdicts
    assert "is no record of a release" in releases["torn"]["damage"]
    assert releases["kept"] == {
        **root.release("kept").to_dict(),
        "path": str(root.folder("kept")),
        "trusted": None,
        "verdict": "kept",
    }
    json.dumps(found)
