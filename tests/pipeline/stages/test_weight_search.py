"""Weights by successive halving: who is tried, how far, and that a kill changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS, TRIALS
from edgedistill.pipeline.stages.student import halving_stages, make_student, weight_candidates
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training import networks
from edgedistill.training import weight_search as search
from edgedistill.training.weight_search import HalvingStage, Trial, rank

pytestmark = pytest.mark.slow

LISTS = "[{name: cross_entropy, weight: [0.1, 1]}, {name: tsd_maps, weight: [1.0, 3.0]}]"
HALVING = (
    f"student.objectives={LISTS}",
    "student.search={method: halving, eta: 2, first: 0.1}",
    "student.training.epochs=4",
    "student.training.learning_rate=0.02",
)


def with_(recipe: Recipe, *settings: str) -> Recipe:
    return config.parse(config.dump(recipe), settings)


def distilled(recipe: Recipe, data, teacher: Path, folder: Path, tell: Any = None) -> Any:
    """Distill into `folder`, going on from what lies there, and return what was written down."""
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    make_student(recipe, data, teacher, folder / "out", folder / "work", tell or (lambda *_: None))
    return read_json(folder / "out" / TRIALS)


@pytest.fixture(scope="module")
def halved(recipe, data, stages, tmp_path_factory) -> tuple[Recipe, Path, list[Any]]:
    """A search among four candidates on three rungs, its folder, and what was heard."""
    folder = tmp_path_factory.mktemp("halved")
    heard: list[Any] = []
    changed = with_(recipe, *HALVING)
    distilled(changed, data, stages / "teacher", folder, lambda *told: heard.append(told))
    return changed, folder, heard


def written(folder: Path) -> list[bytes]:
    return [(folder / "out" / name).read_bytes() for name in (TRIALS, networks.WEIGHTS)]


def test_lists_are_crossed_for_every_point_of_the_ranges(recipe):
    terms = (
        "[{name: cross_entropy, weight: [0.1, 1]}, {name: kd, weight: {low: 1, high: 2}}, "
        "{name: tsd_maps, weight: {low: 10, high: 20}}, {name: rkd, weight: 3}]"
    )
    changed = with_(recipe, f"student.objectives={terms}", "student.search.points=5")

    found = weight_candidates(changed)

    assert len(found) == len(set(found)) == 10
    assert [weights[0] for weights in found] == [0.1, 1.0] * 5
    assert all(1 <= kd <= 2 and 10 <= maps <= 20 and rkd == 3 for _, kd, maps, rkd in found)
    assert len({weights[1:] for weights in found}) == 5
    assert weight_candidates(changed) == found
    assert weight_candidates(with_(changed, "seed=1")) != found


def test_by_default_every_candidate_trains_in_full(recipe):
    assert halving_stages(recipe, 30) == [HalvingStage(recipe.student.training.epochs, 30)]


@pytest.mark.parametrize(
    ("late", "first"),
    [("start: 0", 30), ("start: 0.4", 54), ("start: 0.2, ramp: 0.2", 54), ("start: 0.99", 90)],
)
def test_the_first_rung_lies_after_the_last_objective_has_joined(recipe, late, first):
    """A third of the epochs from there on; in the last epoch all have joined, however late."""
    changed = with_(
        recipe,
        f"student.objectives=[{{name: kd, weight: [1, 2, 3]}}, {{name: tsd_maps, {late}}}]",
        "student.search.method=halving",
        "student.training.epochs=90",
    )

    assert halving_stages(changed, 3)[0] == HalvingStage(first, 3)


def test_the_first_rung_lies_after_pruning(recipe):
    changed = with_(
        recipe,
        "student.objectives=[{name: kd, weight: [1, 2, 3]}]",
        "student.prune_from_teacher={until: 0.4}",
        "student.search.method=halving",
        "student.training.epochs=90",
    )

    assert halving_stages(changed, 3) == [HalvingStage(54, 3), HalvingStage(90, 1)]


def test_the_better_ones_go_on_from_rung_to_rung(halved, data):
    """As the rule says of what was written down."""
    _, folder, _ = halved

    found = read_json(folder / "out" / TRIALS)

    trials, samples = found["trials"], len(data.validation.y)
    assert found["rungs"] == [
        {"epoch": 1, "candidates": 4},
        {"epoch": 2, "candidates": 2},
        {"epoch": 4, "candidates": 1},
    ]
    alive = list(range(4))
    for number, rung in enumerate(found["rungs"]):
        assert [i for i in range(4) if len(trials[i]["rungs"]) > number] == sorted(alive)
        scores = [Trial(weights={}, **trials[i]["rungs"][number]) for i in sorted(alive)]
        best_first = [sorted(alive)[place] for place in rank(scores, samples)]
        alive = best_first[: max(1, rung["candidates"] // 2)]
    assert [found["chosen"]] == alive


def test_what_is_written_down_of_a_search(halved):
    _, folder, _ = halved

    found = read_json(folder / "out" / TRIALS)

    assert found["epochs"] == {"trained": 2 * 1 + 1 * 2 + 1 * 4, "of_all_in_full": 16}
    assert sorted((trial["epochs"], trial["ended"]) for trial in found["trials"]) == [
        (1, "left behind at rung 1 of 3"),
        (1, "left behind at rung 1 of 3"),
        (2, "left behind at rung 2 of 3"),
        (4, "trained to the end"),
    ]
    for trial in found["trials"]:
        names = ("accuracy", "kl", "saliency_pearson", "epochs")
        assert {name: trial[name] for name in names} == trial["rungs"][-1]
    weights = [tuple(trial["weights"].values()) for trial in found["trials"]]
    assert weights == [(0.1, 1.0), (0.1, 3.0), (1.0, 1.0), (1.0, 3.0)]


def test_people_read_the_candidate_and_the_rung(halved):
    _, folder, heard = halved
    chosen = read_json(folder / "out" / TRIALS)["chosen"] + 1

    assert heard[:2] == [
        ("distill 1 of 4, rung 1 of 3", 1, 1),
        ("distill 2 of 4, rung 1 of 3", 1, 1),
    ]
    assert heard[-2:] == [(f"distill {chosen} of 4, rung 3 of 3", done, 4) for done in (3, 4)]


def test_the_chosen_student_is_the_one_trained_alone(halved, data, stages, tmp_path):
    """Bit for bit, and by every number that is written down of it."""
    changed, folder, _ = halved
    found = read_json(folder / "out" / TRIALS)
    taken = found["trials"][found["chosen"]]
    objectives = [
        f"{{name: {name}, weight: {weight}}}" for name, weight in taken["weights"].items()
    ]

    alone = with_(changed, f"student.objectives=[{', '.join(objectives)}]")
    (trial,) = distilled(alone, data, stages / "teacher", tmp_path)["trials"]

    assert written(tmp_path)[1] == written(folder)[1]
    assert {**taken, "rungs": taken["rungs"][-1:]} == trial


class Killed(BaseException):
    """Stands for whatever ends a run from outside."""


def at_call(number: int, then: Callable[..., Any] = lambda *_: None) -> Callable[..., Any]:
    """Return what is killed the `number`-th time that it is called."""
    calls = iter(range(1, number + 1))

    def call(*args: Any) -> Any:
        if next(calls, 0) == number:
            raise Killed
        return then(*args)

    return call


@pytest.mark.parametrize("place", range(1, 9))
def test_a_search_killed_in_any_epoch_goes_on(halved, data, stages, tmp_path, place):
    """With what it had, to the same end; only the epoch that was killed is trained again."""
    changed, folder, heard = halved
    with pytest.raises(Killed):
        distilled(changed, data, stages / "teacher", tmp_path, at_call(place))

    again: list[Any] = []
    distilled(changed, data, stages / "teacher", tmp_path, lambda *told: again.append(told))

    assert again == heard[place - 1 :]
    assert written(tmp_path) == written(folder)


@pytest.mark.parametrize("place", [1, 2, 5, 7])
@pytest.mark.parametrize("name", ["save_candidate", "load_candidate"])
def test_a_search_killed_between_epochs_goes_on(
    halved, data, stages, tmp_path, monkeypatch, place, name
):
    """Before or after a judgement is written down: it comes out again as it was."""
    changed, folder, _ = halved
    with monkeypatch.context() as patch:
        patch.setattr(search, name, at_call(place, getattr(search, name)))
        with pytest.raises(Killed):
            distilled(changed, data, stages / "teacher", tmp_path)

    again: list[Any] = []
    distilled(changed, data, stages / "teacher", tmp_path, lambda *told: again.append(told))

    assert len(again) <= 8
    assert written(tmp_path) == written(folder)


def test_what_another_search_left_is_not_believed(halved, data, stages, tmp_path):
    """Its candidates stand in the same folders, with weights and epochs of their own."""
    changed, folder, _ = halved
    other = with_(changed, "saliency.baseline=zero")
    distilled(other, data, stages / "teacher", tmp_path)
    assert written(tmp_path) != written(folder)

    distilled(changed, data, stages / "teacher", tmp_path)

    assert written(tmp_path) == written(folder)


def test_a_candidate_that_lost_its_patience_trains_no_further(recipe, data, stages, tmp_path):
    """It may still be the one that is taken."""
    changed = with_(
        recipe,
        "student.objectives=[{name: kd, weight: [1, 2, 3]}]",
        "student.search.method=halving",
        "student.training={epochs: 30, patience: 1, learning_rate: 0.5, select: objective}",
    )

    found = distilled(changed, data, stages / "teacher", tmp_path)

    taken = found["trials"][found["chosen"]]
    assert taken["epochs"] < 30
    assert taken["ended"] == "no improvement within patience"
    assert found["epochs"]["trained"] == sum(trial["epochs"] for trial in found["trials"])


def test_ranges_are_searched(recipe, data, stages, tmp_path):
    changed = with_(
        recipe,
        "student.objectives=[{name: cross_entropy}, {name: kd, weight: {low: 0.1, high: 10}}]",
        "student.search={method: halving, points: 3}",
        "student.training.epochs=3",
    )

    found = distilled(changed, data, stages / "teacher", tmp_path)

    weights = [trial["weights"]["kd"] for trial in found["trials"]]
    assert weights == [kd for _, kd in weight_candidates(changed)]
    assert found["rungs"] == [{"epoch": 1, "candidates": 3}, {"epoch": 3, "candidates": 1}]


@pytest.mark.parametrize("split", ["test", "validation"])
def test_the_test_split_has_no_part_in_the_choice(halved, data, stages, tmp_path, split):
    """What is tried, judged and taken stays the same; other validation series would change it."""
    changed, folder, _ = halved
    known, _ = open_teacher_outputs(stages / "teacher")
    part = getattr(data, split)
    turned = replace(part, x=np.ascontiguousarray(part.x[:, :, ::-1]), y=1 - part.y)
    told = known.splits[split]
    splits = {**known.splits, split: replace(told, logits=-told.logits, signed=-told.signed)}
    (tmp_path / "teacher").mkdir()
    for path in (stages / "teacher").iterdir():
        if path.is_file():
            (tmp_path / "teacher" / path.name).write_bytes(path.read_bytes())
    TeacherOutputs(splits, known.unseen, known.maps).save(tmp_path / "teacher" / TEACHER_OUTPUTS)

    distilled(changed, replace(data, **{split: turned}), tmp_path / "teacher", tmp_path)

    assert (written(tmp_path) == written(folder)) == (split == "test")


def test_the_search_is_part_of_the_recipe(halved, recipe):
    """Stages and experiments make their keys of it."""
    changed, _, _ = halved

    assert changed.to_dict()["student"]["search"] == {
        "method": "halving",
        "points": 8,
        "eta": 2,
        "first": 0.1,
    }
    assert recipe.to_dict()["student"]["search"]["method"] == "full"
