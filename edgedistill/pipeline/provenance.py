"""When and with what something was made."""

from __future__ import annotations

import platform
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata

PACKAGES = ("edgedistill", "numpy", "torch", "onnx", "onnxruntime")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that make a bundle."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def now() -> str:
    """Return the time, ISO 8601, UTC, such as 2026-11-20T09:52:00Z."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
