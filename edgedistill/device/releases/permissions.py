"""Ownership and modes of what a board's trust rests on, checked as sshd does with StrictModes.

Whoever may write to the allowed signers, to the releases, or to a folder above them, chooses what
runs. A private group of the user, as Debian makes it, counts as the user; so does a folder with
the sticky bit, such as /tmp, where nobody moves the files of others.

Source: OpenSSH, misc.c, `safe_path`; Debian's patch user-group-modes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgedistill.errors import IntegrityError


def require_safe(path: Path) -> None:
    """Refuse a file or folder that somebody else may change, or exchange.

    Args:
        path: an existing path; the folders above it are checked up to the user's home, or to the
            root of the file system.

    Raises:
        IntegrityError: it belongs to somebody else, or others may write there.
    """
    if not hasattr(os, "geteuid"):  # Windows, which has no such modes
        return
    real, home = path.resolve(), Path.home()
    for place in (real, *real.parents):
        facts = place.stat()
        if facts.st_uid not in {0, os.geteuid()}:
            raise IntegrityError(
                f"{place} belongs to user {facts.st_uid}, who could choose what runs here. Make it "
                f"yours: sudo chown {os.geteuid()} {place}"
            )
        if _is_writable_by_others(facts):
            raise IntegrityError(
                f"{place} may be written by others (mode {stat.filemode(facts.st_mode)}), who "
                f"could choose what runs here. Take that away: chmod go-w {place}"
            )
        if place == home:
            return


def _is_writable_by_others(facts: os.stat_result) -> bool:
    mode = facts.st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    by_group = mode & stat.S_IWGRP and not _is_private_group(facts.st_gid)
    return bool(mode & stat.S_IWOTH or by_group)


def _is_private_group(group: int) -> bool:
    """Return whether nobody but this user is in a group."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False
    primary = {each.pw_name for each in pwd.getpwall() if each.pw_gid == group}
    return members | primary <= {user}
