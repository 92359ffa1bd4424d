"""When and with what something was made."""

from __future__ import annotations

import platform
from datetime import datetime, timedelta, timezone

import torch

from edgedistill import __version__
from edgedistill.pipeline.provenance import PACKAGES, now, versions


def test_versions_of_what_makes_a_bundle():
    found = versions()

    assert set(found) == {"python", *PACKAGES}
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["edgedistill"] == __version__


def test_the_time_is_universal():
    age = datetime.now(timezone.utc) - datetime.fromisoformat(now())

    assert timedelta(0) <= age < timedelta(seconds=5)
