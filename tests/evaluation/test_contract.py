"""The contract: what is measured for it, and how it is judged."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from edgedistill.errors import ConfigError, ShapeError, UsageError
from edgedistill.evaluation import contract, metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.saliency.occlusion import Explanation

NOTHING = dict.fromkeys(field.name for field in dataclasses.fields(Contract))  # all clauses off


def _said(rng, samples=40, windows=12):
    arrays = rng.normal(size=(samples, 3)), *rng.normal(size=(2, samples, windows))
    return Explanation(*(array.astype(np.float32) for array in arrays))


def _judged(threshold, estimate, *, clause="min_agreement"):
    measured = {clause.split("_", 1)[1]: Estimate(*estimate)}
    return contract.judge(Contract(**{**NOTHING, clause: threshold}), measured)[0]


@pytest.mark.parametrize(
    ("clause", "value", "passed"),
    [
        ("min_agreement", 0.91, True),
        ("min_agreement", 0.90, True),
        ("min_agreement", 0.89, False),
        ("max_kl", 0.91, False),
        ("max_kl", 0.90, True),
        ("max_kl", 0.89, True),
        ("min_agreement", math.nan, False),
        ("max_kl", math.nan, False),
    ],
)
def test_clause_passes_on_the_right_side(clause, value, passed):
    """The threshold itself is kept; what could not be measured is not."""
    found = _judged(0.9, (value, value, value), clause=clause)

    assert found.passed is passed
    assert found.name == clause.split("_", 1)[1]
    assert found.comparison == (">=" if clause.startswith("min") else "<=")
    assert found.threshold == 0.9


@pytest.mark.parametrize(
    ("estimate", "decided"),
    [
        ((0.95, 0.91, 0.99), True),
        ((0.95, 0.90, 0.99), True),
        ((0.95, 0.85, 0.99), False),
        ((0.85, 0.80, 0.95), False),
        ((0.85, 0.80, 0.89), True),
        ((0.95, 0.95, 0.95), True),
    ],
)
def test_threshold_inside_the_interval_is_undecided(estimate, decided):
    """Passed or not, more series could decide otherwise."""
    assert _judged(0.9, estimate).decided is decided


def test_message_has_outcome_and_margin():
    """Kept, broken, and undecided."""
    kept, broken, open_ = (
        _judged(0.9, estimate).message()
        for estimate in ((0.95, 0.91, 0.99), (0.8, 0.7, 0.85), (0.8, 0.7, 0.95))
    )

    assert kept == "agreement is 0.95 and keeps the threshold >= 0.9 by 0.05"
    assert broken == "agreement is 0.8 and breaks the threshold >= 0.9 by 0.1"
    assert open_ == broken + ", undecided: the threshold is inside the interval"


def test_judge_gives_a_clause_for_every_threshold_that_is_set():
    """In the order of the contract; `None` switches one off."""
    measured = {
        name.split("_", 1)[1]: Estimate(0.5, 0.4, 0.6) for name in (*NOTHING, "min_unrelated")
    }

    every = contract.judge(Contract(max_size_bytes=1e6, max_latency_p95_ms=2), measured)
    default = contract.judge(Contract(), measured)

    assert [clause.name for clause in every] == [name.split("_", 1)[1] for name in NOTHING]
    assert [clause.name for clause in default] == [clause.name for clause in every][:5]
    assert contract.judge(Contract(**NOTHING), {}) == ()


def test_clause_that_was_not_measured_is_a_usage_error():
    """The message names the clause as the recipe does."""
    with pytest.raises(
        UsageError,
        match=r"sets max_size_bytes, but size_bytes was not measured.*contract\.max_size_bytes",
    ):
        contract.judge(Contract(**{**NOTHING, "max_size_bytes": 10}), {})


def test_verdict_needs_every_clause():
    """One broken clause breaks the contract; no clause, nothing to break."""
    good, bad = _judged(0.9, (0.95, 0.9, 1)), _judged(0.9, (0.85, 0.8, 0.95))

    assert contract.verdict((good, good)) == contract.verdict(()) == "kept"
    assert contract.verdict((good, bad)) == "broken"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "0.9"])
def test_threshold_that_is_no_number_is_refused(value):
    """NaN above all: every comparison with it is false."""
    with pytest.raises(ConfigError, match=r"contract\.max_kl is .*; give a number or null"):
        Contract(max_kl=value)


def test_unknown_clause_is_refused():
    """The message names it, and those there are."""
    with pytest.raises(ConfigError, match=r"no clause min_beauty, min_wit\. It knows max_accuracy"):
        Contract.from_dict({"min_wit": 1, "min_beauty": 1, "max_kl": 1})


def test_contract_survives_json():
    """It travels in the bundle."""
    terms = Contract(max_kl=None, max_size_bytes=20_000)

    assert Contract.from_dict(json.loads(json.dumps(dataclasses.asdict(terms)))) == terms


def test_each_measure_is_the_mean_over_series(rng):
    """Each value is the mean of its measure over the series."""
    teacher, student, labels = _said(rng), _said(rng), rng.integers(3, size=40)

    measured = contract.compare(teacher, student, labels)

    maps = teacher.signed, student.signed
    hits = [said.logits.argmax(1) == labels for said in (teacher, student)]
    expected = {
        "accuracy_drop": hits[0].mean() - hits[1].mean(),
        "agreement": (teacher.logits.argmax(1) == student.logits.argmax(1)).mean(),
        "kl": metrics.kl_divergence(teacher.logits, student.logits).mean(),
        "saliency_pearson": metrics.pearson(*maps).mean(),
        "saliency_spearman": metrics.spearman(*maps).mean(),
        "saliency_topk": metrics.top_sign_agreement(*maps).mean(),
    }
    assert {name: found.value for name, found in measured.items()} == pytest.approx(expected)
    assert all(found.low <= found.value <= found.high for found in measured.values())


def test_teacher_keeps_its_own_contract(rng):
    """It matches itself under the strictest thresholds; another model does not."""
    teacher, labels = _said(rng), rng.integers(3, size=40)
    strict = Contract(
        max_accuracy_drop=0,
        min_agreement=1,
        max_kl=0,
        min_saliency_pearson=1 - 1e-9,
        min_saliency_spearman=1 - 1e-9,
    )

    itself, other = (
        contract.judge(strict, contract.compare(teacher, said, labels))
        for said in (teacher, _said(rng))
    )

    assert contract.verdict(itself) == "kept"
    assert contract.verdict(other) == contract.verdict(
        contract.judge(Contract(), contract.compare(teacher, _said(rng), labels))
    )
    assert contract.verdict(other) == "broken"


def test_negative_maps_break_the_contract(rng):
    """Equal predictions with opposite maps do not match."""
    teacher, labels = _said(rng), rng.integers(3, size=40)
    student = dataclasses.replace(teacher, signed=-teacher.signed)

    clauses = contract.judge(Contract(), contract.compare(teacher, student, labels))

    assert [c.name for c in clauses if not c.passed] == ["saliency_pearson", "saliency_spearman"]
    assert clauses[3].measured.value == pytest.approx(-1)


def test_teacher_without_maps_leaves_saliency_out(rng):
    """Then a contract on saliency cannot be judged; the message names the clause to switch off."""
    teacher = dataclasses.replace(_said(rng), signed=np.zeros((40, 12), dtype=np.float32))

    measured = contract.compare(teacher, _said(rng), rng.integers(3, size=40))

    assert sorted(measured) == ["accuracy_drop", "agreement", "kl"]
    with pytest.raises(UsageError, match=r"saliency_pearson was not measured"):
        contract.judge(Contract(), measured)
    plain = Contract(min_saliency_pearson=None, min_saliency_spearman=None)
    assert len(contract.judge(plain, measured)) == 3


def test_sets_that_do_not_pair_are_refused(rng):
    """Another number of series, of labels, or another plan."""
    teacher = _said(rng)

    for student, labels in (
        (_said(rng, samples=39), 40),
        (_said(rng), 39),
        (_said(rng, windows=11), 40),
    ):
        with pytest.raises(ShapeError, match="to compare"):
            contract.compare(teacher, student, np.zeros(labels, dtype=np.int64))
