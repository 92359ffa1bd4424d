"""Every way to fail ends with its exit code, a message with a next step, and no traceback."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.io.archives import unpack

pytestmark = pytest.mark.slow


@pytest.fixture
def failing(invoke):
    """Run a command that must fail with a code and these words, and return what it left."""

    def call(code: int, *arguments: object, says: tuple[str, ...]):
        ran = invoke(*arguments)
        assert ran.code == code, ran.stderr
        assert ran.stdout == ""
        assert "Traceback" not in ran.stderr
        for words in says:
            assert words in ran.stderr
        return ran

    return call


@pytest.fixture
def save(tmp_path):
    """Write real series as an NPZ, changed by a function of (x, y), and return its path."""

    def call(name: str, change=lambda x, y: (x, y)) -> Path:
        x, y = load_italy_power_demand(split="train")
        x, y = change(x.astype(np.float32), y.astype(str))
        np.savez(tmp_path / name, x=x, y=y)
        return tmp_path / name

    return call


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compres",), ("No such command 'compres'",)),
        (("predict", "series.csv"), ("Run: python -m edgedistill.device predict",)),
        (("compress", "--dat", "GunPoint"), ("No such option", "--data")),
        (("compress",), ("Name a recipe, or data with --data",)),
        (("compress", "no.yaml"), ("Cannot read the recipe no.yaml", "Check the path.")),
        (
            ("compress", "--data", "GunPoint", "--target", "arch64"),
            ("There is no target 'arch64'. Did you mean aarch64? Known: aarch64, jetson-agx-orin",),
        ),
        (
            ("compress", "--data", "GunPoint", "--set", "student.width"),
            ("--set takes a.b=value, got 'student.width'. Example: student.width=16.",),
        ),
        (
            ("compress", "--data", "GunPoint", "--set", "student.widht=3"),
            ("there is no key student.widht. Did you mean width? Allowed here: family",),
        ),
        (("train", "--data", "GunPoint"), ("Missing option '--out'",)),
        (
            ("distill", "--data", "GunPoint", "--teacher", "none", "--out", "student"),
            ("Directory 'none' does not exist",),
        ),
        (("validate", "none.zip"), ("There is no bundle at none.zip. Check the path.",)),
    ],
    ids=lambda value: " ".join(value)[:40].replace("/", ""),
)
def test_invalid_usage_exits_2(failing, arguments, says, tmp_path, monkeypatch):
    """An invalid command or argument; no file is written."""
    monkeypatch.chdir(tmp_path)

    failing(2, *arguments, says=says)

    assert list(tmp_path.iterdir()) == []


def test_invalid_recipe_exits_2_with_file_line_and_key(failing, tmp_path):
    """An unknown key, at its line, with the nearest valid one."""
    path = tmp_path / "recipe.yaml"
    path.write_text("data:\n  train: GunPoint\nstudent:\n  # small\n  widht: 8\n")

    failing(
        2,
        *("compress", path),
        says=(f"{path}, line 5: there is no key student.widht. Did you mean width?",),
    )


def test_model_that_a_bundle_lacks_exits_2(failing, finished, tmp_path):
    """The message lists the models of the bundle."""
    failing(
        2,
        *("validate", finished.bundle, "--model", "fp8", "--out", tmp_path / "report.json"),
        says=("holds no model 'fp8'. Choose one of ort-fp32, ort-fp16, ort-int8.",),
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda x, y: (x[:0], y[:0]), ("no series",), id="empty"),
        pytest.param(lambda x, y: (x, np.full_like(y, "1")), ("class",), id="one class"),
        pytest.param(
            lambda x, y: (np.concatenate([x[:5], x[5:6] * np.nan, x[6:]]), y),
            ("series 5 (counting from 0) has only NaN in channel 0",),
            id="NaN only",
        ),
    ],
)
def test_unusable_series_exit_3(failing, save, change, says, tmp_path):
    """Data errors are reported before any training."""
    out = tmp_path / "run"

    failing(3, "compress", "--data", save("train.npz", change), "--out", out, says=says)

    assert not out.exists()


def test_test_labels_that_training_lacks_exit_3(failing, save, tmp_path):
    """The error names the class that is only in the test set."""
    test = save("test.npz", lambda x, y: (x, np.where(np.arange(len(y)) == 3, "night", y)))

    failing(
        3,
        *("compress", "--data", save("train.npz"), "--test", test, "--out", tmp_path / "run"),
        says=("night",),
    )


def test_series_shorter_than_a_window_exit_3(failing, recipe, tmp_path):
    """The error has both lengths, and no teacher was trained."""
    out = tmp_path / "teacher"

    ran = failing(
        3,
        *("train", recipe, "--set", "saliency.width=99", "--out", out),
        says=("99", "24"),
    )

    assert "train teacher" not in ran.stderr
    assert not out.exists()


def test_unknown_set_exits_3_with_a_suggestion(failing):
    """A misspelled name of a bundled set is not taken for a file."""
    failing(3, "compress", "--data", "GunPont", says=("Did you mean 'GunPoint'?",))


def test_truncated_teacher_exits_3(failing, recipe, finished, tmp_path):
    """An ONNX file that was cut short."""
    teacher = tmp_path / "teacher.onnx"
    teacher.write_bytes(finished.onnx.read_bytes()[:1000])

    failing(
        3,
        *("train", recipe, "--teacher", teacher, "--out", tmp_path / "out"),
        says=(str(teacher),),
    )

    assert not (tmp_path / "out").exists()


def test_folder_of_another_stage_exits_3(failing, recipe, finished, tmp_path):
    """The message has the stage to run."""
    failing(
        3,
        *("export", recipe, "--student", finished.folder / "model", "--out", tmp_path / "out"),
        says=("does not hold a network of ours", "Train it again."),
    )

    assert not (tmp_path / "out").exists()


def test_broken_contract_exits_4(invoke, recipe, finished, tmp_path):
    """There is a report with reasons and no bundle, not even an older one."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)

    ran = invoke("compress", recipe, "--set", "contract.max_size_bytes=10", "--out", folder)

    assert ran.code == 4
    assert "No variant keeps the contract on the validation series." in ran.stdout
    table = ran.stdout.partition("All variants on the validation series")[2]
    size = next(line for line in table.splitlines() if "File size" in line)
    assert size.count("broken") == 3  # a variant each
    assert "verdict: broken" in ran.stdout
    assert "bundle: none, because the contract is broken" in ran.stdout
    assert (folder / "result" / "report.html").exists()
    assert not (folder / "result" / "bundle.zip").exists()


def test_tampered_bundle_exits_6(failing, finished, tmp_path):
    """A model with another hash is not run."""
    folder = tmp_path / "bundle"
    unpack(finished.bundle, folder)
    model = folder / "models" / "ort-fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")

    failing(
        6,
        *("validate", folder, "--out", tmp_path / "report.json"),
        says=("models/ort-fp32.onnx",),
    )

    assert not (tmp_path / "report.json").exists()


def test_zip_with_paths_outside_exits_6(failing, finished, tmp_path):
    """Nothing is unpacked."""
    archive = tmp_path / "bundle.zip"
    shutil.copyfile(finished.bundle, archive)
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr("../evil.txt", "evil")

    failing(6, "benchmark", archive, says=("'../evil.txt', which leaves its folder",))


def test_link_in_a_bundle_exits_6(failing, finished, tmp_path):
    """A link is refused even if its target is right."""
    folder = tmp_path / "bundle"
    unpack(finished.bundle, folder)
    model = folder / "models" / "ort-fp32.onnx"
    model.rename(tmp_path / "elsewhere.onnx")
    model.symlink_to(tmp_path / "elsewhere.onnx")

    failing(6, "inspect", folder, says=("ort-fp32.onnx",))
