"""A failed job is a value, not an exception, and its working folder is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgedistill.errors import DataError
from edgedistill.experiment.jobs import Failure, attempt, release_work_folder


@pytest.fixture(autouse=True)
def threads():
    """Give this process back the threads that work takes from it."""
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def refuse(what: str) -> None:
    raise DataError(f"There is no {what}. Bring some.")


def test_result_of_a_job_is_returned():
    assert attempt(str, 1) == "1"


def test_failure_has_the_message_of_our_error():
    assert attempt(refuse, "data") == Failure("There is no data. Bring some.")


def test_failure_has_the_type_of_another_error():
    found = attempt(int, "x")

    assert isinstance(found, Failure)
    assert found.message.startswith("ValueError: invalid literal")


def test_only_an_empty_working_folder_is_removed(tmp_path):
    kept, empty = tmp_path / "kept", tmp_path / "empty"
    for folder in (kept, empty):
        (folder / ".work").mkdir(parents=True)
        (folder / ".work" / "in-use").touch()
    (kept / ".work" / "bank").touch()

    for folder in (kept, empty, Path(tmp_path / "never")):
        release_work_folder(folder)

    assert [p.name for p in (kept / ".work").iterdir()] == ["bank"]
    assert not (empty / ".work").exists()
