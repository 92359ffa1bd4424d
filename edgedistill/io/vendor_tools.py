"""What boards tell through files and tools of their vendors. Standard library only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 5


def power_mode(root: Path = Path("/")) -> str:
    """Return name and number of a Jetson's power mode, such as "15W (0)"; "" on other boards."""
    saved = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if saved is None:
        printed = tool_output(root / "usr/sbin/nvpmodel", "-q")
        found = re.search(r"NV Power Mode:\s*(\S+)\s+(\d+)", printed)
        return f"{found[1]} ({found[2]})" if found else ""
    number = int(saved[1])
    modes = read_text(root / "etc/nvpmodel.conf")
    named = re.search(rf"POWER_MODEL\s+ID=0*{number}\s+NAME=(\S+)", modes)
    return f"{named[1]} ({number})" if named else str(number)


def tool_output(tool: Path, *arguments: str) -> str:
    """Return the output of a vendor's tool; "" where it is missing or fails."""
    if not tool.exists():
        return ""
    try:
        ran = subprocess.run(  # noqa: S603  a path of ours
            [tool, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return ran.stdout


def read_text(path: Path) -> str:
    """Return the text of a small file of the kernel's, stripped; "" where it cannot be read."""
    try:
        return path.read_text("utf-8", errors="replace").strip("\0 \t\n")
    except OSError:
        return ""
