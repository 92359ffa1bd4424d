"""What importing the package decides for the libraries that are loaded after it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("before", "after"), [(None, "passive"), ("active", "active")])
def test_threads_do_not_wait_in_a_loop(before, after):
    """Unless somebody has said how they wait."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if before is not None:
        environment["OMP_WAIT_POLICY"] = before
    program = "import os, edgedistill; print(os.environ['OMP_WAIT_POLICY'])"

    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == after
