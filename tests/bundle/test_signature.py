"""Signatures: what was signed is found signed, and nothing else is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgedistill.bundle import signature
from edgedistill.bundle.reader import open_bundle
from edgedistill.bundle.signature import sign_bundle
from edgedistill.errors import IntegrityError, MachineError, UsageError
from edgedistill.io import files


@pytest.fixture(scope="module")
def alice(tmp_path_factory, ssh_key):
    """A private key."""
    return ssh_key(tmp_path_factory.mktemp("alice") / "id")


@pytest.fixture(scope="module")
def mallory(tmp_path_factory, ssh_key):
    """The private key of somebody else."""
    return ssh_key(tmp_path_factory.mktemp("mallory") / "id")


@pytest.fixture(scope="module")
def signer(alice):
    """A private key; beside it the file of allowed signers that lists it."""
    _allow(alice.with_name("allowed_signers"), f"me@example.org {_public(alice)}")
    return alice


@pytest.fixture
def root(tmp_path):
    """The part of an unpacked bundle that is signed."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": "edgedistill.bundle/1"}\n')
    return folder


@pytest.fixture
def allowed(tmp_path, alice):
    """A file that trusts alice alone."""
    return _allow(tmp_path / "allowed_signers", f"alice@example.com {_public(alice)}")


def test_signed_bundle_names_its_signer(root, alice, allowed):
    """The name is the one that stands before the key."""
    signature.sign(root, alice)

    assert signature.verify(root, allowed) == "alice@example.com"


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_keys_sign_too(root, tmp_path, ssh_key, kind):
    """Whatever key a user logs in with."""
    key = ssh_key(tmp_path / "id", kind)
    signature.sign(root, key)

    assert signature.verify(root, _allow(tmp_path / "a", f"bob {_public(key)}")) == "bob"


def test_equal_manifests_get_equal_signatures(root, alice):
    """So that equal bundles stay equal when they are signed."""
    signature.sign(root, alice)
    first = (root / "manifest.json.sig").read_bytes()
    signature.sign(root, alice)

    assert (root / "manifest.json.sig").read_bytes() == first


def test_one_of_several_signers_and_names(root, tmp_path, alice, mallory):
    """Lines of others, comments, several names and patterns in a line."""
    signature.sign(root, alice)
    lines = ("# who may", f"mallory {_public(mallory)}", f"alice,*@example.com {_public(alice)}")

    assert signature.verify(root, _allow(tmp_path / "a", *lines)) == "alice"


def test_unsigned_bundle_is_refused(root, allowed):
    """The message has both ways out."""
    with pytest.raises(
        IntegrityError, match=r"is not signed.*edgedistill sign.*releases install` --unsigned"
    ):
        signature.verify(root, allowed)


def test_bundle_of_somebody_else_is_refused(root, mallory, allowed):
    """Its key is shown, as `ssh-keygen -l` shows it."""
    signature.sign(root, mallory)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", mallory.with_suffix(".pub")], capture_output=True, text=True
    ).stdout.split()[1]

    with pytest.raises(IntegrityError, match="not among the allowed signers") as raised:
        signature.verify(root, allowed)

    assert f"the key {shown}," in str(raised.value)


def test_bundle_that_was_changed_after_signing_is_refused(root, alice, allowed):
    """One byte is enough."""
    signature.sign(root, alice)
    with (root / "manifest.json").open("a") as manifest:
        manifest.write(" ")

    with pytest.raises(IntegrityError, match=r"changed after alice@example.com signed it"):
        signature.verify(root, allowed)


def test_signature_for_something_else_is_refused(root, alice, allowed):
    """Alice signed these very bytes, but as a commit."""
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", alice, root / "manifest.json"]
    subprocess.run(command, check=True, capture_output=True)

    with pytest.raises(IntegrityError, match="was made for 'git', not for 'edgedistill'"):
        signature.verify(root, allowed)


@pytest.mark.parametrize("option", ['namespaces="git"', 'valid-before="20200101"'])
def test_signer_who_may_sign_other_things_only_is_refused(root, tmp_path, alice, option):
    """The options of a line count: what a key is for, and how long."""
    signature.sign(root, alice)
    allowed = _allow(tmp_path / "a", f"alice {option} {_public(alice)}")

    with pytest.raises(IntegrityError, match=r"does not let alice sign|not among the allowed"):
        signature.verify(root, allowed)


@pytest.mark.parametrize("names", [("alice", "bob"), ("alice", "alice")])
@pytest.mark.parametrize("options", [("git", "edgedistill"), ("edgedistill", "git")])
def test_same_key_in_lines_with_different_namespaces(root, tmp_path, alice, names, options):
    """Each line counts, as for `ssh-keygen -Y verify` with the line's name."""
    signature.sign(root, alice)
    lines = [
        f'{name} namespaces="{option}" {_public(alice)}'
        for name, option in zip(names, options, strict=True)
    ]
    allowed = _allow(tmp_path / "a", *lines)
    name = names[options.index("edgedistill")]
    command = ["ssh-keygen", "-Y", "verify", "-n", "edgedistill", "-I", name, "-f", allowed]
    manifest, signed = root / "manifest.json", root / "manifest.json.sig"
    subprocess.run([*command, "-s", signed], input=manifest.read_bytes(), check=True)

    assert signature.verify(root, allowed) == name


def test_weak_rsa_key_neither_signs_nor_is_accepted(root, tmp_path, ssh_key):
    """ssh-keygen takes 1024 bits."""
    key, strong = tmp_path / "weak", ssh_key(tmp_path / "strong", "rsa")
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-C", "", "-f", key]
    subprocess.run(command, check=True)
    allowed = _allow(tmp_path / "a", f"me {_public(key)}", f"strong {_public(strong)}")
    with pytest.raises(UsageError, match=r"weak is an RSA key of 1024 bits.*2048"):
        signature.sign(root, key)
    assert not (root / "manifest.json.sig").exists()

    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "edgedistill", "-f", key]
    subprocess.run([*command, root / "manifest.json"], check=True, stderr=subprocess.DEVNULL)

    with pytest.raises(IntegrityError, match=r"made with an RSA key of 1024 bits; at least 2048"):
        signature.verify(root, allowed)


BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "its first or its last line"),
        (b"\xff\xfe", "ascii"),
        (f"{BEGIN}\n{END}".encode(), "its first or its last line"),
        (f"{BEGIN}\nnot base64!\n{END}".encode(), "base64|Only"),
        (f"{BEGIN}\nU1NIU0lH\n{END}".encode(), "cut off"),
        (f"{BEGIN}\nU1NIU0lHAAAAAf////8=\n{END}".encode(), "cut off"),
        (f"{BEGIN}\nAAAA\n{END}".encode(), "does not begin"),
        (b"x" * 70_000, "larger than 65536 bytes"),
    ],
    ids=["empty", "binary", "hollow", "text", "short", "lying", "other", "huge"],
)
def test_what_is_no_signature_is_refused(root, allowed, text, reason):
    """Each says why."""
    (root / "manifest.json.sig").write_bytes(text)

    with pytest.raises(
        IntegrityError, match=rf"manifest.json.sig is no SSH signature: .*({reason})"
    ):
        signature.verify(root, allowed)


def test_signature_cut_anywhere_is_refused(root, alice, allowed):
    """No part of a signature is one, down to its last letters."""
    signature.sign(root, alice)
    whole = (root / "manifest.json.sig").read_text()

    for end in range(0, len(whole.rstrip()), 29):
        (root / "manifest.json.sig").write_text(whole[:end])
        with pytest.raises(IntegrityError):
            signature.verify(root, allowed)


def test_signature_with_any_flipped_letter_is_refused(root, alice, allowed):
    """Inside the armor every letter counts."""
    signature.sign(root, alice)
    lines = (root / "manifest.json.sig").read_text().splitlines()

    for line in range(1, len(lines) - 1):
        for at in (0, len(lines[line]) // 2):
            letter = "A" if lines[line][at] != "A" else "B"
            changed = lines[line][:at] + letter + lines[line][at + 1 :]
            text = "\n".join([*lines[:line], changed, *lines[line + 1 :]])
            (root / "manifest.json.sig").write_text(text + "\n")
            with pytest.raises(IntegrityError):
                signature.verify(root, allowed)


def test_allowed_signers_that_are_missing_or_garbage(root, tmp_path, alice):
    """A missing file is a wrong argument; one without keys trusts nobody, and says why."""
    signature.sign(root, alice)

    with pytest.raises(UsageError, match=r"no file of allowed signers at .*/absent\. Make one"):
        signature.verify(root, tmp_path / "absent")
    with pytest.raises(IntegrityError, match="missing key"):
        signature.verify(root, _allow(tmp_path / "a", "alice"))


def test_folder_without_a_manifest_is_no_bundle(tmp_path, alice, allowed):
    """Neither signed nor verified."""
    for call in (
        lambda: signature.sign(tmp_path, alice),
        lambda: signature.verify(tmp_path, allowed),
    ):
        with pytest.raises(IntegrityError, match=r"no bundle: it has no manifest.json"):
            call()


def test_key_that_is_missing_or_none(root, tmp_path):
    """A key that is not there is another matter than one that cannot be used."""
    with pytest.raises(UsageError, match=r"no SSH key at .*/absent.*ssh-keygen -t ed25519"):
        signature.sign(root, tmp_path / "absent")
    (tmp_path / "text").write_text("no key")
    (tmp_path / "text").chmod(0o600)
    with pytest.raises(MachineError, match=r"ssh-keygen cannot sign with .*/text: "):
        signature.sign(root, tmp_path / "text")

    assert not (root / "manifest.json.sig").exists()


@pytest.fixture
def locked(tmp_path, ssh_key):
    """A key with a passphrase."""
    return ssh_key(tmp_path / "locked", passphrase="a secret")


def test_key_with_a_passphrase_asks_for_an_agent(root, locked, tmp_path, monkeypatch):
    """Where nobody can type it in, the message says what to do."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("SSH_ASKPASS", "false")  # else it would ask on a terminal, if there is one
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")

    with pytest.raises(MachineError, match=r"cannot sign with .*/locked: .*ssh-add"):
        signature.sign(root, locked)


def test_key_in_an_agent_signs(root, tmp_path, locked, monkeypatch):
    """The public key names it; the passphrase is given once, to the agent."""
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        askpass = tmp_path / "askpass"
        askpass.write_text("#!/bin/sh\necho a secret\n")
        askpass.chmod(0o700)
        while not socket.exists():
            assert agent.poll() is None
        asking = {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            ["ssh-add", "-q", locked], env={**os.environ, **asking}, check=True, capture_output=True
        )
        signature.sign(root, locked.with_suffix(".pub"))
    finally:
        agent.terminate()
        agent.wait()

    allowed = _allow(tmp_path / "a", f"alice {_public(locked)}")
    assert signature.verify(root, allowed) == "alice"


def test_machine_without_ssh_keygen(root, alice, allowed, tmp_path, monkeypatch):
    """The message says what installs it."""
    signature.sign(root, alice)
    monkeypatch.setenv("PATH", str(tmp_path))

    for call in (lambda: signature.sign(root, alice), lambda: signature.verify(root, allowed)):
        with pytest.raises(MachineError, match=r"no ssh-keygen.*apt-get install openssh-client"):
            call()


@pytest.mark.parametrize("name", ["b", "b.zip"])
@pytest.mark.parametrize("out", [None, "signed", "signed.zip"])
def test_signed_bundle_is_the_bundle_and_a_signature(world, signer, tmp_path, name, out):
    """Nothing else in it changes but the version, and nothing stays beside it."""
    path = world.write(tmp_path / name)
    with open_bundle(path) as bundle:
        before = dict(bundle.manifest)

    sign_bundle(path, signer, None if out is None else tmp_path / out)

    signed = path if out is None else tmp_path / out
    assert signature.signer(signed, signer.with_name("allowed_signers")) == "me@example.org"
    with open_bundle(signed) as bundle:
        assert bundle.manifest == {**before, "version": 20260102030405}  # of `created`
        assert (bundle.root / "manifest.json.sig").is_file()
    assert {entry.name for entry in tmp_path.iterdir()} == {name, signed.name}


def test_changed_bundle_has_no_valid_signature(world, signer, tmp_path):
    """With hashes that fit: what a forger does."""
    path = world.write(tmp_path / "b")
    sign_bundle(path, signer)
    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("ItalyPowerDemand", "ItalyPowerDemanD"))

    with open_bundle(path):
        pass
    with pytest.raises(IntegrityError, match=r"was changed after me@example\.org signed it"):
        signature.signer(path, signer.with_name("allowed_signers"))


def test_signature_folder_is_refused(world, signer, tmp_path):
    """Opening refuses it, or verifying does."""
    path = world.write(tmp_path / "b")
    (path / "manifest.json.sig").mkdir()
    (path / "manifest.json.sig" / "f").write_text("x")

    with pytest.raises(IntegrityError):
        signature.signer(path, signer.with_name("allowed_signers"))


def test_failed_signing_leaves_the_bundle(world, tmp_path):
    """Nothing is half written."""
    path = world.write(tmp_path / "b.zip")
    before = files.sha256(path)

    with pytest.raises(UsageError, match="There is no SSH key"):
        sign_bundle(path, tmp_path / "absent")

    assert files.sha256(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.zip"]


def _public(key: Path) -> str:
    return key.with_suffix(".pub").read_text().strip()


def _allow(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path
