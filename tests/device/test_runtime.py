"""Starting a bundle's model: its own settings, unless the caller says otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgedistill.bundle.reader import Model
from edgedistill.device import runtime
from edgedistill.device.runtime import start
from edgedistill.errors import UsageError
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings


@pytest.fixture
def model(world):
    """The student, not tuned."""
    return Model(
        name="student",
        path=world.folder / "student.onnx",
        runtime="onnxruntime",
        precision="fp32",
        parameters=58,
    )


def test_a_model_that_was_not_tuned_runs_on_one_thread(model):
    """With ONNX Runtime's own settings."""
    assert start(model).describe()["session"] == str(DEFAULT)


def test_the_stored_settings_apply(model, monkeypatch):
    """On a machine with as many cores."""
    monkeypatch.setattr(runtime, "cores", lambda: 8)
    settings = SessionSettings(threads=4, spinning=False, memory_arena=False)

    found = start(replace(model, session=settings)).describe()

    assert found["session"] == str(settings)


def test_stored_threads_never_outnumber_the_cores(model, monkeypatch):
    """Settings of a larger machine would make the threads of a small one wait for each other."""
    monkeypatch.setattr(runtime, "cores", lambda: 2)

    found = start(replace(model, session=SessionSettings(threads=4))).describe()

    assert found["session"].startswith("2 threads")


def test_threads_argument_overrides_the_settings(model):
    """Over those of the settings; the other settings stay."""
    stored = replace(model, session=SessionSettings(threads=1, memory_arena=False))

    found = start(stored, threads=2).describe()["session"]

    assert found == str(SessionSettings(threads=2, memory_arena=False))


def test_threads_must_be_positive(model):
    """Zero threads is a usage error, not ORT's "choose for me"."""
    with pytest.raises(UsageError, match="threads is 0"):
        start(model, threads=0)


def test_tensorrt_has_no_providers(model):
    """A request that would be dropped without a word is refused."""
    with pytest.raises(UsageError, match=r"'student' runs in TensorRT itself.*Leave --provider"):
        start(replace(model, runtime="tensorrt"), provider="cuda")
