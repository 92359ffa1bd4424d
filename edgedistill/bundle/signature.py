"""Signatures of bundles: SSH signatures over the manifest, which has the hashes of all files.

The format is SSHSIG, that of `ssh-keygen -Y sign`, and `ssh-keygen` itself signs and verifies:
a board that is reached over SSH has it, and so has the workstation.

Source: OpenSSH, PROTOCOL.sshsig.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import subprocess
from pathlib import Path
from typing import Final

from edgedistill.bundle import signature
from edgedistill.bundle.location import SIGNED, locate
from edgedistill.bundle.manifest import MANIFEST, SIGNATURE, set_version
from edgedistill.bundle.reader import open_bundle
from edgedistill.bundle.writer import rewrite
from edgedistill.errors import IntegrityError, MachineError, UsageError
from edgedistill.io import files

NAMESPACE: Final = "edgedistill"
_RSA_BITS: Final = 2048  # fewer are no longer held to be safe (NIST SP 800-131A)
_MAGIC = b"SSHSIG"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAX_BYTES = 64 * 1024  # an RSA key of 16384 bits gives 6 kilobytes


def sign(root: Path, key: Path) -> None:
    """Sign the manifest of an unpacked bundle; a running agent is tried first.

    Args:
        root: folder of the bundle; an older signature is replaced.
        key: private key, or the public key of one that an agent holds.

    Raises:
        UsageError: there is no key.
        MachineError: there is no ssh-keygen, or it cannot use the key.
    """
    if not key.is_file():
        raise UsageError(
            f"There is no SSH key at {key}. Name one with --key, or make one: ssh-keygen -t ed25519"
        )
    _check_manifest(root)
    done = _ssh_keygen("sign", "-f", str(key), data=(root / MANIFEST).read_bytes())
    if done.returncode:
        raise MachineError(
            f"ssh-keygen cannot sign with {key}: {_words(done)}. If the key has a passphrase, "
            "give it to an agent first: ssh-add."
        )
    bits = _rsa_bits(_parts(done.stdout)[0])
    if bits < _RSA_BITS:
        raise UsageError(
            f"{key} is an RSA key of {bits} bits; boards refuse fewer than {_RSA_BITS}. Make a "
            "stronger one: ssh-keygen -t ed25519"
        )
    files.write_text(root / SIGNATURE, done.stdout)


def verify(root: Path, allowed: Path) -> str:
    """Return the allowed signer of the manifest of an unpacked bundle.

    Args:
        root: folder of the bundle.
        allowed: file of the signers who are trusted, as in `man ssh-keygen`.

    Raises:
        IntegrityError: it is not signed, by another key, a weak one, for another purpose, or was
            changed.
        UsageError: there is no file of allowed signers.
        MachineError: there is no ssh-keygen.
    """
    _check_manifest(root)
    found = root / SIGNATURE
    if not found.is_file():
        raise IntegrityError(
            "The bundle is not signed. Sign it where it was made, with `edgedistill sign`, or, to "
            "install it on a board all the same, give `deploy` or `releases install` --unsigned."
        )
    if not allowed.is_file():
        raise UsageError(
            f"There is no file of allowed signers at {allowed}. Make one of a line for each "
            "signer: a name, a space, the public key."
        )
    signer = _signer(found)
    names = _ssh_keygen("find-principals", "-s", str(found), "-f", str(allowed))
    principals = _principals(names)
    if not principals:
        raise IntegrityError(
            f"The bundle is signed with the key {signer}, which is not among the allowed signers "
            f"in {allowed}: {_words(names)}. If you trust its owner, add the key there."
        )
    refusal = _refusal(root, allowed, principals[0])
    if refusal is None:
        return principals[0]
    others = [name for name in _all_principals(found, allowed) if name not in principals]
    for name in others:  # the key may stand in another line, for another namespace
        if _refusal(root, allowed, name) is None:
            return name
    raise _refused(root, allowed, principals[0], signer, refusal)


def sign_bundle(path: Path, key: Path, out: Path | None = None) -> Path:
    """Sign a bundle with an SSH key, in its place or as a copy; return the path of the signed one.

    One without a version gets one: boards refuse an older version than they have run.

    Args:
        path: folder or zip, or the folder of a run; it is verified first.
        key: private key, or the public key of one that an agent holds.
        out: the copy; None: the bundle itself, or `signed.zip` in the folder of a run, whose own
            files stay as they are.

    Raises:
        UsageError: there is no bundle or no key, or `out` is taken by something else.
        IntegrityError: the bundle is damaged.
        MachineError: there is no ssh-keygen, or it cannot use the key; or the disk refuses.
    """
    with open_bundle(path) as bundle:
        signed = out or (path if locate(path) == path else path / SIGNED)
        rewrite(bundle, signed, lambda root: _sign_with_version(root, key))
    return signed


def signer(path: Path, allowed: Path) -> str:
    """Return the allowed signer of a bundle, all of which is verified.

    Raises:
        UsageError: there is no bundle, or no file of allowed signers.
        IntegrityError: it is damaged, not signed, or not by one of them.
        MachineError: there is no ssh-keygen.
    """
    with open_bundle(path) as bundle:
        return signature.verify(bundle.root, allowed)


def _sign_with_version(root: Path, key: Path) -> None:
    set_version(root)
    signature.sign(root, key)


def _check_manifest(root: Path) -> None:
    if not (root / MANIFEST).is_file():
        raise IntegrityError(f"This is no bundle: it has no {MANIFEST}. Check the path.")


def _principals(names: subprocess.CompletedProcess[str]) -> list[str]:
    if names.returncode:
        return []
    return [name for name in names.stdout.replace(",", "\n").split("\n") if name]


def _all_principals(signature: Path, allowed: Path) -> list[str]:
    """Return the first name of each line that has the key; ssh-keygen stops at the first line."""
    found = []
    for line in allowed.read_bytes().splitlines(keepends=True):
        options = ("-s", str(signature), "-f", "/dev/stdin")
        found += _principals(_ssh_keygen("find-principals", *options, data=line))[:1]
    return found


def _refusal(root: Path, allowed: Path, principal: str) -> str | None:
    """Return why a principal's signature is not accepted, None if it is."""
    options = ("-f", str(allowed), "-I", principal, "-s", str(root / SIGNATURE))
    done = _ssh_keygen("verify", *options, data=(root / MANIFEST).read_bytes())
    return _words(done) if done.returncode else None


def _refused(root: Path, allowed: Path, principal: str, signer: str, reason: str) -> IntegrityError:
    """Return the error for a signature that does not match, or whose key may not sign bundles."""
    where, manifest = ("-s", str(root / SIGNATURE)), (root / MANIFEST).read_bytes()
    if _ssh_keygen("check-novalidate", *where, data=manifest).returncode:
        return IntegrityError(
            f"The bundle was changed after {principal} signed it: the signature does not fit "
            f"{MANIFEST}. Copy it again, from where you trust it."
        )
    return IntegrityError(
        f"{allowed} does not let {principal} sign bundles with the key {signer}: {reason}. "
        "Look at the options of its line."
    )


def _signer(path: Path) -> str:
    """Return the fingerprint of the key in a signature that was made for bundles."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")  # noqa: TRY301 # one way out
        key, namespace = _parts(path.read_text("ascii"))
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path.name} is no SSH signature: {error}. Sign the bundle again, with `edgedistill "
            "sign`."
        ) from error
    if namespace != NAMESPACE.encode():
        raise IntegrityError(
            f"{path.name} was made for {namespace.decode(errors='replace')!r}, not for "
            f"{NAMESPACE!r}. Sign the bundle with `edgedistill sign`."
        )
    bits = _rsa_bits(key)
    if bits < _RSA_BITS:
        raise IntegrityError(
            f"{path.name} was made with an RSA key of {bits} bits; at least {_RSA_BITS} are "
            "needed. Sign the bundle with a stronger key: ssh-keygen -t ed25519"
        )
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def _parts(text: str) -> tuple[bytes, bytes]:
    """Return public key and namespace of an armored signature; ValueError if it is none."""
    lines = text.strip().splitlines()
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise ValueError("its first or its last line is another")
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if not blob.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    key, rest = _string(blob[len(_MAGIC) + 4 :])  # a version of four bytes stands between
    return key, _string(rest)[0]


def _rsa_bits(key: bytes) -> float:
    """Return the bits of an RSA key, plain or in a certificate; infinity of another kind."""
    kind, rest = _string(key)
    if not kind.startswith(b"ssh-rsa"):
        return math.inf
    if kind != b"ssh-rsa":  # a certificate begins with a nonce
        _, rest = _string(rest)
    _, rest = _string(rest)  # the exponent
    return int.from_bytes(_string(rest)[0], "big").bit_length()


def _string(blob: bytes) -> tuple[bytes, bytes]:
    """Return the length-prefixed string at the start of a blob, and the rest."""
    length, rest = int.from_bytes(blob[:4], "big"), blob[4:]
    if len(blob) < 4 or length > len(rest):
        raise ValueError("it is cut off")
    return rest[:length], rest[length:]


def _ssh_keygen(what: str, *options: str, data: bytes = b"") -> subprocess.CompletedProcess[str]:
    command = ["ssh-keygen", "-Y", what, *options]
    if what != "find-principals":  # which takes no namespace
        command += ["-n", NAMESPACE]
    try:
        done = subprocess.run(  # noqa: S603 # no shell, and the words are ours
            command, input=data, capture_output=True
        )
    except FileNotFoundError as error:
        raise MachineError(
            "There is no ssh-keygen on this machine, which signs and verifies bundles. Install "
            "it: apt-get install openssh-client"
        ) from error
    stdout, stderr = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(command, done.returncode, stdout, stderr)


def _words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of ssh-keygen, as a part of a sentence."""
    said = (done.stderr or done.stdout).strip().splitlines()
    return "; ".join(said).rstrip(".") or f"exit code {done.returncode}"
