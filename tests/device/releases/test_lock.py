"""The lock: one holder at a time, and none once its process is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from edgedistill.device.releases.lock import file_lock
from edgedistill.errors import MachineError

HOLD = """
import sys, time
from pathlib import Path
from edgedistill.device.releases.lock import file_lock
with file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "root" / "lock"], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_second_command_is_refused_with_the_holders_process_number(tmp_path, holder):
    """At once, with the number of the process."""
    with (
        pytest.raises(MachineError, match=rf"is changing .*root \(process {holder.pid}\)\. Wait"),
        file_lock(tmp_path / "root" / "lock"),
    ):
        pytest.fail("the block must not run")


def test_lock_of_a_killed_process_is_free(tmp_path, holder):
    """The system lets go of the lock, whatever the file says."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with file_lock(tmp_path / "root" / "lock"):
        assert (tmp_path / "root" / "lock").read_text() == f"{os.getpid()}\n"


def test_lock_is_free_afterwards(tmp_path):
    """Also after an error; within one process it is exclusive too."""
    path = tmp_path / "lock"

    with (
        file_lock(path),
        pytest.raises(MachineError, match=rf"process {os.getpid()}"),
        file_lock(path),
    ):
        pytest.fail("the block must not run")
    with pytest.raises(ZeroDivisionError), file_lock(path):
        _ = 1 / 0
    with file_lock(path):
        pass


def test_holder_without_a_process_number_is_unknown(tmp_path, full_disk):
    """A full disk does not keep anybody from going back to another release."""
    (full_disk / "lock").touch()

    with (
        file_lock(full_disk / "lock"),
        pytest.raises(MachineError, match="process unknown"),
        file_lock(full_disk / "lock"),
    ):
        pytest.fail("the block must not run")


def test_root_that_cannot_be_made_is_explained(tmp_path):
    """A file is in the way."""
    (tmp_path / "root").touch()

    with (
        pytest.raises(MachineError, match=r"Cannot write .*root"),
        file_lock(tmp_path / "root" / "lock"),
    ):
        pytest.fail("the block must not run")
