"""Signing bundles where they are made."""

from __future__ import annotations

from pathlib import Path

from edgedistill.bundle import signature
from edgedistill.bundle.reader import open_bundle
from edgedistill.bundle.writer import rewrite


def sign_bundle(path: Path, key: Path, out: Path | None = None) -> None:
    """Sign a bundle with an SSH key, in its place or as a copy.

    Args:
        path: folder or zip; it is verified first.
        key: private key, or the public key of one that an agent holds.
        out: the copy; None: the bundle itself.

    Raises:
        UsageError: there is no bundle or no key, or `out` is taken by something else.
        IntegrityError: the bundle is damaged.
        MachineError: there is no ssh-keygen, or it cannot use the key; or the disk refuses.
    """
    with open_bundle(path) as bundle:
        rewrite(bundle, out or path, lambda root: signature.sign(root, key))


def signer(path: Path, allowed: Path) -> str:
    """Return who of the allowed signers signed a bundle, all of which is verified.

    Raises:
        UsageError: there is no bundle, or no file of allowed signers.
        IntegrityError: it is damaged, not signed, or not by one of them.
        MachineError: there is no ssh-keygen.
    """
    with open_bundle(path) as bundle:
        return signature.verify(bundle.root, allowed)
