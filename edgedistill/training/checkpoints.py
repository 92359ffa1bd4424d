"""Checkpoints, from which a killed training run resumes."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgedistill.io.files import whole_file


def save(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values of the run `key`, whole or not at all."""
    buffer = io.BytesIO()  # torch hides the disk's error when it writes by itself
    torch.save({"key": key, **state}, buffer)
    with whole_file(path) as partial:
        partial.write_bytes(buffer.getvalue())


def load(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state that `save` wrote of this very run; None if there is none.

    A damaged file counts as none: a fresh start ends with the same weights.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return None
    return state if state["key"] == key else None


def remove(path: Path) -> None:
    """Remove a checkpoint, and the partial file of a process that was killed while it wrote one."""
    for stale in (path, *path.parent.glob(f".{path.name}.*")):
        stale.unlink(missing_ok=True)
