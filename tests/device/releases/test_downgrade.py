"""Downgrade protection: an older bundle of a signer is refused, and a rollback never."""

from __future__ import annotations

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.bundle.signature import sign_bundle
from edgedistill.device.__main__ import main
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.io import archives, files


@pytest.fixture
def signer(tmp_path, ssh_key):
    """A private key; beside it the file that lists it."""
    key = ssh_key(tmp_path / "id")
    key.with_name("allowed").write_text(f"alice {key.with_suffix('.pub').read_text()}")
    return key


@pytest.fixture
def signed(world, tmp_path, signer):
    """Write a signed bundle that was made on a day of July."""

    def write(day, **changes):
        path = world.write(
            tmp_path / f"{day}.zip", created=f"2026-07-{day:02}T10:00:00Z", **changes
        )
        return sign_bundle(path, signer)

    return write


@pytest.fixture
def root(tmp_path):
    """Nothing yet."""
    return Root(tmp_path / "root")


def _install(root, signer, archive, *options):
    command = ["releases", "--root", str(root.path), "install", str(archive)]
    return main([*command, "--allowed-signers", str(signer.with_name("allowed")), *options])


def _run(root, signer, archive):
    assert _install(root, signer, archive, "--name", archive.stem) == 0
    return main(["releases", "--root", str(root.path), "switch", archive.stem, "--force"])


def test_signing_sets_a_version_that_grows(signed, signer, tmp_path):
    """By the time that the bundle was made; signed again, it stays, and equal stay equal."""
    versions = []
    for day in (1, 2):
        with open_bundle(signed(day)) as bundle:
            versions.append(bundle.manifest["version"])
    again = sign_bundle(tmp_path / "1.zip", signer, tmp_path / "again.zip")

    assert versions == [20260701100000, 20260702100000]
    assert again.read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_older_bundle_is_refused(root, signer, signed, capsys):
    """Exit code 6 with both versions and both ways on; nothing of it stays."""
    assert _run(root, signer, signed(2)) == 0

    assert _install(root, signer, signed(1), "--name", "old") == 6

    message = capsys.readouterr().err
    assert "by alice has version 20260701100000; this board has run version 20260702100000" in (
        message
    )
    assert "`rollback`" in message
    assert "--allow-downgrade" in message
    assert root.names() == ["2"]


def test_older_bundle_is_installed_when_allowed(root, signer, signed):
    """That time only: the highest version stays."""
    assert _run(root, signer, signed(2)) == 0

    assert _install(root, signer, signed(1), "--allow-downgrade", "--name", "old") == 0
    assert main(["releases", "--root", str(root.path), "switch", "old", "--force"]) == 0
    assert _install(root, signer, signed(1), "--name", "older") == 6


def test_version_that_never_ran_does_not_count(root, signer, signed):
    """One that broke its contract here does not lock the one before it out."""
    assert _run(root, signer, signed(1)) == 0
    assert _install(root, signer, signed(3)) == 0

    assert _install(root, signer, signed(2)) == 0


@pytest.mark.parametrize("other", ["name", "signer", "unsigned"])
def test_versions_count_by_signer_and_name(root, signer, signed, ssh_key, tmp_path, other):
    """Another bundle, or another one's, has versions of its own; an unsigned one has none."""
    assert _run(root, signer, signed(2)) == 0

    if other == "unsigned":
        assert install(root, signed(1), Request())[1]
    elif other == "name":
        assert _install(root, signer, signed(1, name="Other")) == 0
    else:
        bob = ssh_key(tmp_path / "bob")
        with signer.with_name("allowed").open("a") as allowed:
            allowed.write(f"bob {bob.with_suffix('.pub').read_text()}")
        assert _install(root, signer, sign_bundle(signed(1), bob)) == 0


def test_rollback_is_always_allowed(root, signer, signed):
    """Also with a damaged record."""
    assert [_run(root, signer, signed(day)) for day in (1, 2)] == [0, 0]
    root.accepted.write_text("{")

    assert main(["releases", "--root", str(root.path), "rollback"]) == 0

    assert linked_release(root.current) == "1"


def test_damaged_record_is_refused(root, signer, signed, capsys):
    """Rather than taken for an empty one; the message names the file."""
    assert _run(root, signer, signed(1)) == 0

    for text in (
        "{",
        "[]",
        '{"format": "edgedistill.accepted/1", "versions": {"alice": {"x": "1"}}}',
    ):
        root.accepted.write_text(text)
        assert _install(root, signer, signed(2)) == 6
        assert "accepted.json, which protects from older bundles, is damaged" in (
            capsys.readouterr().err
        )


def test_bundle_without_a_version(root, signer, world, tmp_path, capsys):
    """One signed by an earlier version is installed with a warning, until a newer one ran."""
    from edgedistill.bundle import signature

    folder = tmp_path / "before"
    world.write(folder)
    signature.sign(folder, signer)
    archives.pack(folder, tmp_path / "before.zip")

    assert _run(root, signer, tmp_path / "before.zip") == 0
    assert "warning: The bundle has no version" in capsys.readouterr().err
    assert _run(root, signer, sign_bundle(folder, signer, tmp_path / "now.zip")) == 0
    assert _install(root, signer, tmp_path / "before.zip", "--name", "x") == 6
    assert "has no version; this board has run version" in capsys.readouterr().err
    assert files.read_json(root.accepted)["versions"]["alice"].keys() == {"ItalyPowerDemand"}
