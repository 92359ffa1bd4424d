"""The folder of a run stands for its bundle, or is refused with the reason."""

from __future__ import annotations

import shutil
import zipfile

import pytest

from edgedistill.bundle.location import locate
from edgedistill.bundle.reader import open_bundle
from edgedistill.bundle.signature import sign_bundle, signer
from edgedistill.errors import ContractError, IntegrityError, UsageError
from edgedistill.io.files import sha256, write_json


@pytest.fixture(scope="module")
def packed(world, tmp_path_factory):
    """A bundle as a zip."""
    return world.write(tmp_path_factory.mktemp("packed") / "bundle.zip")


@pytest.fixture
def run(packed, tmp_path):
    """The folder of a run that kept its contract."""
    folder = tmp_path / "run"
    (folder / "result").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("seed: 0\n")
    shutil.copy(packed, folder / "result" / "bundle.zip")
    write_json(folder / "result" / "report.json", {"verdict": "kept"})
    return folder


@pytest.fixture
def key(tmp_path, ssh_key):
    """A private key, and the file that trusts it."""
    path = ssh_key(tmp_path / "id")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"me@example.org {path.with_suffix('.pub').read_text()}")
    return path, allowed


@pytest.mark.parametrize("place", [".", "result"])
def test_run_and_result_stand_for_their_bundle(run, place):
    assert locate(run / place) == run / "result" / "bundle.zip"
    with open_bundle(run / place) as bundle:
        assert bundle.name == "ItalyPowerDemand"


def test_bundles_and_other_paths_stay(packed, world, tmp_path):
    unpacked = world.write(tmp_path / "unpacked")
    write_json(unpacked / "manifest.json", {})  # not verified here

    for path in (packed, unpacked, tmp_path, tmp_path / "nothing"):
        assert locate(path) == path


@pytest.mark.parametrize("place", [".", "result"])
def test_broken_contract_is_the_reason(run, place):
    (run / "result" / "bundle.zip").unlink()
    reasons = ["ort-int8: kl is 0.7 and breaks the threshold <= 0.5 by 0.2."]
    write_json(run / "result" / "report.json", {"verdict": "broken", "reasons": reasons})

    with pytest.raises(ContractError, match=r"contract is broken\. ort-int8: kl is 0\.7.*report "):
        locate(run / place)

    write_json(
        run / "result" / "report.json", {"verdict": "broken", "reasons": [*reasons, "x", "y"]}
    )
    with pytest.raises(ContractError, match=r"by 0\.2\. For 2 more reasons and what would help:"):
        locate(run / place)


@pytest.mark.parametrize("report", [None, {"verdict": "kept"}, [], {}], ids=str)
def test_incomplete_run_names_the_command(run, report):
    (run / "result" / "bundle.zip").unlink()
    if report is None:
        shutil.rmtree(run / "result")
    else:
        write_json(run / "result" / "report.json", report)

    with pytest.raises(UsageError, match=r"not complete\. Go on with: edgedistill compress .*yaml"):
        locate(run)


def test_run_is_signed_beside_its_result(run, key):
    """Its own files stay, so that its stages are still whole; the signed copy stands for it."""
    private, allowed = key
    before = sha256(run / "result" / "bundle.zip")

    assert sign_bundle(run, private) == run / "signed.zip"
    assert sign_bundle(run, private) == run / "signed.zip"  # again, from the copy

    assert sha256(run / "result" / "bundle.zip") == before
    assert signer(run, allowed) == "me@example.org"


def test_signed_copy_of_another_bundle_is_not_taken(run, key, world):
    private, allowed = key
    sign_bundle(run, private)
    world.write(run / "result" / "bundle.zip", name="another")

    assert locate(run) == run / "result" / "bundle.zip"
    with pytest.raises(IntegrityError, match="not signed"):
        signer(run, allowed)


def test_damaged_signed_copy_is_not_taken(run):
    (run / "signed.zip").write_bytes(b"PK\x03\x04")

    assert locate(run) == run / "result" / "bundle.zip"


@pytest.mark.parametrize("manifest", ["[1]", "7", "null", "{"])
def test_signed_copy_whose_manifest_is_no_object_is_not_taken(run, manifest):
    with zipfile.ZipFile(run / "signed.zip", "w") as archive:
        archive.writestr("manifest.json", manifest)

    assert locate(run) == run / "result" / "bundle.zip"


def test_two_damaged_files_are_not_the_same_bundle(run):
    for path in (run / "signed.zip", run / "result" / "bundle.zip"):
        path.write_bytes(b"PK\x03\x04")

    assert locate(run) == run / "result" / "bundle.zip"
