"""Starting a bundle's model: its own settings, unless the caller says otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgedistill.bundle.reader import Model, open_bundle
from edgedistill.device import runtime
from edgedistill.device.runtime import int8_arithmetic, is_exact, start
from edgedistill.errors import UsageError
from edgedistill.optimize.ort_format import to_ort
from edgedistill.report import Int8Arithmetic
from edgedistill.runtimes.instructions import InstructionSet
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings

VNNI = InstructionSet("AVX-512 VNNI", saturates=False)
NO_VNNI = InstructionSet("AVX2 without VNNI", saturates=True)


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


@pytest.fixture
def int8(write_saturating, world, tmp_path) -> Model:
    """The .ort file, beside its ONNX file, of an INT8 model that saturates on x86 without VNNI."""
    path = write_saturating(tmp_path / "ort-int8.onnx", 24)
    to_ort(path, tmp_path / "ort-int8.ort", world.series)
    return Model(
        name="ort-int8-ort",
        path=tmp_path / "ort-int8.ort",
        runtime="onnxruntime",
        precision="int8",
        parameters=48,
    )


def test_an_ort_file_is_exact_beside_its_onnx_file(int8, world):
    """Its own graph is fixed, and saturates on x86 without VNNI."""
    expected = OrtRuntime(int8.path.with_suffix(".onnx")).logits(world.series)

    np.testing.assert_array_equal(start(int8).logits(world.series), expected)


def test_an_ort_file_of_a_bundle_is_exact_beside_its_onnx_file(
    saturating_bundle, italy, world, tmp_path
):
    """A bundle names files by their models."""
    with open_bundle(saturating_bundle(italy, tmp_path / "bundle")) as bundle:
        model = bundle.model()
        assert model.path.name == "ort-int8-ort.ort"
        expected = OrtRuntime(bundle.model("ort-int8").path).logits(world.series)

        np.testing.assert_array_equal(start(model).logits(world.series), expected)


@pytest.mark.parametrize("instructions", [VNNI, NO_VNNI], ids=str)
def test_an_ort_file_alone_saturates_without_vnni(int8, monkeypatch, instructions):
    """And is said to, beside what the session that was timed does."""
    monkeypatch.setattr(runtime, "instruction_set", lambda: instructions)
    int8.path.with_suffix(".onnx").unlink()

    sums = "saturating" if instructions.saturates else "exact"
    assert is_exact(int8) == (not instructions.saturates)
    assert int8_arithmetic(int8) == Int8Arithmetic(
        measured=sums, timed=sums, instructions=instructions.name
    )


@pytest.mark.parametrize(
    ("instructions", "timed_exact", "timed"),
    [
        (VNNI, True, "exact"),
        (VNNI, False, "exact"),
        (NO_VNNI, True, "exact"),
        (NO_VNNI, False, "saturating"),
        (NO_VNNI, None, None),
    ],
)
def test_quality_is_exact_and_speed_names_its_sums(
    int8, monkeypatch, instructions, timed_exact, timed
):
    monkeypatch.setattr(runtime, "instruction_set", lambda: instructions)

    assert is_exact(int8)
    assert int8_arithmetic(int8, timed_exact=timed_exact) == Int8Arithmetic(
        measured="exact", timed=timed, instructions=instructions.name
    )


@pytest.mark.parametrize(
    ("change", "provider"),
    [({"precision": "fp32"}, None), ({"runtime": "tensorrt"}, None), ({}, "cuda")],
)
def test_other_models_have_no_sums_of_8_bit_products(int8, change, provider):
    """Nor has a GPU those of a CPU."""
    int8.path.with_suffix(".onnx").unlink()

    assert int8_arithmetic(replace(int8, **change), provider=provider) is None
    assert is_exact(replace(int8, **change), provider=provider)
