"""Releases: their records, their names, and the links that lead to them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from edgedistill.device.releases.layout import (
    Release,
    Root,
    Target,
    linked_release,
    name_of,
    read,
    resolve,
)
from edgedistill.errors import IntegrityError, UsageError

SHA256 = "0123456789abcdef" * 4
RELEASE = Release(
    name="gun-1",
    bundle="Gun",
    model="student-int8",
    threads=2,
    provider="cpu",
    installed="2026-01-02T03:04:05Z",
    sha256=SHA256,
    signer="alice",
    program=None,
)


@pytest.fixture
def root(tmp_path):
    """A root with one release, which holds no more than its record."""
    found = Root(tmp_path / "root")
    folder = found.folder(RELEASE.name)
    folder.mkdir(parents=True)
    (folder / "release.json").write_text(json.dumps(RELEASE.to_dict()))
    return found


def test_record_round_trip(root):
    """Every field, also those that hold nothing."""
    assert root.release("gun-1") == RELEASE

    other = replace(RELEASE, model=None, threads=None, provider=None, signer=None, program="0" * 64)
    (root.folder("gun-1") / "release.json").write_text(json.dumps(other.to_dict()))
    assert read(root.folder("gun-1")) == other


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": "edgedistill.release/2"}, r"it is not of format edgedistill\.release/1"),
        ({"threads": "two"}, "threads is 'two'"),
        ({"threads": True}, "threads is True"),
        ({"name": None}, "name is None"),
        ({"extra": 1}, "it has the fields bundle, extra, installed"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_damaged_record_is_refused(root, change, reason):
    """The reason stands in the message, and what mends it."""
    path = root.folder("gun-1") / "release.json"
    path.write_text(json.dumps({**RELEASE.to_dict(), **change}))

    with pytest.raises(IntegrityError, match=rf"release\.json is no record .*{reason}.*Install"):
        root.release("gun-1")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00"], ids=repr)
def test_record_that_is_no_object_is_refused(root, text):
    """Whatever a damaged disk gives back."""
    (root.folder("gun-1") / "release.json").write_text(text)

    with pytest.raises(IntegrityError, match="is no record of a release"):
        root.release("gun-1")


def test_folder_without_a_record_is_damaged(root):
    """A release is whole or absent, so somebody removed it."""
    (root.folder("gun-1") / "release.json").unlink()

    with pytest.raises(IntegrityError, match="is no record of a release: Cannot read"):
        root.release("gun-1")


def test_absent_release_lists_those_there_are(root, tmp_path):
    """Or says that there are none."""
    with pytest.raises(UsageError, match=r"no release 'x' in .*There are: gun-1\."):
        root.release("x")
    with pytest.raises(UsageError, match="There are: none"):
        Root(tmp_path / "elsewhere").release("x")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "-x", "a b", "x" * 65])
def test_invalid_release_name_is_refused(root, name):
    """No name leads out of the folder of releases."""
    with pytest.raises(UsageError, match="cannot name a release"):
        root.folder(name)


def test_names_skip_other_files_and_folders(root):
    """What a killed command left begins with a dot, and a file is somebody's."""
    (root.releases / ".new.abc").mkdir()
    (root.releases / "notes.txt").touch()

    assert root.names() == ["gun-1"]


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        ("ItalyPowerDemand", "italypowerdemand-0123456789ab"),
        ("Größe / 2!", "gr-e-2-0123456789ab"),
        ("...", "bundle-0123456789ab"),
        ("", "bundle-0123456789ab"),
        ("x" * 100, f"{'x' * 40}-0123456789ab"),
    ],
)
def test_generated_names_are_valid(root, bundle, name):
    """Whatever a bundle is called for people."""
    assert name_of(bundle, SHA256) == name
    assert root.folder(name).name == name


def test_links_lead_to_releases(root):
    """A link that is not there leads nowhere; one to something else is refused."""
    assert linked_release(root.current) is None

    root.current.symlink_to("releases/gun-1")
    assert linked_release(root.current) == "gun-1"

    for target in ("/etc", "releases/../..", "elsewhere/gun-1", "releases/.new.abc"):
        root.current.unlink()
        root.current.symlink_to(target)
        with pytest.raises(IntegrityError, match=r"current leads to .*, which is no release"):
            linked_release(root.current)
    root.current.unlink()
    root.current.mkdir()
    with pytest.raises(IntegrityError, match="current is no link to a release"):
        linked_release(root.current)


def test_bundle_resolves_to_itself(italy, tmp_path):
    """Folder, zip, or nothing at all: whoever opens it says what is wrong with it."""
    for path in (italy, tmp_path, tmp_path / "absent"):
        assert resolve(path) == Target(bundle=path)
        assert resolve(path).engines is None


@pytest.mark.parametrize("way", ["releases/gun-1", "current"])
def test_release_resolves_to_its_bundle(root, way):
    """By its folder or by a link: the bundle, how its model runs, and the shared engines."""
    root.current.symlink_to("releases/gun-1")

    found = resolve(root.path / way)

    assert found == Target(
        bundle=root.folder("gun-1") / "bundle",
        model="student-int8",
        threads=2,
        provider="cpu",
        release=root.folder("gun-1"),
    )
    assert found.engines == root.path / "engines"


def test_release_outside_of_a_root_has_no_shared_engines(root, tmp_path):
    """A copy of one, say."""
    shutil.copytree(root.folder("gun-1"), tmp_path / "copy")

    assert resolve(tmp_path / "copy").release == tmp_path / "copy"
    assert resolve(tmp_path / "copy").engines is None
