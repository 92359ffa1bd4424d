"""The recipe, and the error messages of an invalid one."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgedistill import targets
from edgedistill.errors import ConfigError
from edgedistill.evaluation.contract import Contract
from edgedistill.recipe import recipe as config
from edgedistill.recipe.presets import PRESETS
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import NodeSearchSection, PruneSection, RecoverSection
from edgedistill.training.config import FitConfig

RECIPE = """\
# the whole of it
data:
  train: ItalyPowerDemand
student:
  width: 4
  objectives:
    - name: cross_entropy
    - name: kd
      weight: [0.5, 0.9]
  training:
    epochs: 7
contract:
  max_kl: null
"""


def test_an_empty_recipe_is_the_defaults():
    assert config.parse("") == Recipe()
    assert config.parse("# nothing but a comment") == Recipe()


def test_file_is_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)

    recipe = config.load(path, ["seed=3"])

    assert recipe.data.train == "ItalyPowerDemand"
    assert recipe.student.width == 4
    assert [term.name for term in recipe.student.objectives] == ["cross_entropy", "kd"]
    assert recipe.student.objectives[1].weight == (0.5, 0.9)
    assert recipe.contract == replace(Contract(), max_kl=None)
    assert recipe.seed == 3


@pytest.mark.parametrize("text", ["", RECIPE, "preset: paper", "name: Öl"])
def test_dump_round_trips(text):
    recipe = config.parse(text)

    assert config.parse(config.dump(recipe)) == recipe


def test_a_partial_section_keeps_the_rest_of_its_defaults():
    """Those of its own place: a student's training has other defaults than a teacher's."""
    recipe = config.parse("student: {training: {epochs: 7}}\nteacher: {training: {epochs: 5}}")

    assert recipe.student.training == replace(Recipe().student.training, epochs=7)
    assert recipe.student.training.learning_rate == 0.01
    assert recipe.teacher.training == replace(Recipe().teacher.training, epochs=5)
    assert recipe.teacher.training.learning_rate == 0.003


@pytest.mark.parametrize("text", ["student:", "student: {training: }", "contract: null"])
def test_an_empty_section_changes_nothing(text):
    """As when every line below it is commented out."""
    assert config.parse(text) == Recipe()


def test_preset_of_the_paper():
    """Settings of the recipe win over its preset."""
    recipe = config.parse("preset: paper\nstudent: {width: 8, training: {epochs: 50}}")

    paper = PRESETS["paper"]
    training = FitConfig(**paper["student"]["training"])
    assert recipe.teacher.training == training
    assert recipe.student.training == replace(training, epochs=50)
    assert (recipe.teacher.family, recipe.teacher.width, recipe.teacher.depth) == ("lstm", 100, 3)
    assert (recipe.student.family, recipe.student.width, recipe.student.depth) == ("lstm", 8, 1)
    assert recipe.data.max_length == 100
    assert [term.name for term in recipe.student.objectives] == ["cross_entropy", "tsd"]
    assert recipe.student.objectives[1].weight == (0.1, 0.5, 1.0, 10.0, 100.0)
    assert recipe.student.objectives[1].bank == 0  # as published: the teacher at every step


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_may_be_named(name):
    assert config.parse(f"preset: {name}").preset == name


def test_settings_win_over_the_file_and_later_ones_over_earlier():
    recipe = config.parse(
        RECIPE,
        [
            "student.width=16",
            "student.training.learning_rate=1e-3",
            "data.test=null",
            "contract.max_kl=0.1",
            "student.objectives=[{name: kd}]",
            "seed=1",
            "seed=2",
        ],
    )

    assert recipe.student.width == 16
    assert recipe.student.training.epochs == 7
    assert recipe.student.training.learning_rate == 0.001
    assert recipe.data.test is None
    assert recipe.contract.max_kl == 0.1
    assert [term.name for term in recipe.student.objectives] == ["kd"]
    assert recipe.seed == 2


def test_settings_above_the_file_lose_to_overrides():
    above = {"student": {"width": 5, "depth": 2}, "seed": 9}

    recipe = config.parse(RECIPE, ["student.width=6"], file_overrides=above)

    assert (recipe.student.width, recipe.student.depth, recipe.seed) == (6, 2, 9)
    assert recipe.student.training.epochs == 7
    assert above == {"student": {"width": 5, "depth": 2}, "seed": 9}


def test_target_sets_defaults():
    """Settings of the recipe win over its target."""
    name = next(name for name in targets.names() if targets.settings(name))
    wanted = targets.settings(name)

    recipe = config.parse(f"target: {name}").to_dict()

    assert recipe == config.parse(yaml.safe_dump({**wanted, "target": name})).to_dict()
    assert config.parse(
        f"target: {name}\noptimize: {{precisions: [fp16]}}"
    ).optimize.precisions == ("fp16",)


def test_default_settings_have_data_teacher_and_no_target():
    found = config.default_settings("train.npz", "test.npz", teacher="teacher.onnx", target=None)

    assert found == {
        "data": {"train": "train.npz", "test": "test.npz"},
        "teacher": {"source": "teacher.onnx", "trust": False},
    }
    assert config.default_settings(None) == {}
    assert config.default_settings(None, target="board") == {"target": "board"}


def test_sounds_become_log_mel_frames(tmp_path):
    for name in ("0_a.wav", "1_a.wav"):
        (tmp_path / name).touch()

    recipe = config.parse("", file_overrides=config.default_settings(str(tmp_path)))

    assert recipe.data.train == str(tmp_path)
    assert (recipe.data.features, recipe.data.sizing) == ("log_mel", "pad")


def test_table_of_logits_has_no_saliency_settings():
    recipe = config.parse(
        "", file_overrides=config.default_settings("GunPoint", teacher="logits.npz", trust=True)
    )

    assert recipe.teacher.trust
    assert [term.name for term in recipe.student.objectives] == ["cross_entropy", "kd"]
    assert recipe.contract.min_saliency_pearson is None
    assert recipe.contract.min_saliency_spearman is None
    assert recipe.contract.min_agreement == Contract().min_agreement


OTHER: dict[str, Any] = {
    "schedule": "constant",
    "select": "last",
    "patience": 3,
    "clip": 0.5,
    "freeze_norm_from": 0.25,
    "accelerator": "cpu",
    "strategy": "ddp",
    "precision": "bf16-mixed",
}


@pytest.mark.parametrize("place", ["teacher", "student"])
@pytest.mark.parametrize("name", [field.name for field in fields(FitConfig)])
def test_every_setting_of_training_is_reachable(place, name):
    default = getattr(getattr(Recipe(), place).training, name)
    value = OTHER.get(name, default + 1 if isinstance(default, int | float) else None)
    assert value != default

    recipe = config.parse("", [f"{place}.training.{name}={value}"])

    assert getattr(getattr(recipe, place).training, name) == value


@pytest.mark.parametrize("name", [field.name for field in fields(Contract)])
@pytest.mark.parametrize("value", [0.125, None])
def test_every_clause_is_reachable(name, value):
    recipe = config.parse("", [f"contract.{name}={'null' if value is None else value}"])

    assert getattr(recipe.contract, name) == value


WRONG = {
    "seed beyond generators": ("seed: 4294967296", r"seed is 4294967296\. .* less than 4294967296"),
    # A YAML 1.1 number in base 60, too long to be written in base 10
    "seed of a thousand digits": ("seed: 1" + 3000 * ":59", "line 1: a number has 9,001 ch"),
    "not a mapping": ("- a\n- b", "holds list, a recipe is a mapping"),
    "text": ("GunPoint", "holds str, a recipe is a mapping"),
    "bad YAML": ("data: [", "is not valid YAML"),
    "unknown key": (
        "seed: 1\nstudnet: {}",
        r"line 2: there is no key studnet\. Did you mean student\? Allowed here: name, .* golden",
    ),
    "unknown key within": (
        "data:\n  train: GunPoint\n  lenght: 3",
        r"line 3: there is no key data\.lenght\. Did you mean length\? Allowed here: train, test",
    ),
    "unknown key without a near one": (
        "data: {zzz: 3}",
        r"line 1: there is no key data\.zzz\. Allowed here: train, test",
    ),
    "unknown training key": (
        "student:\n  training:\n    epoch: 3",
        r"line 3: there is no key student\.training\.epoch\. Did you mean epochs\? "
        "Allowed here: epochs, batch_size, .*precision",
    ),
    "unknown clause": (
        "contract:\n  max_kll: 3",
        r"line 2: there is no key contract\.max_kll\. Did you mean max_kl\? Allowed here: "
        "max_accuracy_drop, .*max_latency_p95_ms",
    ),
    "unknown objective key": (
        "student:\n  objectives:\n    - name: kd\n      weigth: 3",
        r"line 4: there is no key student\.objectives\.0\.weigth\. Did you mean weight\?",
    ),
    "unknown key of a later objective": (
        "student:\n  objectives:\n    - name: kd\n    - name: rkd\n      angel: 3",
        r"line 5: there is no key student\.objectives\.1\.angel\. Did you mean angle\?",
    ),
    "wrong type": ("data:\n  length: long", r"line 2: data\.length is 'long'\. .*valid integer"),
    "text for a section": ("student: small", r"line 1: student is 'small'\. .*valid dictionary"),
    "wrong choice": (
        "teacher:\n  family: fnc",
        r"line 2: teacher\.family is 'fnc'\. Input should be 'lstm', 'fcn', 'resnet', ",
    ),
    "wrong preset": ("preset: papr", r"preset is 'papr'\. Input should be 'default' or 'paper'"),
    "out of range": ("golden: 0", r"golden is 0\. Input should be greater than or equal to 1"),
    "not finite": ("saliency:\n  temperature: .inf", r"line 2: saliency\.temperature is inf\."),
    "no such objective": (
        "student:\n  objectives:\n    - name: kdd",
        r"line 3: student\.objectives\.0 is {'name': 'kdd'}\. .*'kdd'.*'cross_entropy', 'kd', ",
    ),
    "objective without a name": (
        "student:\n  objectives:\n    - weight: 1",
        r"line 3: student\.objectives\.0 is {'weight': 1}\. .*'name'",
    ),
    "a ramp of what must train from the first epoch": (
        "student: {objectives: [{name: xdistillation, ramp: 0.5}]}",
        r"student\.objectives\.0\.ramp is 0\.5\. Input should be less than or equal to 0",
    ),
    "a ramp without an end": (
        "student:\n  objectives:\n    - name: kd\n      start: 0.5\n      ramp: 0.75",
        r"line 5: student\.objectives\.0\.ramp is 0\.75 beside a start of 0\.5\. .*at most 0\.5",
    ),
    "no objective": ("student: {objectives: []}", r"student\.objectives is \[\]\. .*at least 1"),
    "weight below zero": (
        "student: {objectives: [{name: kd, weight: -1}]}",
        r"student\.objectives\.0\.weight is -1\. Input should be greater than 0",
    ),
    "bank below zero": (
        "student: {objectives: [{name: tsd, bank: -1}]}",
        r"student\.objectives\.0\.bank is -1\. Input should be greater than or equal to 0",
    ),
    "a width of maps twice": (
        "student: {objectives: [{name: tsd_maps, widths: [4, 8, 4]}]}",
        r"student\.objectives\.0\.widths is \[4, 8, 4\]\. Name every width once\.",
    ),
    "a map of no steps": (
        "student: {objectives: [{name: tsd_maps, widths: [4, 0]}]}",
        r"student\.objectives\.0\.widths\.1 is 0\. Input should be greater than or equal to 1",
    ),
    "a map over something else": (
        "student: {objectives: [{name: tsd_maps, map: steps}]}",
        r"student\.objectives\.0\.map is 'steps'\. Input should be 'windows' or 'timesteps'",
    ),
    "bank without disk": (
        "student: {objectives: [{name: tsd, bank_mib: 0}]}",
        r"student\.objectives\.0\.bank_mib is 0\. Input should be greater than 0",
    ),
    "one of several weights": (
        "student: {objectives: [{name: kd, weight: [1, -1]}]}",
        r"student\.objectives\.0\.weight\.1 is -1\. Input should be greater than 0",
    ),
    "bounds in the wrong order": (
        "student:\n  objectives:\n    - name: kd\n      weight: {low: 3, high: 2}",
        r"line 4: student\.objectives\.0\.weight\.low must be below high, got 3 and 2\.",
    ),
    "one bound": (
        "student: {objectives: [{name: kd, weight: {low: 3}}]}",
        r"student\.objectives\.0\.weight\.high is {'low': 3}\. Field required",
    ),
    "bound at zero": (
        "student: {objectives: [{name: kd, weight: {low: 0, high: 1}}]}",
        r"student\.objectives\.0\.weight\.low is 0\. Input should be greater than 0",
    ),
    "unknown bound": (
        "student: {objectives: [{name: kd, weight: {low: 1, high: 2, hihg: 3}}]}",
        r"there is no key student\.objectives\.0\.weight\.hihg\. Did you mean high\? "
        r"Allowed here: low, high\.",
    ),
    "no such search": (
        "student: {search: {method: halvig}}",
        r"student\.search\.method is 'halvig'\. Input should be 'full' or 'halving'",
    ),
    "unknown key of the search": (
        "student: {search: {etha: 2}}",
        r"there is no key student\.search\.etha\. Did you mean eta\? "
        r"Allowed here: method, points, eta, first\.",
    ),
    "nobody left behind": (
        "student: {search: {eta: 1}}",
        r"student\.search\.eta is 1\. Input should be greater than or equal to 2",
    ),
    "no such precision": (
        "optimize: {precisions: [fp31]}",
        r"optimize\.precisions\.0 is 'fp31'\. Input should be 'fp32', 'fp16', 'bf16', 'int8' ",
    ),
    "a precision that no runtime has": (
        "optimize:\n  precisions: [fp32, bf16]",
        r"line 2: optimize\.precisions cannot all be made\. None of these runtimes has a form of "
        r"bf16: onnxruntime has fp32, fp16, int8, w8a16\.",
    ),
    "a batch of nothing": (
        "optimize: {runtimes: [tensorrt], batch: 0}",
        r"optimize\.batch is 0\. Input should be greater than or equal to 1",
    ),
    "training refused": (
        "student:\n  training:\n    clip: 1\n    epochs: 0",
        r"line 4: student\.training\.epochs must be at least 1, got 0\.",
    ),
    "clause refused": (
        "contract:\n  max_kl: .inf",
        r"line 2: contract\.max_kl is inf; give a number or null\.",
    ),
    "no such target": ("target: toaster", r": There is no target 'toaster'\."),
    "key that is no text": ("1: 2", r"1 is 1\. Keys should be strings"),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_error_of_an_invalid_recipe(tmp_path, text, message):
    """With file, value and allowed values; each error once."""
    path = tmp_path / "recipe.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=message) as error:
        config.load(path)

    assert str(error.value).startswith(str(path))
    assert str(error.value).count(str(path)) == 1
    assert error.value.exit_code == 2


def test_all_errors_are_reported_at_once():
    with pytest.raises(ConfigError) as error:
        config.parse("seed: x\ndata:\n  trian: GunPoint\nstudent:\n  training:\n    epochs: 0")

    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in sorted(lines)] == [
        "recipe, line 1",
        "recipe, line 3",
        "recipe, line 6",
    ]


@pytest.mark.parametrize("make", [None, Path.mkdir, lambda path: path.write_bytes(b"\xff\xfe")])
def test_unreadable_file_is_an_error(tmp_path, make):
    path = tmp_path / "recipe.yaml"
    if make is not None:
        make(path)

    with pytest.raises(
        ConfigError, match=r"Cannot read the recipe .*recipe\.yaml.* Check the path"
    ):
        config.load(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("student.width", r"--set takes a\.b=value, got 'student\.width'"),
        ("=3", r"--set takes a\.b=value, got '=3'"),
        ("seed=[1", "--set seed is not valid YAML"),
        ("seed.a=1", r"--set seed\.a=1: seed holds 5, so it has no keys"),
        ("student.widht=3", r"recipe: there is no key student\.widht\. Did you mean width\?"),
        ("student.training.epochs=0", r"recipe: student\.training\.epochs must be at least 1"),
        ("student.width=wide", r"recipe: student\.width is 'wide'"),
    ],
)
def test_error_of_an_invalid_setting(setting, message):
    with pytest.raises(ConfigError, match=message):
        config.parse("seed: 5", [setting])


PRUNED = "student: {prune_from_teacher: {}, "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher: {source: a.onnx}\n" + PRUNED + "width: 8}", r"a\.onnx is brought"),
        (PRUNED + "family: resnet}", "prunes fcn or lstm, not resnet"),
        (PRUNED + "width: 64}", "width 64, the student fcn of depth 3 and width 64"),
        (PRUNED + "depth: 2}", "the student fcn of depth 2 and width 16"),
        (PRUNED + "family: lstm}", "the teacher is fcn of depth 3 and width 64, the student lstm"),
        (PRUNED + "objectives: [{name: xdistillation}]}", "predicts no map as the objective xdist"),
        ("student: {prune_from_teacher: {untl: 1}}", "no key student.prune_from_teacher.untl. Did"),
        ("student: {prune_from_teacher: {until: 0}}", "student.prune_from_teacher.until is 0"),
    ],
    ids=str,
)
def test_student_that_cannot_be_pruned_from_its_teacher_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(text)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[walk, run]", ("walk", "run")),
        ("[2, 10, 1.5]", ("2", "10", "1.5")),
        ("['no', \"yes\"]", ("no", "yes")),
    ],
)
def test_class_names_of_a_teacher_are_text_or_numbers(text, names):
    recipe = config.parse(f"teacher: {{source: m.onnx, class_names: {text}}}")

    assert recipe.teacher.class_names == names
    assert config.parse(config.dump(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{source: m.onnx, class_names: ['a', no]}", "reads yes, no, on and off as False. Put it"),
        ("{source: m.onnx, class_names: [a]}", "teacher.class_names"),
        ("{source: m.onnx, class_names: walk}", "teacher.class_names"),
    ],
)
def test_class_names_that_name_no_columns_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(f"teacher: {text}")


def test_pruning_is_checked_in_whole_recipes_only():
    """A part of a plan, parsed alone, may belong to another teacher."""
    text = PRUNED + "family: lstm}"

    assert config.parse(text, is_complete=False).student.prune_from_teacher is not None
    whole = config.parse(f"teacher: {{family: lstm}}\n{text}")
    assert whole.student.prune_from_teacher == PruneSection()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("true", RecoverSection()),
        ("{}", RecoverSection()),
        ("{epochs: 3, target: student}", RecoverSection(epochs=3, target="student")),
        ("false", None),
        ("null", None),
    ],
)
def test_recovery_is_a_switch_or_settings(given, expected):
    found = config.parse(f"optimize: {{search: {{}}, recover: {given}}}").optimize

    assert found.recover == expected
    assert found.search == NodeSearchSection()
    assert config.parse(config.dump(Recipe(optimize=found))).optimize == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recover: true", r"Set optimize\.search too, or leave recover out"),
        ("search: {budget_s: 0}", "optimize.search.budget_s is 0"),
        ("search: {budgets: 1}", "no key optimize.search.budgets. Did you mean budget_s"),
        ("search: {}, recover: {target: me}", "optimize.recover.target is 'me'"),
    ],
)
def test_invalid_search_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        config.parse(f"optimize: {{{text}}}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["student.source=Net"], "package.module:factory"),
        (["student.arguments={width: 3}"], "none is named"),
        (["teacher.arguments={width: 3}"], "none is named"),
        (["student.source=nets:Net", "student.prune_from_teacher={}"], "prune_from_teacher knows"),
        (["student.source=nets:Net", "teacher.student_friendly={}"], "student_friendly knows"),
        (
            ["student.source=nets:Net", "student.objectives=[{name: xdistillation}]"],
            "xdistillation knows",
        ),
        (
            ["student.weights=a.safetensors", "student.prune_from_teacher={}"],
            "starts from the teacher, and student.weights",
        ),
        (["student.source=nets:Net", "student.arguments={mode: fast}"], "arguments.mode"),
    ],
)
def test_settings_that_an_own_network_cannot_have_are_refused(settings, message):
    """Texts too: with them, any function of any package could be called."""
    with pytest.raises(ConfigError, match=message):
        config.parse("", settings)
