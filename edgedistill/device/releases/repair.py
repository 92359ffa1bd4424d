"""Links of a root that lead nowhere, because somebody or the disk removed a release."""

from __future__ import annotations

from collections.abc import Iterator

from edgedistill.device.releases import disk
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.verdict import RELEASES_TO_KEEP, verdict_of


def is_gone(root: Root, name: str | None) -> bool:
    """Return whether the folder of a release is missing."""
    return name is not None and not root.folder(name).is_dir()


def repair_links(root: Root) -> str | None:
    """Point a `current` that leads nowhere to the last release that runs; the caller locks.

    The previous release comes first, then the newest that kept its contract here; each has to pass
    its health check. Other links that lead nowhere are removed, `current` too if nothing runs.

    Returns:
        The name of the release that is gone; None if `current` was not the one.

    Raises:
        IntegrityError: a link is damaged.
        MachineError: the disk is read-only.
    """
    for link in (root.previous, root.rolled_back):
        if is_gone(root, linked_release(link)):
            disk.remove(link)
    gone = linked_release(root.current)
    if not is_gone(root, gone):
        return None
    from edgedistill.device.releases import health  # loads runtimes: a whole root needs none

    for name in _candidates(root):
        if health.failure(root.folder(name)) is None:
            disk.point(root.current, root.target(name))
            disk.remove(root.failures)  # of the service of the one that is gone
            if linked_release(root.previous) == name:
                disk.remove(root.previous)
            return gone
    disk.remove(root.current)
    return gone


def _candidates(root: Root) -> Iterator[str]:
    previous = linked_release(root.previous)
    if previous is not None:
        yield previous
    kept = (
        name
        for name in root.names()
        if verdict_of(root, name) == RELEASES_TO_KEEP and name != previous
    )
    yield from sorted(kept, key=root.installed, reverse=True)
