"""Failures of the machine during a run: a full disk, a missing package, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgedistill.errors import MachineError
from edgedistill.pipeline import single_stage as one_stage
from edgedistill.recipe import recipe as config

pytestmark = pytest.mark.slow

_STAGES = {"teacher", "student", "model", "variants", "result"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a disk of so many kibibytes and return its folder."""
    disks = []

    def mount(size_kib: int) -> Path:
        folder = tmp_path / f"disk{size_kib}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (subprocess.CalledProcessError, FileNotFoundError):
            pytest.skip("mounting a small disk needs root on Linux")
        disks.append(folder)
        return folder

    yield mount
    for disk in disks:
        subprocess.run(["umount", str(disk)], check=True)


def _whole_or_absent(folder: Path) -> None:
    """Check that a stage's folder is whole, and that none is half made beside it."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert names <= _STAGES | {".work", "recipe.yaml"}
    for stage in names & _STAGES:
        assert (folder / stage / "stage.json").exists()


@pytest.mark.parametrize(
    "size_kib",
    [
        24,  # met at a checkpoint
        128,  # met at the teacher's answers
    ],
)
def test_full_disk_exits_5(execute, recipe, small_disk, size_kib):
    """The message has the disk and the file, and no file is incomplete."""
    out = small_disk(size_kib) / "run"

    ran = execute("compress", recipe, "--set", "data.limit_per_class=null", "--out", out)

    assert ran.code == 5, ran.stderr
    assert "The disk is full while writing" in ran.stderr
    assert "Traceback" not in ran.stderr
    _whole_or_absent(out)


def test_missing_package_exits_5(execute, recipe, tmp_path):
    """The message has the command that installs it, under its name for pip."""
    ran = execute(
        *("train", recipe, "--out", tmp_path / "teacher"),
        before="import sys; sys.modules['yaml'] = None",
    )

    assert ran.code == 5
    assert "Install it with: python -m pip install pyyaml" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "teacher").exists()


def test_missing_device_exits_5(invoke, recipe, tmp_path):
    """An accelerator that this machine lacks."""
    ran = invoke(
        *("train", recipe, "--set", "teacher.training.accelerator=tpu"),
        *("--out", tmp_path / "teacher"),
    )

    assert ran.code == MachineError.exit_code
    assert "Set training.accelerator to cpu" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_interrupt_in_an_import_exits_130(execute, tmp_path):
    """During the import of an extension, Ctrl-C becomes an ImportError."""
    before = """
import sys
class Hit:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as hit:
                raise ImportError("initialization failed") from hit
sys.meta_path.insert(0, Hit())
"""
    ran = execute("train", "--data", "GunPoint", "--out", tmp_path / "teacher", before=before)

    assert ran.code == 130
    assert "Interrupted; nothing half written was kept." in ran.stderr
    assert "pip install" not in ran.stderr


def test_interrupted_run_exits_130_and_resumes(recipe, tmp_path):
    """Ctrl-C in training leaves a checkpoint and no stage; the next call resumes from it."""
    out = tmp_path / "runs" / "teacher"
    setting = "teacher.training.epochs=60"
    command = ["train", recipe, "--set", setting, "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "edgedistill", *map(str, command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _wait_for(lambda: list(tmp_path.glob("runs/.work/*/teacher.ckpt")), process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    left = {path.name for path in out.parent.iterdir()}
    epochs: list[int] = []

    def tell(what: str, done: int, _: int) -> None:
        if what == "train teacher":
            epochs.append(done)

    one_stage.train(config.load(recipe, [setting]), out, tell)

    assert process.returncode == 130, stderr
    assert "Interrupted; nothing half written was kept. Run it again to go on." in stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert left == {".work"}
    assert epochs[0] > 1  # not from the first epoch
    assert epochs[-1] == 60
    assert {path.name for path in out.parent.iterdir()} == {"teacher"}


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the command ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)
