"""What is measured, on which series, and how the verdict follows."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from edgedistill.device import benchmark
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.pipeline.stages.evaluate import _single_thread_latency, clause_values, evaluate_all
from edgedistill.recipe import recipe as config
from edgedistill.teachers import OnnxClassifier
from edgedistill.teachers.columns import ReorderedClassifier

pytestmark = pytest.mark.slow

CLAUSES = {field.name.split("_", 1)[1] for field in fields(Contract)}


def test_a_kept_contract(outcome):
    """The smallest variant that keeps it on validation series is judged on test series."""
    assert outcome.chosen == outcome.judged_name == "ort-int8"
    assert outcome.is_kept
    assert [clause.name for clause in outcome.clauses] == [
        *("accuracy_drop", "agreement", "kl", "saliency_pearson", "saliency_spearman")
    ]
    assert outcome.explanation is outcome.variants["ort-int8"].evaluation.explanation
    assert len(outcome.explanation.logits) == len(outcome.data.test.y)
    assert outcome.failures == {"ort-fp32": (), "ort-int8": ()}


def test_every_clause_can_be_judged(outcome):
    values = clause_values(outcome.variants["ort-fp32"])

    assert values.keys() >= CLAUSES
    size = next(m.size_bytes for m in outcome.models if m.name == "ort-fp32")
    assert values["size_bytes"].value == size


def test_the_exported_variant_scores_as_the_torch_student(outcome):
    student, fp32 = outcome.student.evaluation, outcome.variants["ort-fp32"].evaluation

    np.testing.assert_allclose(fp32.explanation.logits, student.explanation.logits, atol=1e-4)
    assert fp32.estimates["agreement"] == student.estimates["agreement"]
    assert outcome.student.parameters is not None
    assert outcome.student.unseen is not None
    assert outcome.student.latency is not None


def test_the_references_frame_the_agreement(outcome):
    """An untrained student below, a second teacher above, on the same test series."""
    assert outcome.references.keys() == {"floor", "ceiling"}
    assert outcome.references["floor"].value < outcome.references["ceiling"].value


def test_the_learning_curves_come_along(outcome, recipe):
    assert len(outcome.teacher.history) == recipe.teacher.training.epochs
    assert len(outcome.student.history) == recipe.student.training.epochs


def test_without_a_variant_that_keeps_it_the_nearest_is_judged(recipe, data, stages):
    """The one that breaks the fewest clauses on validation series: here INT8 is small enough."""
    sizes = {path.stem: path.stat().st_size for path in (stages / "variants").glob("*.onnx")}
    assert sizes["ort-int8"] < sizes["ort-fp32"]
    impossible = config.parse(
        config.dump(recipe),
        ["contract.max_kl=-1", f"contract.max_size_bytes={sizes['ort-int8']}"],
    )

    outcome = evaluate_all(
        impossible, data, stages / "teacher", stages / "student", stages / "variants"
    )

    assert outcome.chosen is None
    assert not outcome.is_kept
    assert outcome.judged_name == "ort-int8"
    failed = {name: [c.name for c in broken] for name, broken in outcome.failures.items()}
    assert failed == {"ort-fp32": ["kl", "size_bytes"], "ort-int8": ["kl"]}
    assert [c.name for c in outcome.clauses if not c.passed] == ["kl"]


def test_references_and_preference_follow_the_recipe(recipe, data, stages):
    changed = config.parse(
        config.dump(recipe), ["references.floor=false", "optimize.prefer=latency"]
    )

    outcome = evaluate_all(
        changed, data, stages / "teacher", stages / "student", stages / "variants"
    )

    assert outcome.references.keys() == {"ceiling"}
    assert outcome.chosen in {"ort-fp32", "ort-int8"}


def test_the_unseen_plan_is_another(outcome):
    """Agreement under it is measured anew, not copied."""
    ran = outcome.variants["ort-fp32"]

    assert ran.unseen is not None
    assert ran.unseen != ran.evaluation.estimates["saliency_pearson"]
    trained_on = outcome.teacher_outputs.splits["test"].signed
    assert outcome.teacher_outputs.unseen.signed.shape[1] != trained_on.shape[1]
    expected = metrics.pearson(trained_on, ran.evaluation.explanation.signed).mean()
    assert ran.evaluation.estimates["saliency_pearson"].value == pytest.approx(expected)


def test_an_onnx_teacher_is_timed_on_one_thread(student, series, monkeypatch):
    """As the variants are; also behind what only rearranges its columns."""
    timed = []
    monkeypatch.setattr(benchmark, "measure", lambda found, *_, **__: timed.append(found))
    teacher = OnnxClassifier(student("fcn"), classes=2)

    for classifier in (teacher, ReorderedClassifier(teacher, [1, 0])):
        _single_thread_latency(classifier, series, 10)

    options = [each._session.get_session_options() for each in timed]
    assert [each.intra_op_num_threads for each in options] == [1, 1]
