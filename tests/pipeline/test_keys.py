"""The key of a stage changes with what the stage depends on, and with nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace

import onnx
import pytest

from edgedistill import __version__
from edgedistill.formats.schema import InputSchema, Roles
from edgedistill.io.files import fingerprint, write_json
from edgedistill.pipeline.keys import STAGES, stage_key, student_key
from edgedistill.pipeline.stage_folder import make_stage
from edgedistill.recipe import recipe as config
from edgedistill.recipe.schema import COLUMN_SETTINGS


def changed(recipe, *settings: str):
    """Return the recipe with settings."""
    return config.parse(config.dump(recipe), settings)


def keys(recipe, data) -> dict[str, str]:
    """Return the keys of a run."""
    return {stage: stage_key(stage, recipe, data) for stage in STAGES}


def stages_with_other_keys(recipe, other, data) -> list[str]:
    """Return the stages that are made again under another recipe."""
    before, after = keys(recipe, data), keys(other, data)
    return [stage for stage in STAGES if before[stage] != after[stage]]


@pytest.fixture
def made(recipe, data, stages, tmp_path):
    """A copy of the stage folders, as this recipe made them."""
    for stage in STAGES[:-1]:
        source = stages / stage
        make_stage(
            tmp_path / stage,
            stage_key(stage, recipe, data),
            lambda folder, _, source=source: shutil.copytree(source, folder, dirs_exist_ok=True),
        )
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("seed=1", "teacher"),
        ("teacher.width=10", "teacher"),
        ("saliency.width=3", "teacher"),
        ("references.ceiling=false", "teacher"),
        ("student.width=9", "student"),
        ("student.weights=absent.safetensors", "student"),
        ("optimize.calibration=7", "variants"),
        ("optimize.search={}", "variants"),
        ("optimize.formats=[onnx, ort]", "variants"),
        ("optimize.prefer=latency", "result"),
        ("contract.max_kl=3", "result"),
        ("golden=9", "result"),
    ],
)
def test_a_setting_changes_the_first_stage_that_reads_it_and_all_after_it(
    recipe, data, setting, first
):
    other = changed(recipe, setting)

    assert stages_with_other_keys(recipe, other, data) == list(STAGES[STAGES.index(first) :])


def test_other_series_change_every_key(recipe, data):
    other = replace(data, fingerprint="other")

    assert keys(recipe, data).keys() == keys(recipe, other).keys()
    assert not set(keys(recipe, data).values()) & set(keys(recipe, other).values())


def test_key_is_of_the_chain_of_stages(recipe, data):
    """Spelled out, because folders of earlier versions have such keys."""
    values = recipe.to_dict()
    optimize = [values["optimize"][n] for n in ("precisions", "calibration", "runtimes", "batch")]
    chain = [__version__, data.fingerprint, recipe.seed]
    later = {"source", "weights", "arguments"}
    teacher = {k: v for k, v in values["teacher"].items() if k not in {"class_names", "arguments"}}
    student = {k: v for k, v in values["student"].items() if k not in later}
    chain += ["teacher", [teacher, values["saliency"], values["references"], []]]
    chain += ["student", [student], "model", [], "variants", optimize]

    assert stage_key("variants", recipe, data) == fingerprint(chain)
    settings = {k: v for k, v in values["data"].items() if k not in {*COLUMN_SETTINGS, "unlabeled"}}
    result = {**values, "data": settings, "teacher": teacher, "student": student}
    assert stage_key("result", recipe, data) == fingerprint([*chain, "result", [result]])


def test_names_of_columns_change_the_result(recipe, data):
    """The bundle carries them, though the arrays are equal."""
    named = [
        replace(data, schema=InputSchema(layout="wide", header=True, roles=Roles(label=name)))
        for name in ("state", "target")
    ]
    first, second = (keys(recipe, one) for one in named)

    assert [stage for stage in STAGES if first[stage] != second[stage]] == ["result"]


def test_contract_of_a_search_changes_the_variants(recipe, data):
    """A folder of variants made under one contract does not stand for another."""
    searching = changed(recipe, "optimize.search={}")
    other = changed(searching, "contract.min_agreement=0.99")

    assert stages_with_other_keys(searching, other, data) == ["variants", "result"]


def test_teacher_depends_on_the_student_only_with_branches(recipe, data):
    wider, objectives = "student.width=9", "student.objectives=[{name: kd}]"
    friendly = "teacher.student_friendly={}"

    def key(*settings: str) -> str:
        return stage_key("teacher", changed(recipe, *settings), data)

    assert key(wider) == key() != key(friendly)
    assert key(friendly, wider) != key(friendly)
    assert key(friendly, objectives) == key(friendly)


def test_files_of_other_teachers_count_by_their_contents(recipe, data, stages, tmp_path):
    """Folders by their weights."""
    folder, file = tmp_path / "second", tmp_path / "third.onnx"
    shutil.copytree(stages / "teacher", folder)
    shutil.copyfile(stages / "model" / "student.onnx", file)
    sources = f"['{folder}', '{file}']"
    ensemble = changed(recipe, f"student.objectives=[{{name: ensemble, sources: {sources}}}]")

    def key() -> str:
        return stage_key("student", ensemble, data)

    first = key()
    (folder / "teacher.json").write_text("not of the network")
    assert key() == first
    (folder / "weights.safetensors").write_bytes(b"other")
    second = key()
    model = onnx.load(file)
    model.producer_name = "other"
    onnx.save(model, file)
    assert len({first, second, key()}) == 3


def test_folders_that_the_recipe_makes_are_named_by_the_recipe(recipe, data, made):
    """So a stage made by its own command has the key that it has in a run."""
    inputs = {
        "student": {"teacher": made / "teacher"},
        "model": {"student": made / "student"},
        "variants": {"model": made / "model" / "student.onnx", "teacher": made / "teacher"},
        "result": {name: made / name for name in ("teacher", "student", "variants")},
    }

    for stage, folders in inputs.items():
        assert stage_key(stage, recipe, data, folders) == stage_key(stage, recipe, data), stage


def test_folders_of_another_recipe_count_by_their_contents(recipe, data, made):
    """Also where one was changed by hand."""
    other = changed(recipe, "teacher.width=10")
    inputs = {"model": made / "model" / "student.onnx"}
    foreign = stage_key("variants", other, data, inputs)
    own = stage_key("variants", recipe, data, inputs)

    inputs["model"].write_bytes(b"other")

    assert foreign != stage_key("variants", other, data)
    assert stage_key("variants", other, data, inputs) != foreign
    assert stage_key("variants", recipe, data, inputs) != own


def test_student_of_a_foreign_teacher_depends_on_its_outputs_alone(recipe, data, made):
    other = changed(recipe, "teacher.width=10")
    teacher = made / "teacher"
    key = stage_key("student", other, data, {"teacher": teacher})

    write_json(teacher / "teacher.json", {"name": "renamed"})

    assert key == student_key(recipe, data, teacher)
    assert key == stage_key("student", recipe, data, {"teacher": teacher})
    (teacher / "knowledge.npz").write_bytes(b"other")
    assert key != stage_key("student", recipe, data, {"teacher": teacher})


def test_options_change_the_key(recipe, data):
    with_saliency = stage_key("model", recipe, data, options={"plan": {}})

    assert with_saliency != stage_key("model", recipe, data)
