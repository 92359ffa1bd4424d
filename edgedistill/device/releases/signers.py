"""Trust in the signers of releases, as it is now: a key may have been removed since."""

from __future__ import annotations

from edgedistill.bundle.manifest import MANIFEST
from edgedistill.device.releases.layout import BUNDLE, Release, Root
from edgedistill.errors import IntegrityError, MachineError
from edgedistill.io import files


def is_signer_trusted(root: Root, release: Release) -> bool | None:
    """Return whether the root's allowed signers still accept a release's signature.

    Returns:
        None where nobody knows: the release was installed without a signature or is damaged, or
        the root has no file of allowed signers, or the machine no ssh-keygen.
    """
    if release.signer is None or not root.allowed_signers.is_file():
        return None
    manifest = root.folder(release.name) / BUNDLE / MANIFEST
    if not manifest.is_file() or files.sha256(manifest) != release.sha256:
        return None
    from edgedistill.bundle import signature  # here: most roots are listed without

    try:
        signature.verify(root.folder(release.name) / BUNDLE, root.allowed_signers)
    except IntegrityError:
        return False
    except MachineError:
        return None
    return True


def distrust(root: Root, name: str | None) -> str | None:
    """Return a warning if a release's signer is no longer trusted, else None."""
    if name is None:
        return None
    try:
        release = root.release(name)
    except IntegrityError:  # which others report
        return None
    if is_signer_trusted(root, release) is not False:
        return None
    return (
        f"{name} was signed by {release.signer}, whom {root.allowed_signers} no longer trusts: "
        "removed, revoked or expired. It runs all the same; deploy a bundle of a trusted signer."
    )
