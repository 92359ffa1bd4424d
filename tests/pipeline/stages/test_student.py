"""The student stage: every open weight is tried, validation series choose."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgedistill.errors import ConfigError, DataError
from edgedistill.evaluation import metrics
from edgedistill.io.files import read_json
from edgedistill.pipeline import networks
from edgedistill.pipeline import objective_context as contexts
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs, perturbation_plan
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.occlusion import explain
from edgedistill.teachers import TorchClassifier
from edgedistill.training.weight_search import Trial, choose


def distilled(recipe: Recipe, data, stages: Path, folder: Path, *settings: str):
    """Distill with other settings and return what was tried and what was heard."""
    for name in ("out", "work"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    heard = []
    changed = config.parse(config.dump(recipe), settings)
    make_student(
        changed,
        data,
        stages / "teacher",
        folder / "out",
        folder / "work",
        lambda *told: heard.append(told),
    )
    return read_json(folder / "out" / TRIALS), heard


def test_every_open_weight_is_tried_and_the_best_is_taken(recipe, data, stages):
    found = read_json(stages / "student" / TRIALS)

    trials = [Trial(**{name: trial[name] for name in Trial.__slots__}) for trial in found["trials"]]
    assert [trial.weights for trial in trials] == [
        {"cross_entropy": 0.1, "kd": 0.9, "tsd_maps": weight} for weight in (1.0, 3.0)
    ]
    assert found["chosen"] == choose(trials, len(data.validation.y))


def test_the_student_of_the_folder_is_the_chosen_one(recipe, data, stages):
    """Its scores on validation series are those that were written down."""
    found = read_json(stages / "student" / TRIALS)
    model, facts = networks.open_network(stages / "student")
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    teacher = knowledge.splits["validation"]

    student = TorchClassifier(model, classes=2, name="student")
    targets = teacher.logits.argmax(axis=1)
    said = explain(
        student.logits, data.validation.x, perturbation_plan(recipe, 24), targets=targets
    )

    taken = found["trials"][found["chosen"]]
    assert taken["accuracy"] == metrics.correct(said.logits, data.validation.y).mean()
    match = metrics.pearson(teacher.signed, said.signed).mean()
    assert taken["saliency_pearson"] == pytest.approx(match, abs=1e-4)
    assert len(facts["history"]) == recipe.student.training.epochs


def test_weights_of_several_objectives_are_crossed(recipe, data, stages, tmp_path):
    objectives = "[{name: cross_entropy, weight: [0.1, 1]}, {name: kd, weight: [0.5, 0.9]}]"
    settings = (f"student.objectives={objectives}", "student.training.epochs=1")

    found, heard = distilled(recipe, data, stages, tmp_path, *settings)

    assert [tuple(trial["weights"].values()) for trial in found["trials"]] == [
        *((0.1, 0.5), (0.1, 0.9)),
        *((1, 0.5), (1, 0.9)),
    ]
    assert heard == [(f"distill {number} of 4", 1, 1) for number in range(1, 5)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *(networks.WEIGHTS, networks.FACTS, TRIALS)
    }


@pytest.mark.parametrize("form", ["summed", "elementwise"])
def test_the_published_objective_distills(recipe, data, stages, tmp_path, form):
    term = f"{{name: tsd, windows: 4, width: 6, form: {form}}}"

    found, heard = distilled(
        recipe, data, stages, tmp_path, f"student.objectives=[{{name: cross_entropy}}, {term}]"
    )

    assert [trial["weights"] for trial in found["trials"]] == [{"cross_entropy": 1, "tsd": 1}]
    assert heard[-2:] == [("distill", 1, 2), ("distill", 2, 2)]
    known = len(data.train.y) + len(data.validation.y)
    assert heard[-3] == ("ask the teacher about windows", known, known)


def test_the_objectives_make_a_difference(recipe, data, stages, tmp_path):
    """Each one pulls the weights its own way, so none is left out on the way to training."""
    weights = []
    for name in ("cross_entropy", "kd", "tsd", "tsd_maps"):
        (tmp_path / name).mkdir()
        distilled(recipe, data, stages, tmp_path / name, f"student.objectives=[{{name: {name}}}]")
        model, _ = networks.open_network(tmp_path / name / "out")
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))

    for index, one in enumerate(weights):
        for other in weights[index + 1 :]:
            assert np.abs(one - other).max() > 1e-4


TSD = "{name: tsd, windows: 4, width: 6, bank: 8}"
SHORT = "student.training.epochs=1"


def of(term: str) -> str:
    """A setting that distills with cross-entropy and one more term."""
    return f"student.objectives=[{{name: cross_entropy}}, {term}]"


@pytest.fixture
def opened(monkeypatch) -> list[list[int]]:
    """How many series the teacher was asked about, a list each time that it was opened."""
    asked: list[list[int]] = []

    class Counting(TorchClassifier):
        def logits(self, x):
            asked[-1].append(len(x))
            return super().logits(x)

        def changes(self, x, starts, patches):
            asked[-1].append(len(x) * starts.shape[-1])
            return super().changes(x, starts, patches)

    def open_teacher(recipe, data, folder):
        asked.append([])
        module, _ = networks.open_network(folder)
        return Counting(module, classes=2, name="counted")

    monkeypatch.setattr(contexts, "open_teacher", open_teacher)
    return asked


def test_the_teacher_is_asked_before_training_and_never_during(
    recipe, data, stages, tmp_path, opened
):
    """Once about everything, however many epochs and weights follow."""
    tsd = "{name: tsd, windows: 4, width: 6, bank: 8, weight: [0.1, 1.0, 10.0]}"

    distilled(recipe, data, stages, tmp_path, of(tsd), "student.training.epochs=3")

    known = len(data.train.y) + len(data.validation.y)
    assert len(opened) == 1
    assert sum(opened[0]) == known + known * 32


def test_without_a_bank_the_teacher_is_asked_at_every_step(recipe, data, stages, tmp_path, opened):
    """As published; nothing is kept."""
    distilled(recipe, data, stages, tmp_path, of("{name: tsd, windows: 4, width: 6, bank: 0}"))

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
def test_another_student_draws_from_the_same_bank(recipe, data, stages, tmp_path, opened, settings):
    distilled(recipe, data, stages, tmp_path, of(TSD), SHORT)

    distilled(recipe, data, stages, tmp_path, SHORT, *settings)

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
def test_what_the_answers_depend_on_means_another_bank(
    recipe, data, stages, tmp_path, opened, term, change
):
    shutil.copytree(stages / "teacher", tmp_path / "teacher")
    knowledge, _ = open_teacher_outputs(stages / "teacher")
    replace(knowledge, unseen=knowledge.splits["test"]).save(tmp_path / "second.npz")
    distilled(recipe, data, tmp_path, tmp_path, of(TSD), SHORT)

    changed = data if change is None else change(tmp_path, data)
    distilled(recipe, changed, tmp_path, tmp_path, of(term), SHORT)

    assert len(opened) == 2


@pytest.mark.parametrize("name", ["logits.npy", "stage.json"])
def test_a_damaged_bank_is_made_anew(recipe, data, stages, tmp_path, opened, name):
    """One wrong bit is enough; the same answers come out."""
    distilled(recipe, data, stages, tmp_path, of(TSD), SHORT)
    path = tmp_path / "bank-6-32" / "logits.npy"
    before = path.read_bytes()
    damaged = bytearray((path.parent / name).read_bytes())
    damaged[-3] ^= 1
    (path.parent / name).write_bytes(damaged)

    distilled(recipe, data, stages, tmp_path, of(TSD), SHORT)

    assert len(opened) == 2
    assert path.read_bytes() == before


def test_the_bound_on_disk_decides_how_many_windows_are_kept(recipe, data, stages, tmp_path):
    distilled(recipe, data, stages, tmp_path, of(TSD[:-1] + ", bank_mib: 0.01}"), SHORT)

    (folder,) = tmp_path.glob("bank-6-*")
    size = sum(path.stat().st_size for path in folder.glob("*.npy"))
    assert 0.9 * 0.01 * 2**20 < size <= 0.01 * 2**20
    assert 4 <= int(folder.name.split("-")[2]) < 32
    with pytest.raises(ConfigError, match=r"bank_mib is 0\.001, but 4 windows of each of \d+ "):
        distilled(recipe, data, stages, tmp_path, of(TSD[:-1] + ", bank_mib: 0.001}"))


def test_a_teacher_that_fails_leaves_no_bank(recipe, data, stages, tmp_path):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        distilled(recipe, data, stages, tmp_path, of("{name: tsd, windows: 4, width: 25}"))

    assert list(tmp_path.glob("bank-*")) == []


@pytest.mark.parametrize("lost", [False, True], ids=["bank kept", "bank lost"])
def test_a_stopped_run_with_a_bank_ends_with_the_same_weights(
    recipe, data, stages, tmp_path, opened, lost
):
    """Bit for bit, even where the bank has to be made anew."""
    (tmp_path / "whole").mkdir()
    settings = (of(TSD), "student.training.epochs=4")
    distilled(recipe, data, stages, tmp_path / "whole", *settings)
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
    heard = []
    make_student(changed, *where, lambda *told: heard.append(told))

    assert len(opened) == 2 + lost
    assert [told[1:] for told in heard if told[0] == "distill"] == [(3, 4), (4, 4)]
    found, expected = (
        (folder / "out" / networks.WEIGHTS).read_bytes()
        for folder in (tmp_path, tmp_path / "whole")
    )
    assert found == expected
