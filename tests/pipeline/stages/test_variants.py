"""The variant stage: what stands in its folder, after a search and a recovery too."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import onnx
import pytest
import torch

from edgedistill.evaluation.evaluate import evaluate
from edgedistill.export.export import export
from edgedistill.io.files import read_json
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.execution import logits
from edgedistill.optimize.optimize import (
    MIXED_VARIANT,
    RECOVERED_VARIANT,
    RECOVERY_JSON,
    SEARCH_JSON,
    SEARCH_PNG,
    search_variants,
)
from edgedistill.optimize.quantization import calibration
from edgedistill.optimize.quantization.calibration import observe
from edgedistill.optimize.variant_folder import VARIANTS, open_variants
from edgedistill.pipeline.run_folder import ONNX, TEACHER_OUTPUTS
from edgedistill.pipeline.stages.evaluate import evaluate_all
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.pipeline.stages.variants import (
    CALIBRATION,
    candidate_evaluator,
    make_variants,
    search_plan,
)
from edgedistill.recipe import recipe as config
from edgedistill.recipe.schema import NodeSearchSection, RecoverSection
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training import networks

pytestmark = pytest.mark.slow


def searched_folder(recipe, data, stages, out, model=None):
    """Add what a recipe searches to a folder of variants."""
    plan = search_plan(recipe, data, stages / "teacher")
    model = model or stages / "model" / ONNX
    return search_variants(model, data.train.x, out, out.parent / "work", plan)


def test_the_variants_are_those_of_the_recipe(data, stages):
    models = open_variants(stages / "variants")

    assert [(m.name, m.precision) for m in models] == [("ort-fp32", "fp32"), ("ort-int8", "int8")]
    _, facts = networks.open_network(stages / "student")
    for model in models:
        assert logits(model.path, data.test.x).shape == (len(data.test.y), 2)
        assert 0 < model.parameters <= facts["cost"]["parameters"]  # batch norm is folded in
    listed = json.loads((stages / "variants" / VARIANTS).read_text())
    assert listed["calibration"] == {
        "series": len(data.train.y),
        "sha256": sha256(data.train.x.tobytes()).hexdigest(),
    }


def test_the_runtimes_and_the_batch_are_those_of_the_recipe(recipe, data, stages, tmp_path):
    """Every runtime gets its files, and TensorRT's take the batch that is asked for."""
    both = config.parse(
        config.dump(recipe),
        [
            "optimize.runtimes=[tensorrt, onnxruntime]",
            "optimize.precisions=[bf16, int8]",
            "optimize.batch=2",
        ],
    )

    make_variants(both, data, None, stages / "model" / ONNX, tmp_path, tmp_path / ".work" / "v")

    models = open_variants(tmp_path)
    assert [(m.name, m.runtime) for m in models] == [
        *(("trt-bf16", "tensorrt"), ("trt-int8", "tensorrt"), ("ort-int8", "onnxruntime"))
    ]
    inputs = [onnx.load(m.path).graph.input[0].type.tensor_type.shape.dim[0] for m in models]
    assert [dim.dim_value for dim in inputs] == [2, 2, 0]


def test_typed_variants_report_start_and_end(recipe, data, stages, tmp_path):
    heard = []

    make_variants(
        *(recipe, data, None, stages / "model" / ONNX, tmp_path, tmp_path / ".work" / "v"),
        lambda *told: heard.append(told),
    )

    assert heard == [("optimize", 0, 1), ("optimize", 1, 1)]


@pytest.fixture
def asked(monkeypatch):
    """How often a model was really run to see its values."""
    found = []

    def counted(model, series):
        found.append(len(series))
        return observe(model, series)

    monkeypatch.setattr(calibration, "observe", counted)
    return found


def test_ranges_outlive_the_stage(recipe, data, stages, asked, tmp_path):
    """A second run reads what the first one saw, and so does a search for the same model."""
    section = recipe.optimize.model_copy(update={"search": NodeSearchSection(budget_s=0.001)})
    searching = recipe.model_copy(update={"optimize": section})
    written = []
    for name, asks, teacher in (
        ("first", recipe, None),
        ("second", recipe, None),
        ("searched", searching, stages / "teacher"),
    ):
        out, work = tmp_path / name, tmp_path / ".work" / name
        out.mkdir()
        work.mkdir(parents=True)
        make_variants(asks, data, teacher, stages / "model" / ONNX, out, work)
        written.append((out / "ort-int8.onnx").read_bytes())

    assert len(asked) == len(list((tmp_path / ".work" / CALIBRATION).iterdir())) == 1
    assert written[0] == written[1] == written[2]
    assert (tmp_path / "searched" / "search.json").exists()


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
    return out, searched_folder(searching, data, stages, out)


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
    outputs = TeacherOutputs.open(stages / "teacher" / TEACHER_OUTPUTS)
    teacher = outputs.splits["validation"]
    plan = perturbation_plan(recipe, data.length)
    path = out / "ort-int8.onnx"

    found = candidate_evaluator(recipe, data, outputs)(path)

    split = data.validation
    expected = evaluate(OrtRuntime(path), split.x, split.y, teacher, plan)
    for name, estimate in expected.estimates.items():
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

    found = searched_folder(easy, data, stages, out)

    assert not found.complete
    assert [model.name for model in open_variants(out)] == ["ort-fp32", "ort-int8"]
    assert not (out / f"{MIXED_VARIANT}.onnx").exists()
    assert (out / SEARCH_JSON).exists()


def test_without_a_search_nothing_happens(recipe, data, stages, tmp_path):
    assert search_plan(recipe, data, stages / "teacher") is None

    work = tmp_path / ".work" / "variants"
    make_variants(recipe, data, stages / "teacher", stages / "model" / ONNX, tmp_path, work)

    assert [model.name for model in open_variants(tmp_path)] == ["ort-fp32", "ort-int8"]
    assert not (tmp_path / SEARCH_JSON).exists()


@pytest.fixture
def run(recipe, data, stages, tmp_path):
    """Search and recover in a copy of the variants; return their folder."""

    def searched(section: RecoverSection, model=stages / "model" / ONNX, **search):
        out = tmp_path / "variants"
        shutil.copytree(stages / "variants", out, dirs_exist_ok=True)
        updated = {"search": NodeSearchSection(**search), "recover": section}
        optimize = recipe.optimize.model_copy(update=updated)
        asked = recipe.model_copy(update={"optimize": optimize})
        searched_folder(asked, data, stages, out, model)
        return out

    return searched


@pytest.mark.parametrize("target", ["teacher", "student"])
def test_what_is_better_is_one_more_variant(run, target):
    """The student of two epochs has much to learn: with more, INT8 comes nearer to the teacher."""
    section = RecoverSection(epochs=15, learning_rate=0.01, target=target, always=True)

    out = run(section)

    found = read_json(out / RECOVERY_JSON)
    names = [model.name for model in open_variants(out)]
    assert found["taken"] == (RECOVERED_VARIANT in names)
    assert found["taken"] == (found["reason"] is None)
    assert len(found["search"]["candidates"]) >= 3
    if target == "teacher":
        assert found["taken"]
        assert found["after"]["estimates"]["kl"][0] < found["before"]["estimates"]["kl"][0]


@pytest.mark.parametrize(
    ("learning_rate", "reason"),
    [
        (3.0, "and breaks the threshold <= 50"),  # ruins the student
        (1e-12, "INT8 is not nearer to the teacher"),  # leaves it as it was
    ],
)
def test_what_is_no_better_is_not_kept(run, learning_rate, reason):
    """The model before stays, and it is said why."""
    out = run(RecoverSection(epochs=2, learning_rate=learning_rate, always=True))

    found = read_json(out / RECOVERY_JSON)
    assert not found["taken"]
    assert reason in found["reason"]
    assert RECOVERED_VARIANT not in [model.name for model in open_variants(out)]


def test_what_keeps_the_contract_is_left_alone(run):
    out = run(RecoverSection(epochs=1))

    assert read_json(out / RECOVERY_JSON) == {
        "taken": False,
        "reason": "plain INT8 keeps the contract",
    }


def test_an_lstm_is_skipped_with_a_reason(run, data, tmp_path):
    path = tmp_path / "lstm.onnx"
    torch.manual_seed(0)
    _, channels, length = data.train.x.shape
    spec = ModelSpec(family="lstm", width=8, depth=1)
    module = build(spec, channels=channels, classes=2, length=length)
    export(module.eval(), path, data.validation.x)

    out = run(RecoverSection(epochs=1, always=True), model=path)

    found = read_json(out / RECOVERY_JSON)
    assert not found["taken"]
    assert "An LSTM measures the ranges" in found["reason"]
