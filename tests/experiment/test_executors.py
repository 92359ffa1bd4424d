"""Processes of an executor have one thread each, and end with their parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from edgedistill.errors import MachineError
from edgedistill.experiment import executors

pytestmark = pytest.mark.slow

SLEEPS = """
import sys, time
from edgedistill.experiment import executors
if __name__ == "__main__":
    with executors.local(1) as submit:
        print(submit(eval, "__import__('os').getpid()").result(), flush=True)
        submit(time.sleep, 60).result()
"""


def test_process_has_one_thread_and_ignores_ctrl_c(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    with executors.local(1) as submit:
        threads = submit(eval, "__import__('os').environ['OMP_NUM_THREADS']").result()
        handler = submit(eval, "__import__('signal').getsignal(2).name").result()
        elsewhere = submit(eval, "__import__('os').getpid()").result()

    assert (threads, handler) == ("1", "SIG_IGN")
    assert elsewhere != os.getpid()


def test_processes_end_when_the_caller_fails():
    """After Ctrl-C, work of a minute is not awaited."""
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), executors.local(1) as submit:  # noqa: PT012
        submit(str, 1).result()
        submit(time.sleep, 60)
        raise KeyboardInterrupt

    assert time.monotonic() - began < 30


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for a process in /proc")
def test_process_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "sleeps.py"
    script.write_text(SLEEPS)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = Path("/proc") / parent.stdout.readline().strip()
    assert child.exists()

    parent.kill()
    parent.communicate()

    for _ in range(100):
        if not child.exists() or "(Z" in (child / "stat").read_text().replace(") Z", "(Z"):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the process goes on alone")


def test_dead_process_breaks_the_pool():
    with pytest.raises(BrokenProcessPool), executors.local(1) as submit:
        submit(os._exit, 1).result()


def test_missing_ray_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed

    with pytest.raises(MachineError, match=r"pip install 'edgedistill\[ray\]'"), executors.on_ray():
        pass
