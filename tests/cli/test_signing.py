"""`sign`, `verify` and `program` on the command line."""

from __future__ import annotations

import shutil

import pytest

from edgedistill.io.files import sha256


@pytest.fixture(scope="module")
def alice(tmp_path_factory, ssh_key):
    """A key, and the file that trusts it."""
    folder = tmp_path_factory.mktemp("alice")
    ssh_key(folder / "id")
    (folder / "allowed_signers").write_text(f"alice {(folder / 'id.pub').read_text()}")
    return folder


def test_signed_bundle_is_verified(invoke, finished, alice, tmp_path):
    """A signed copy, and who signed it; the bundle itself stays as it was."""
    before = sha256(finished.bundle)
    out = tmp_path / "signed.zip"

    ran = invoke("sign", finished.bundle, "--key", alice / "id", "--out", out)
    assert (ran.code, ran.stdout) == (0, f"Signed {out}.\n")
    ran = invoke("verify", out, "--allowed-signers", alice / "allowed_signers")
    assert (ran.code, ran.stdout) == (0, f"{out} is whole, and alice signed it.\n")
    ran = invoke("verify", out, "--allowed-signers", alice / "allowed_signers", "--json")
    assert ran.json == {"bundle": str(out), "signer": "alice"}
    assert sha256(finished.bundle) == before

    ran = invoke("validate", out, "--out", tmp_path / "report.json", "--runs", "5")
    assert ran.code == 0


def test_bundle_is_signed_in_its_place(invoke, finished, alice, tmp_path):
    """Signed again it is the same, byte by byte."""
    path = tmp_path / "b.zip"
    shutil.copyfile(finished.bundle, path)

    first = invoke("sign", path, "--key", alice / "id", "--json")
    digest = sha256(path)
    invoke("sign", path, "--key", alice / "id")

    assert first.json == {"out": str(path)}
    assert sha256(path) == digest != sha256(finished.bundle)


def test_unsigned_bundle_is_refused_with_exit_6(invoke, finished, alice):
    """The message says how to sign it."""
    ran = invoke("verify", finished.bundle, "--allowed-signers", alice / "allowed_signers")

    assert ran.code == 6
    assert "The bundle is not signed. Sign it where it was made" in ran.stderr


def test_damaged_bundle_is_neither_signed_nor_verified(invoke, finished, alice, tmp_path):
    """Nobody puts a name to what is not whole."""
    path = tmp_path / "b.zip"
    path.write_bytes(finished.bundle.read_bytes()[:-100])

    ran = invoke("sign", path, "--key", alice / "id")
    assert ran.code == 6
    ran = invoke("verify", path, "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 6


def test_compress_and_bundle_write_a_signed_copy(invoke, recipe, finished, alice, tmp_path):
    """With --sign-key; the stages stay as they are, so the next run has nothing to do."""
    ran = invoke("compress", recipe, "--out", finished.folder, "--sign-key", alice / "id", "--json")
    signed = finished.folder / "signed.zip"
    assert ran.json["signed"] == str(signed)
    assert not any(ran.json["stages"].values())
    ran = invoke("verify", signed, "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 0
    signed.unlink()

    stages = {name: finished.folder / name for name in ("teacher", "student", "variants")}
    options = [word for name, folder in stages.items() for word in (f"--{name}", folder)]
    out = tmp_path / "result"
    ran = invoke("bundle", recipe, *options, "--out", out, "--sign-key", alice / "id")
    assert ran.code == 0, ran.stderr
    ran = invoke("verify", out / "signed.zip", "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 0


def test_sign_key_that_is_not_there_is_said_at_once(invoke, recipe, tmp_path):
    """Not after hours of training."""
    ran = invoke("compress", recipe, "--out", tmp_path / "run", "--sign-key", tmp_path / "absent")

    assert ran.code == 2
    assert not (tmp_path / "run").exists()


def test_program_is_written(invoke, tmp_path):
    """One file; its hash for whoever carries it."""
    path = tmp_path / "p.pyz"

    ran = invoke("program", "--out", path, "--json")
    assert ran.json == {
        "out": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
    ran = invoke("program", "--out", path)
    assert ran.stdout == (f"Wrote {path}: {path.stat().st_size:,} bytes, SHA-256 {sha256(path)}.\n")
