"""Signing bundles: folders and zips, in their place or as a copy."""

from __future__ import annotations

import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.deployment import signing
from edgedistill.deployment.signing import sign_bundle
from edgedistill.errors import IntegrityError, UsageError
from edgedistill.io import files


@pytest.mark.parametrize("name", ["b", "b.zip"])
@pytest.mark.parametrize("out", [None, "signed", "signed.zip"])
def test_signed_bundle_is_the_bundle_and_a_signature(world, signer, tmp_path, name, out):
    """Nothing else in it changes, and nothing stays beside it."""
    path = world.write(tmp_path / name)
    with open_bundle(path) as bundle:
        before = dict(bundle.manifest)

    sign_bundle(path, signer, None if out is None else tmp_path / out)

    signed = path if out is None else tmp_path / out
    assert signing.signer(signed, signer.with_name("allowed_signers")) == "me@example.org"
    with open_bundle(signed) as bundle:
        assert bundle.manifest == before
        assert (bundle.root / "manifest.json.sig").is_file()
    assert {entry.name for entry in tmp_path.iterdir()} == {name, signed.name}


def test_bundle_that_is_changed_loses_its_signer(world, signer, tmp_path):
    """With hashes that fit: what a forger does."""
    path = world.write(tmp_path / "b")
    sign_bundle(path, signer)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("ItalyPowerDemand", "ItalyPowerDemanD"))

    with open_bundle(path):
        pass
    with pytest.raises(IntegrityError, match=r"was changed after me@example\.org signed it"):
        signing.signer(path, signer.with_name("allowed_signers"))


def test_signature_that_is_a_folder_is_none(world, signer, tmp_path):
    """Opening refuses it, or verifying does."""
    path = world.write(tmp_path / "b")
    (path / "manifest.json.sig").mkdir()
    (path / "manifest.json.sig" / "f").write_text("x")

    with pytest.raises(IntegrityError):
        signing.signer(path, signer.with_name("allowed_signers"))


def test_failed_signing_leaves_the_bundle(world, tmp_path):
    """Nothing is half written."""
    path = world.write(tmp_path / "b.zip")
    before = files.sha256(path)

    with pytest.raises(UsageError, match="There is no SSH key"):
        sign_bundle(path, tmp_path / "absent")

    assert files.sha256(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.zip"]
