"""The names of `edgedistill` itself, and what an import of it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import edgedistill

NAMES = {
    *("BundleFile", "Contract", "Dataset", "Run", "Student", "Teacher"),
    *("compress", "deploy", "distill", "load", "set_library_defaults", "teacher", "train"),
}


def test_surface_has_exactly_these_names():
    assert set(edgedistill.__all__) == NAMES
    assert set(dir(edgedistill)) >= NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_is_documented(name):
    """With an example where it is a function or a class to call first."""
    found = getattr(edgedistill, name)

    assert found.__doc__
    if name not in {"BundleFile", "Contract", "Student", "Teacher", "set_library_defaults"}:
        assert ">>> " in found.__doc__


def test_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="no_such_name"):
        edgedistill.no_such_name  # noqa: B018


@pytest.mark.slow
def test_import_loads_no_library():
    """Nor does the look at a name of the contract or of the data set."""
    program = "import sys, edgedistill as ed; ed.Contract, ed.Dataset, ed.load; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert "edgedistill.api.datasets" in loaded.stdout.split()
    assert not {"torch", "pandas", "sklearn", "aeon", "rich"} & set(loaded.stdout.split())
