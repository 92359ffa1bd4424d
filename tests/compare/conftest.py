"""The finished run that single series are explained with, and its recipe."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def _explain_fixtures():
    """Import the fixtures beside; a conftest.py is no package."""
    path = Path(__file__).parents[1] / "explain" / "conftest.py"
    spec = importlib.util.spec_from_file_location("explain_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


explained = _explain_fixtures()
recipe, run = explained.recipe, explained.run
