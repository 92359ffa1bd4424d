"""What a killed training run goes on from."""

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
    buffer = io.BytesIO()  # torch hides what the disk says when it writes by itself
    torch.save({"key": key, **state}, buffer)
    with whole_file(path) as partial:
        partial.write_bytes(buffer.getvalue())


def load(path: Path, key: str) -> dict[str, Any] | None:
    """Return what `save` wrote of this very run; None if there is nothing.

    What is damaged counts as nothing: a fresh start ends with the same weights.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return None
    return state if state["key"] == key else None


def remove(path: Path) -> None:
    """Remove what `save` wrote, and what a process left that was killed while it wrote."""
    for stale in (path, *path.parent.glob(f".{path.name}.*")):
        stale.unlink(missing_ok=True)
