"""The searched variant stands beside the others, with an account of all that was tried."""

from __future__ import annotations

import shutil

import pytest

from edgedistill.evaluation import contract
from edgedistill.io.files import read_json
from edgedistill.optimize.execution import logits
from edgedistill.pipeline.run_folder import ONNX, TEACHER_OUTPUTS
from edgedistill.pipeline.stages.evaluate import evaluate_all
from edgedistill.pipeline.stages.export import VARIANTS, open_variants
from edgedistill.pipeline.stages.mixed_precision import (
    MIXED_VARIANT,
    SEARCH_JSON,
    SEARCH_PNG,
    candidate_evaluator,
    search_variants,
)
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.recipe.schema import NodeSearchSection
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.teachers.outputs import TeacherOutputs, explain_teacher_class


@pytest.fixture(scope="session")
def searching(recipe):
    """A recipe whose search must come as near to the teacher as the float32 student."""
    section = NodeSearchSection(agreement_loss=0.0, saliency_loss=0.0)
    optimize = recipe.optimize.model_copy(update={"search": section})
    return recipe.model_copy(update={"optimize": optimize})


@pytest.fixture(scope="session")
def searched(searching, data, stages, tmp_path_factory):
    """The folder of variants with the searched one, and what the search said."""
    out = tmp_path_factory.mktemp("searched") / "variants"
    shutil.copytree(stages / "variants", out)
    model, work = stages / "model" / ONNX, out.parent / "work"
    return out, search_variants(searching, data, stages / "teacher", model, out, work)


def test_the_searched_variant_is_one_more(searched, data):
    out, found = searched

    models = {model.name: model for model in open_variants(out)}

    assert list(models) == ["ort-fp32", "ort-int8", MIXED_VARIANT]
    assert models[MIXED_VARIANT].parameters == models["ort-fp32"].parameters
    assert models[MIXED_VARIANT].precision == ("mixed" if found.chosen.setting.keep else "int8")
    assert logits(models[MIXED_VARIANT].path, data.test.x).shape == (len(data.test.y), 2)
    listed = read_json(out / VARIANTS)["variants"][-1]
    assert (
        listed["size_bytes"] == models[MIXED_VARIANT].path.stat().st_size == found.chosen.size_bytes
    )


def test_it_competes_with_the_others(searched, searching, data, stages):
    """Measured, judged and reported like every variant."""
    out, _ = searched

    outcome = evaluate_all(searching, data, stages / "teacher", stages / "student", out)

    assert MIXED_VARIANT in outcome.variants
    assert MIXED_VARIANT in outcome.failures


def test_the_account_names_every_candidate(searched):
    out, found = searched

    account = read_json(out / SEARCH_JSON)

    assert len(account["candidates"]) == len(found.candidates) >= 3
    assert account["chosen"]["keep"] == sorted(found.chosen.setting.keep)
    assert account["kept"] == found.is_kept
    assert account["contract"]["min_agreement"] == found.terms.min_agreement
    assert all(set(each) > {"broken", "undecided", "kept"} for each in account["candidates"])
    assert {each["node"] for each in account["sensitivity"]} == {
        "Conv_0",
        "Conv_1",
        "Conv_2",
        "Gemm_0",
    }
    assert (out / SEARCH_PNG).read_bytes().startswith(b"\x89PNG")


def test_candidates_are_held_against_the_teacher(searched, recipe, data, stages):
    """The numbers are those of the contract, on validation series."""
    out, _ = searched
    teacher = TeacherOutputs.open(stages / "teacher" / TEACHER_OUTPUTS).splits["validation"]
    plan = perturbation_plan(recipe, data.length)
    path = out / "ort-int8.onnx"

    found = candidate_evaluator(recipe, data, stages / "teacher")(path)

    said = explain_teacher_class(OrtRuntime(path), data.validation.x, plan, teacher)
    expected = contract.compare(teacher, said, data.validation.y)
    for name, estimate in expected.items():
        assert found[name].value == pytest.approx(estimate.value, abs=1e-4)
    assert found["latency_p50_ms"].value > 0


def test_what_is_there_already_is_no_variant_twice(recipe, data, stages, tmp_path):
    """An easy contract, and minmax may be what is nearest: then the search took `ort-int8`."""
    out = tmp_path / "variants"
    shutil.copytree(stages / "variants", out)
    section = NodeSearchSection(budget_s=1e-9)  # the float model and minmax alone
    easy = recipe.model_copy(
        update={"optimize": recipe.optimize.model_copy(update={"search": section})}
    )

    found = search_variants(
        easy, data, stages / "teacher", stages / "model" / ONNX, out, tmp_path / "work"
    )

    assert not found.complete
    assert [model.name for model in open_variants(out)] == ["ort-fp32", "ort-int8"]
    assert not (out / f"{MIXED_VARIANT}.onnx").exists()
    assert (out / SEARCH_JSON).exists()


def test_without_a_search_nothing_happens(recipe, data, stages, tmp_path):
    assert search_variants(recipe, data, stages / "teacher", stages, tmp_path, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
