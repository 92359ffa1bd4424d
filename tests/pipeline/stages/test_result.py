"""From what was measured to the report, and to a bundle if the contract is kept."""

from __future__ import annotations

from dataclasses import fields, replace

import jsonschema
import numpy as np
import pytest

from edgedistill.bundle.drift_reference import features
from edgedistill.bundle.golden import choose_golden
from edgedistill.bundle.reader import open_bundle
from edgedistill.device.runtime import start
from edgedistill.device.validate import validate
from edgedistill.errors import ContractError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import Contract, judge
from edgedistill.io.files import read_json
from edgedistill.optimize.ort_format import to_ort
from edgedistill.pipeline.scoring import Choice
from edgedistill.pipeline.stages.evaluate import clause_values
from edgedistill.pipeline.stages.result import (
    _reference,
    make_report,
    write_bundle,
    write_report,
)
from edgedistill.report import from_json, schema
from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.saliency.occlusion import explain

pytestmark = pytest.mark.slow

IMPOSSIBLE = Contract(**{**dict.fromkeys((f.name for f in fields(Contract)), None), "max_kl": -1.0})


def test_a_bundle_holds_what_a_board_needs(outcome, tmp_path):
    write_bundle(outcome, tmp_path / "bundle.zip")

    with open_bundle(tmp_path / "bundle.zip") as bundle:
        assert bundle.chosen == "ort-int8"
        assert [model.name for model in bundle.models] == ["ort-fp32", "ort-int8"]
        assert bundle.class_names == outcome.data.class_names
        assert bundle.plan == outcome.plan
        golden = bundle.golden()
        seeds = bundle.manifest["provenance"]["seeds"]
    assert len(golden.series) == outcome.recipe.golden
    assert seeds == {"recipe": outcome.recipe.seed}


def test_variants_that_could_not_be_made_are_reported(outcome):
    """Kept or broken, the report lists them with the reason."""
    missing = {"ort-fp16": "No node of this model can compute in FP16."}

    report = make_report(replace(outcome, missing=missing))

    assert report.reasons[-1] == (
        "ort-fp16 was not made: No node of this model can compute in FP16."
    )
    assert make_report(outcome).reasons == report.reasons[:-1]


def test_models_are_tuned_where_the_recipe_asks_for_it(outcome, tmp_path):
    """Every model of ONNX Runtime carries what was found for it; without, none does."""
    section = outcome.recipe.optimize.model_copy(update={"tune": True})
    recipe = outcome.recipe.model_copy(update={"optimize": section})

    write_bundle(outcome, tmp_path / "plain.zip")
    write_bundle(replace(outcome, recipe=recipe), tmp_path / "tuned.zip")

    with open_bundle(tmp_path / "plain.zip") as bundle:
        assert all(model.session is None for model in bundle.models)
    with open_bundle(tmp_path / "tuned.zip") as bundle:
        assert all(isinstance(model.session, SessionSettings) for model in bundle.models)
        assert validate(bundle, runs=10).environment["session"] == str(bundle.model().session)


def test_the_golden_series_are_held_out(outcome, tmp_path):
    """Each is a test series, with the answers of teacher and FP32 student for it."""
    write_bundle(outcome, tmp_path / "bundle.zip")
    with open_bundle(tmp_path / "bundle.zip") as bundle:
        golden = bundle.golden()

    x, teacher = outcome.data.test.x, outcome.teacher_outputs.splits["test"]
    student = outcome.student.evaluation.explanation
    for index, series in enumerate(golden.series):
        row = int(np.flatnonzero((x == series).all(axis=(1, 2)))[0])
        assert golden.labels[index] == outcome.data.test.y[row]
        np.testing.assert_array_equal(golden.teacher.signed[index], teacher.signed[row])
        np.testing.assert_array_equal(golden.student.logits[index], student.logits[row])


def test_a_bundle_holds_what_drift_is_measured_from(outcome, tmp_path):
    """The chosen model on test series; each map explains the class that it predicts."""
    drift = replace(outcome.recipe.drift, min_maps=7)
    told = replace(outcome, recipe=outcome.recipe.model_copy(update={"drift": drift}))

    write_bundle(told, tmp_path / "bundle.zip")

    x = outcome.data.test.x[:500]
    with open_bundle(tmp_path / "bundle.zip") as bundle:
        found, limits = bundle.reference()
        said = explain(start(bundle.model()).logits, x, bundle.plan)
    assert limits == drift
    assert len(found.logits) == len(x)
    order = np.lexsort(found.logits.T), np.lexsort(said.logits.T)
    np.testing.assert_allclose(found.logits[order[0]], said.logits[order[1]], rtol=1e-5)
    np.testing.assert_allclose(found.signed[order[0]], said.signed[order[1]], atol=1e-5)
    np.testing.assert_array_equal(np.sort(found.features, 0), np.sort(features(x), 0))


def test_few_test_series_make_no_reference(outcome, tmp_path):
    """The bundle is made all the same, and cannot be asked for drift."""
    test = outcome.data.test
    few = replace(test, x=test.x[:19], y=test.y[:19])

    assert _reference(replace(outcome, data=replace(outcome.data, test=few))) is None
    assert _reference(outcome) is not None


@pytest.mark.parametrize("how", ["nothing chosen", "broken on the test split"])
def test_a_broken_contract_is_not_bundled(outcome, tmp_path, how):
    if how == "nothing chosen":
        broken = replace(outcome, choice=None)
    else:
        values = clause_values(outcome.variants[outcome.judged_name])
        broken = replace(outcome, clauses=judge(Contract(max_kl=-1.0), values))

    with pytest.raises(ContractError, match="Nothing is bundled, because the contract is broken"):
        write_bundle(broken, tmp_path / "bundle.zip")

    assert list(tmp_path.iterdir()) == []


def under(outcome, *, golden: int, **clauses: float):
    """Return the outcome with another golden set and contract, which it is said to keep."""
    nothing = dict.fromkeys((field.name for field in fields(Contract)), None)
    changed = {"golden": golden, "contract": Contract(**{**nothing, **clauses})}
    return replace(outcome, recipe=outcome.recipe.model_copy(update=changed))


def test_more_series_travel_where_a_few_would_break_the_contract(outcome, tmp_path):
    """A mean over few series may break a threshold that the mean over all keeps."""
    teacher, said = outcome.teacher_outputs.splits["test"], outcome.explanation
    kl = metrics.kl_divergence(teacher.logits, said.logits)
    order = (
        outcome.data.test.y,
        metrics.agrees(teacher.logits, said.logits),
        metrics.pearson(teacher.signed, said.signed),
    )
    threshold = kl.mean() * 1.0001
    few = next(n for n in range(1, 15) if kl[choose_golden(*order, n)].mean() > threshold)

    write_bundle(under(outcome, golden=few, max_kl=threshold), tmp_path / "bundle.zip")

    with open_bundle(tmp_path / "bundle.zip") as bundle:
        assert len(bundle.golden().series) > few
        assert validate(bundle, runs=10).verdict == "kept"


def test_a_bundle_that_no_board_would_find_kept_is_not_left(outcome, tmp_path):
    with pytest.raises(ContractError, match="its bundle does not when it is validated"):
        write_bundle(under(outcome, golden=8, max_kl=-1.0), tmp_path / "bundle.zip")

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken_on_test(outcome):
    """A variant that was chosen on validation series and then breaks the contract."""
    clauses = judge(IMPOSSIBLE, clause_values(outcome.variants[outcome.judged_name]))
    return replace(outcome, clauses=clauses)


@pytest.fixture
def broken(outcome, broken_on_test):
    """No variant kept the contract on validation series."""
    validation = dict.fromkeys(outcome.variants, broken_on_test.clauses)
    return replace(broken_on_test, choice=None, validation=validation)


def test_three_files_say_the_same(outcome, tmp_path):
    report = write_report(outcome, tmp_path)

    values = read_json(tmp_path / "report.json")
    jsonschema.validate(values, schema())
    assert from_json(values) == report
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert "kept" in text
        assert "ort-int8" in text


def test_a_kept_contract_needs_no_reasons(outcome):
    report = make_report(outcome)

    assert (report.verdict, report.chosen, report.reasons) == ("kept", "ort-int8", ())
    assert report.name == "ItalyPowerDemand"


def test_the_reasons_of_a_contract_that_broke_on_test_series(broken_on_test):
    report = make_report(broken_on_test)

    assert (report.verdict, report.chosen) == ("broken", "ort-int8")
    assert report.reasons[0] == "ort-int8 kept the contract on the validation split only."
    assert report.reasons[1].startswith("On the test split, kl is ")
    assert len(report.reasons) == 2


def test_the_reasons_of_a_contract_that_nothing_kept(broken):
    report = make_report(broken)

    assert (report.verdict, report.chosen) == ("broken", None)
    for name in ("ort-fp32", "ort-int8"):
        start = f"{name}: on the validation split, kl is "
        assert sum(reason.startswith(start) for reason in report.reasons) == 1


def test_the_teacher_is_not_said_to_agree_with_itself(outcome):
    report = make_report(outcome)

    assert report.teacher is not None
    assert report.teacher.metrics.accuracy is not None
    assert report.teacher.metrics.agreement is None
    assert report.teacher.metrics.saliency.pearson is None
    assert report.student is not None
    assert report.student.metrics.agreement is not None


def test_counts_add_up_to_the_test_split(outcome):
    report, count = make_report(outcome), len(outcome.data.test.y)

    assert report.data is not None
    assert report.data.test == count
    assert report.confusion is not None
    assert report.calibration is not None
    for matrix in (report.confusion.teacher, report.confusion.student):
        assert np.sum(matrix) == count
    assert report.student is not None
    for bins in (report.calibration.teacher, report.calibration.student):
        assert sum(one.count for one in bins) == count
    right = np.trace(report.confusion.student) / count
    chosen = report.judged_candidate()
    assert chosen is not None
    assert chosen.metrics.accuracy is not None
    assert right == pytest.approx(chosen.metrics.accuracy.value)


def test_examples_run_from_best_to_worst(outcome):
    report = make_report(outcome)

    best, median, worst = report.examples
    assert (best.title, worst.title) == ("best agreement", "worst agreement")
    assert best.pearson >= median.pearson >= worst.pearson
    for example in report.examples:
        np.testing.assert_allclose(example.series, outcome.data.test.x[example.index], rtol=1e-6)
        assert len(example.teacher_map) == len(example.student_map) == 24


def test_a_teacher_without_maps_gives_no_examples(outcome):
    silent = replace(outcome, teacher_outputs=replace(outcome.teacher_outputs, maps=False))

    assert make_report(silent).examples == ()


def test_a_name_of_ones_own(outcome):
    named = replace(outcome, recipe=outcome.recipe.model_copy(update={"name": "pump"}))

    assert make_report(named).name == "pump"


def test_the_latency_of_this_machine_breaks_no_bundle(outcome, tmp_path):
    """The run has judged it; exact INT8 on x86 without VNNI is slower than a board's."""
    write_bundle(under(outcome, golden=8, max_latency_p95_ms=1e-6), tmp_path / "bundle.zip")

    with open_bundle(tmp_path / "bundle.zip") as bundle:
        assert validate(bundle, runs=10).verdict == "broken"


def test_an_ort_file_alone_is_bundled_as_a_board_will_find_it(outcome, write_saturating, tmp_path):
    """Its ONNX file in the folder of the variants stands in for it where it would saturate."""
    onnx = write_saturating(tmp_path / "ort-int8.onnx", outcome.data.length)
    to_ort(onnx, tmp_path / "ort-int8.ort", outcome.data.test.x)
    model = replace(
        outcome.models[-1], name="ort-int8-ort", path=tmp_path / "ort-int8.ort", session=None
    )
    exact = explain(OrtRuntime(onnx).logits, outcome.data.test.x, outcome.plan)
    kl = metrics.kl_divergence(outcome.teacher_outputs.splits["test"].logits, exact.logits)
    alone = replace(
        under(outcome, golden=len(kl), max_kl=float(kl.mean()) * 1.0001),
        models=(model,),
        variants={model.name: outcome.variants[outcome.judged_name]},
        choice=Choice(model.name, "the only one"),
    )

    write_bundle(alone, tmp_path / "bundle.zip")

    with open_bundle(tmp_path / "bundle.zip") as bundle:
        kept = validate(bundle, runs=10).verdict == "kept"
    assert kept or instruction_set().saturates
