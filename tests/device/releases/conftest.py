"""Releases that were validated, and how healthy they are."""

from __future__ import annotations

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.releases import health
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root
from edgedistill.device.validate import validate
from edgedistill.io import files
from edgedistill.report import to_json


@pytest.fixture(scope="session")
def report(italy):
    """What a validation of the bundle writes."""
    with open_bundle(italy) as bundle:
        return to_json(validate(bundle, runs=5).report())


@pytest.fixture
def root(tmp_path, italy, report):
    """Three validated releases, none of them current; a link to the bundle's folder each."""
    found = Root(tmp_path / "root")
    for name in ("a", "b", "c"):
        install(found, italy, Request(name=name))
        files.write_json(found.folder(name) / "report.json", report)
    return found


@pytest.fixture
def sick(monkeypatch):
    """Names of releases that are not healthy; the others are, without being asked."""
    names = set()

    def failure(release):
        return "it coughs" if release.resolve().name in names else None

    monkeypatch.setattr(health, "failure", failure)
    return names
