"""A plan is expanded to recipes, and errors have their line."""

from __future__ import annotations

import pytest

from edgedistill.errors import ConfigError
from edgedistill.experiment import plan

METHODS = "methods:\n  kd:\n    student: {objectives: [{name: kd}]}\n  default:\n"


def test_runs_are_the_product_of_sets_methods_and_seeds():
    experiment = plan.parse(f"data: [GunPoint, some/Fish_TRAIN.tsv]\n{METHODS}seeds: [3, 5]")

    assert experiment.runs == [
        (name, method, seed)
        for name in ("GunPoint", "Fish")
        for method in ("kd", "default")
        for seed in (3, 5)
    ]
    assert experiment.sets["Fish"].data.train == "some/Fish_TRAIN.tsv"
    assert len(experiment.methods["GunPoint", "kd"].student.objectives) == 1
    assert experiment.methods["GunPoint", "default"] == experiment.sets["GunPoint"]


def test_settings_are_merged_from_recipe_over_set_to_method():
    text = """
recipe: {data: {limit_per_class: 9}, student: {width: 5, training: {epochs: 7}}}
data:
  short: {data: {train: GunPoint, length: 40}, student: {training: {epochs: 8}}}
  long: {data: OSULeaf}
  GunPoint:
methods:
  one: {student: {width: 3}}
teacher_seed: 4
"""
    experiment = plan.parse(text)

    short = experiment.methods["short", "one"]
    assert (short.data.train, short.data.length, short.data.limit_per_class) == ("GunPoint", 40, 9)
    assert (short.student.width, short.student.training.epochs, short.seed) == (3, 8, 4)
    assert experiment.sets["long"].data.train == "OSULeaf"
    assert experiment.sets["GunPoint"].data.train == "GunPoint"
    assert experiment.sets["GunPoint"].student.width == 5


def test_anchor_of_another_section_can_be_used():
    text = """
data: [GunPoint]
methods:
  kd: {student: {objectives: [&kd {name: kd, temperature: 2}]}}
  both: {student: {objectives: [*kd, {name: tsd_maps}]}}
"""
    experiment = plan.parse(text)

    first, _ = experiment.methods["GunPoint", "both"].student.objectives
    assert first.temperature == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: [GunPoint]", "methods is missing"),
        (f"data: []\n{METHODS}", "plan, line 1: data must be a list of names"),
        ("data: [GunPoint]\nmethods: {}", "plan, line 2: methods is {}"),
        (f"data: [GunPoint]\n{METHODS}seeds: []", "line 6: seeds is []"),
        (f"data: [GunPoint]\n{METHODS}seeds: [-1]", "line 6: seeds.0 is -1"),
        (f"data: [GunPoint]\n{METHODS}seeds: [1, 1]", "line 6: seeds names 1 twice"),
        (f"data: [GunPoint]\n{METHODS}seed: 1", "line 6: there is no key seed. Did you mean seeds"),
        (f"data: [GunPoint, a/GunPoint.ts]\n{METHODS}", "line 1: data names gunpoint twice"),
        (f"data: ['-']\n{METHODS}", "'-' cannot name a folder"),
        (f"data: [GunPoint]\n{METHODS}  kd: {{}}\n", "line 6: kd stands twice"),
        (f"data: [GunPoint]\n{METHODS}  KD: {{}}\n", "line 2: methods names kd twice"),
        (
            "data: [GunPoint]\nmethods:\n  a:\n    student:\n      wdth: 3",
            "plan, line 5: there is no key student.wdth. Did you mean width?",
        ),
        (
            "data: [GunPoint]\nmethods:\n  a: &a {student: {x: 1}}\n  b: *a",
            "plan, line 3: there is no key student.x",
        ),
        (
            "data: [GunPoint]\nmethods:\n  a:\n    teacher: {width: 3}",
            "plan, line 4: methods.a.teacher: methods share all but the student",
        ),
        (f"recipe:\n  golden: 0\ndata: [GunPoint]\n{METHODS}", "plan, line 2: golden is 0"),
        (f"recipe:\n  seed: 3\ndata: [GunPoint]\n{METHODS}", "plan, line 2: recipe.seed: set"),
        (f"data:\n  GunPoint:\n    golden: 0\n{METHODS}", "plan, line 3: golden is 0"),
        (f"data:\n  a:\n    data: b\n    golden: 0\n{METHODS}", "plan, line 4: golden is 0"),
        ("- 1", "plan holds list, a plan is a mapping"),
        ("a: [", "plan is not valid YAML"),
        (
            "recipe: {teacher: {width: 4}, student: {width: 4}}\n"
            "data: [GunPoint]\nmethods: {kd: {}}\nseeds: [0, 1]",
            "plan, line 4: kd on GunPoint has the teacher's network, so seed 0",
        ),
    ],
)
def test_error_has_its_line(text, message):
    with pytest.raises(ConfigError) as caught:
        plan.parse(text)

    assert message in str(caught.value)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the plan"):
        plan.load(tmp_path / "plan.yaml")


def test_messages_have_the_file(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(f"data: 3\n{METHODS}")

    with pytest.raises(ConfigError, match=rf"{path}, line 1: data must be"):
        plan.load(path)
