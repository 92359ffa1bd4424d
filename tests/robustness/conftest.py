"""The fuzzing campaign's own package, which lies beside its script, and its real files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import corpus


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real files to damage."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus.make(folder)
    return folder
