"""Stage folders are whole or absent, and notice when they are no longer what they were."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch

from edgedistill import __version__
from edgedistill.errors import DataError
from edgedistill.pipeline.stage_folder import (
    PACKAGES,
    STAGE,
    is_unchanged,
    make_stage,
    now,
    versions,
)


def fill(folder: Path, work: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights.bin").write_bytes(b"weights")
    (folder / "facts.json").write_text("{}")


def fail(folder: Path, work: Path) -> None:
    (folder / "half.bin").write_bytes(b"ha")
    (work / "run.ckpt").write_bytes(b"where it stopped")
    raise DataError("the series are gone")


def damage_manifest(text: str) -> Callable[[Path], object]:
    return lambda stage: (stage / STAGE).write_text(text)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "changed": lambda stage: (stage / "facts.json").write_text("[]"),
    "changed within": lambda stage: (stage / "inner" / "weights.bin").write_bytes(b"weighty"),
    "deleted": lambda stage: (stage / "facts.json").unlink(),
    "added": lambda stage: (stage / "more.json").touch(),
    "no manifest": lambda stage: (stage / STAGE).unlink(),
    "truncated manifest": damage_manifest('{"stage": "teacher", "ke'),
    "empty manifest": damage_manifest("{}"),
    "manifest of another kind": damage_manifest("[]"),
    "binary manifest": lambda stage: (stage / STAGE).write_bytes(b"\xff\xfe\x00"),
}


@pytest.fixture
def stage(tmp_path) -> Path:
    make_stage(tmp_path / "teacher", "key", fill)
    return tmp_path / "teacher"


def test_a_stage_knows_its_key(stage):
    assert is_unchanged(stage, "key")
    assert not is_unchanged(stage, "another key")
    assert not is_unchanged(stage.parent / "absent", "key")


def test_the_manifest_lists_what_it_holds(stage):
    manifest = json.loads((stage / STAGE).read_text())

    assert manifest["stage"] == "teacher"
    assert manifest["key"] == "key"
    assert set(manifest["files"]) == {"facts.json", "inner/weights.bin"}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_noticed(stage, damage):
    damage(stage)

    assert not is_unchanged(stage, "key")


def test_a_failed_stage_leaves_the_old_one(stage):
    with pytest.raises(DataError):
        make_stage(stage, "other", fail)

    assert is_unchanged(stage, "key")
    assert {path.name for path in stage.parent.iterdir()} == {"teacher", ".work"}


def test_a_failed_stage_goes_on_in_its_work_folder(tmp_path):
    """Which is its own: a stage of another key does not find it. Then nothing of it is left."""
    stage = tmp_path / "teacher"
    with pytest.raises(DataError):
        make_stage(stage, "key", fail)
    assert not stage.exists()
    found = {}

    for key in ("other", "key"):
        make_stage(stage, key, lambda _, work, k=key: found.update({k: list(work.iterdir())}))

    assert [path.name for path in found["key"]] == ["run.ckpt"]
    assert found["other"] == []
    assert list(tmp_path.iterdir()) == [stage]


def test_a_named_work_folder(tmp_path):
    make_stage(
        tmp_path / "a", "key", lambda _, work: (work / "x").touch(), work=tmp_path / "w" / "a"
    )

    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_tensorboard_events_outlive_the_work_folder(tmp_path):
    def train(folder: Path, work: Path) -> None:
        (work / "tensorboard" / "student").mkdir(parents=True)
        (work / "tensorboard" / "student" / "events").write_bytes(b"curves")

    make_stage(tmp_path / "student", "key", train)

    assert (tmp_path / "student" / "tensorboard" / "student" / "events").read_bytes() == b"curves"
    assert is_unchanged(tmp_path / "student", "key")


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    """Its own folders only: another stage may be at work, other names are not ours."""
    others = {".student.ab12_xyz", ".teacher.backup"}
    for left in (".teacher.ab12_xyz", ".teacher.old.ab12_xyz", *others):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half.bin").write_bytes(b"ha")

    make_stage(tmp_path / "teacher", "key", fill)

    assert {path.name for path in tmp_path.iterdir()} == {"teacher", *others}


def test_versions_of_what_makes_a_bundle():
    found = versions()

    assert set(found) == {"python", *PACKAGES}
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["edgedistill"] == __version__


def test_the_time_is_universal():
    age = datetime.now(timezone.utc) - datetime.fromisoformat(now())

    assert timedelta(0) <= age < timedelta(seconds=5)
