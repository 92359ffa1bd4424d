"""The cache of a teacher's logits for windows: shared by students, keyed, bounded, resumed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedistill.errors import ConfigError, DataError
from edgedistill.pipeline import objective_context as contexts
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe import recipe as config
from edgedistill.teachers import TorchClassifier
from edgedistill.training import networks

TSD = "{name: tsd, windows: 4, width: 6, bank: 8}"
SHORT = "student.training.epochs=1"


def of(term: str) -> str:
    """A setting that distills with cross-entropy and one more term."""
    return f"student.objectives=[{{name: cross_entropy}}, {term}]"


@pytest.fixture
def opened(monkeypatch) -> list[list[int]]:
    """The number of series that the teacher ran on, a list each time that it was opened."""
    counts: list[list[int]] = []

    class Counting(TorchClassifier):
        def logits(self, x):
            counts[-1].append(len(x))
            return super().logits(x)

        def changes(self, x, starts, patches):
            counts[-1].append(len(x) * starts.shape[-1])
            return super().changes(x, starts, patches)

    def open_teacher(recipe, data, folder):
        counts.append([])
        module, _ = networks.open_network(folder)
        return Counting(module, classes=2, name="counted")

    monkeypatch.setattr(contexts, "open_teacher", open_teacher)
    return counts


def test_teacher_runs_once_before_training(train_student, recipe, data, stages, tmp_path, opened):
    """Once on everything, however many epochs and weights follow."""
    tsd = "{name: tsd, windows: 4, width: 6, bank: 8, weight: [0.1, 1.0, 10.0]}"

    train_student(recipe, data, stages, tmp_path, of(tsd), "student.training.epochs=3")

    known = len(data.train.y) + len(data.validation.y)
    assert len(opened) == 1
    assert sum(opened[0]) == known + known * 32


def test_teacher_runs_at_every_step_without_a_cache(
    train_student, recipe, data, stages, tmp_path, opened
):
    """As published; nothing is cached."""
    train_student(recipe, data, stages, tmp_path, of("{name: tsd, windows: 4, width: 6, bank: 0}"))

    known = len(data.train.y) + len(data.validation.y)
    assert sum(opened[0]) == 2 * known * (1 + 4)  # two epochs
    assert {path.name for path in tmp_path.iterdir()} == {"out", "work"}


@pytest.mark.parametrize(
    "settings",
    [
        (of("{name: tsd, windows: 4, width: 6, bank: 8, weight: [0.5, 2.0]}"),),
        (of("{name: tsd, windows: 4, width: 6, bank: 8, temperature: 3.0}"),),
        (of("{name: tsd, windows: 4, width: 6, bank: 8, form: elementwise, start: 0.5}"),),
        (of("{name: tsd, windows: 8, width: 6, bank: 4}"),),
        (of(TSD), "student.width=3", "student.training.learning_rate=0.1"),
        (of(TSD), "seed=7"),
    ],
    ids=["weight", "temperature", "form", "fewer times more", "student", "seed"],
)
def test_other_students_share_the_cache(
    train_student, recipe, data, stages, tmp_path, opened, settings
):
    train_student(recipe, data, stages, tmp_path, of(TSD), SHORT)

    train_student(recipe, data, stages, tmp_path, SHORT, *settings)

    assert len(opened) == 1
    assert [p.name for p in tmp_path.glob("bank-*")] == ["bank-6-32"]


def _other_teacher(folder: Path, data):
    shutil.copy(folder / "second.npz", folder / "teacher" / "knowledge.npz")
    return data


def _other_data(folder: Path, data):
    train = replace(data.train, x=data.train.x + np.float32(0.01))
    return replace(data, train=train)


@pytest.mark.parametrize(
    ("term", "change"),
    [
        ("{name: tsd, windows: 4, width: 5, bank: 8}", None),
        ("{name: tsd, windows: 4, width: 6, bank: 9}", None),
        (TSD, _other_teacher),
        (TSD, _other_data),
    ],
    ids=["width", "number", "teacher", "data"],
)
def test_other_windows_teacher_or_data_make_another_cache(
    train_student, recipe, data, stages, tmp_path, opened, term, change
):
    shutil.copytree(stages / "teacher", tmp_path / "teacher")
    outputs, _ = open_teacher_outputs(stages / "teacher")
    replace(outputs, unseen=outputs.splits["test"]).save(tmp_path / "second.npz")
    train_student(recipe, data, tmp_path, tmp_path, of(TSD), SHORT)

    changed = data if change is None else change(tmp_path, data)
    train_student(recipe, changed, tmp_path, tmp_path, of(term), SHORT)

    assert len(opened) == 2


@pytest.mark.parametrize("name", ["logits.npy", "stage.json"])
def test_damaged_cache_is_written_again(
    train_student, recipe, data, stages, tmp_path, opened, name
):
    """One wrong bit is enough; the logits are the same again."""
    train_student(recipe, data, stages, tmp_path, of(TSD), SHORT)
    path = tmp_path / "bank-6-32" / "logits.npy"
    before = path.read_bytes()
    damaged = bytearray((path.parent / name).read_bytes())
    damaged[-3] ^= 1
    (path.parent / name).write_bytes(damaged)

    train_student(recipe, data, stages, tmp_path, of(TSD), SHORT)

    assert len(opened) == 2
    assert path.read_bytes() == before


def test_disk_limit_bounds_the_number_of_cached_windows(
    train_student, recipe, data, stages, tmp_path
):
    train_student(recipe, data, stages, tmp_path, of(TSD[:-1] + ", bank_mib: 0.01}"), SHORT)

    (folder,) = tmp_path.glob("bank-6-*")
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    assert 0.9 * 0.01 * 2**20 < size <= 0.01 * 2**20
    assert 4 <= int(folder.name.split("-")[2]) < 32
    with pytest.raises(ConfigError, match=r"bank_mib is 0\.001, but 4 windows of each of \d+ "):
        train_student(recipe, data, stages, tmp_path, of(TSD[:-1] + ", bank_mib: 0.001}"))


def test_failing_teacher_leaves_no_cache(train_student, recipe, data, stages, tmp_path):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        train_student(recipe, data, stages, tmp_path, of("{name: tsd, windows: 4, width: 25}"))

    assert list(tmp_path.glob("bank-*")) == []


@pytest.mark.parametrize("lost", [False, True], ids=["cache kept", "cache lost"])
def test_resumed_run_with_a_cache_ends_with_the_same_weights(
    train_student, recipe, data, stages, tmp_path, opened, lost
):
    """Bit for bit, even where the cache has to be written again."""
    (tmp_path / "whole").mkdir()
    settings = (of(TSD), "student.training.epochs=4")
    train_student(recipe, data, stages, tmp_path / "whole", *settings)
    changed = config.parse(config.dump(recipe), settings)
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    where = data, stages / "teacher", tmp_path / "out", tmp_path / "work"

    def stop(what: str, done: int, _: int) -> None:
        if (what, done) == ("distill", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_student(changed, *where, stop)
    if lost:
        shutil.rmtree(tmp_path / "bank-6-32")
    progress = []
    make_student(changed, *where, lambda *report: progress.append(report))

    assert len(opened) == 2 + lost
    assert [report[1:] for report in progress if report[0] == "distill"] == [(3, 4), (4, 4)]
    found, expected = (
        (folder / "out" / networks.WEIGHTS).read_bytes()
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert found == expected
