"""The health check: a release that answers as the student did, and those that do not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edgedistill.device.releases import health
from edgedistill.device.releases.health import check, failure
from edgedistill.device.releases.layout import Release, Target
from edgedistill.errors import IntegrityError, MachineError, VerificationError
from edgedistill.io import files


@pytest.fixture
def wrong(world, tmp_path, write_onnx, rng):
    """A bundle, as a folder, whose model is another than the one that was recorded."""

    def make(precision="fp32"):
        path = write_onnx(tmp_path / "other.onnx", world.student.noisy(5, rng))
        return world.write(tmp_path / precision, {precision: path})

    return make


def test_release_with_the_recorded_student_is_healthy(italy):
    """It answers as it did where it was made."""
    check(Target(bundle=italy))


def test_model_with_other_logits_is_unhealthy(wrong):
    """How far it is off stands in the message."""
    with pytest.raises(VerificationError, match=r"a logit is off by .* at most 0\.0001 is allowed"):
        check(Target(bundle=wrong()))


def test_int8_has_no_tolerance_in_the_health_check(wrong):
    """The contract has judged it, by more than one series."""
    check(Target(bundle=wrong("int8")))


def test_model_without_finite_logits_is_unhealthy(world, tmp_path, write_onnx):
    """Whatever its precision."""
    broken = replace(world.student, bias=np.array([np.nan, 0], np.float32))
    path = write_onnx(tmp_path / "nan.onnx", broken)
    bundle = world.write(tmp_path / "b", {"int8": path})

    with pytest.raises(VerificationError, match=r"answers a series with .*nan.*finite logits"):
        check(Target(bundle=bundle))


def test_settings_of_the_release_apply(italy):
    """A provider that is not here is found before anybody waits for an answer."""
    with pytest.raises(MachineError, match="NoSuchProvider"):
        check(Target(bundle=italy, provider="NoSuchProvider"))


@pytest.fixture
def release(world, tmp_path):
    """The folder of a release without a program."""
    folder = tmp_path / "releases" / "gun-1"
    folder.mkdir(parents=True)
    world.write(folder / "bundle")
    found = Release(
        name="gun-1",
        bundle="Gun",
        model=None,
        threads=None,
        provider=None,
        installed="",
        sha256=files.sha256(folder / "bundle" / "manifest.json"),
        signer=None,
        program=None,
    )
    (folder / "release.json").write_text(json.dumps(found.to_dict()))
    return folder


def test_healthy_release_has_no_failure(release):
    """Asked in a process of its own, by the package that is installed."""
    assert failure(release) is None


def test_manifest_that_was_changed_is_a_failure(release):
    """Its own hash is in the record; it holds those of all other files, and the classes' names."""
    manifest = release / "bundle" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"winter"', '"winters"'))

    assert failure(release).endswith("manifest.json is not the one that was installed")


def test_damaged_program_is_a_failure(release):
    """Python does not check the bytes of a zipapp that it runs; it is not even asked."""
    record = json.loads((release / "release.json").read_text())
    (release / "release.json").write_text(json.dumps({**record, "program": "0" * 64}))
    _program(release, "print('fine')")
    program = release / "edgedistill-device.pyz"
    program.write_bytes(program.read_bytes().replace(b"fine", b"Fine"))

    assert failure(release) == f"{program} is damaged"


def test_failure_has_the_message_of_the_check(release):
    """The message of its error."""
    (release / "bundle" / "golden.npz").write_bytes(b"")

    reason = failure(release)

    assert reason.startswith("golden.npz in ")
    assert "was changed" in reason
    with pytest.raises(IntegrityError, match="was changed"):
        check(Target(bundle=release / "bundle"))


def _program(release, code):
    with zipfile.ZipFile(release / "edgedistill-device.pyz", "w") as archive:
        archive.writestr("__main__.py", code)


def test_program_of_the_release_runs_the_check(release):
    """With what any version of it understands."""
    _program(release, "import sys; sys.exit(f'error: asked {sys.argv[1:]}')")

    assert failure(release) == f"asked ['releases', 'check', '{release}']"


def test_program_that_dies_is_a_failure(release):
    """A runtime may take its process with it."""
    _program(release, "import os; os.kill(os.getpid(), 11)")

    assert failure(release) == "its program ended with -11"


def test_program_that_hangs_is_a_failure(release, monkeypatch):
    """It is given up after a while."""
    monkeypatch.setattr(health, "TIMEOUT_S", 1)
    _program(release, "import time; time.sleep(60)")

    assert failure(release) == "it gave no answer in 1 s"


def test_release_is_checked_by_the_interpreter_that_validated_it(release, tmp_path):
    """Not by the one that switches; one that is gone, or was never recorded, is replaced by it."""
    python = tmp_path / "validator"
    python.write_text("#!/bin/sh\necho 'error: asked the validator.' >&2\nexit 5\n")
    python.chmod(0o755)
    (release / "edgedistill-device.pyz").write_text("import sys; sys.exit('error: asked here')")

    assert health.failure(release) == "asked here"
    (release / "python").symlink_to(python)
    assert health.failure(release) == "asked the validator"
    python.unlink()
    assert health.failure(release) == "asked here"
