"""What a variant is worth, and which one is taken."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from edgedistill.data import Prepared, load, prepare
from edgedistill.errors import UsageError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.evaluate import Evaluation, evaluate
from edgedistill.evaluation.metrics import Estimate
from edgedistill.pipeline.scoring import choose, with_report_estimates, without_latency
from edgedistill.saliency import occlusion
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import default_plan

pytestmark = pytest.mark.slow

NOTHING = dict.fromkeys((field.name for field in fields(Contract)), None)
AGREEING = Contract(**{**NOTHING, "min_agreement": 0.9})


def said(logits: np.ndarray) -> Explanation:
    """Answers without maps."""
    return Explanation(logits, *np.zeros((2, len(logits), 3), dtype=np.float32))


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def variant(agreement: float, size: int, latency: float) -> dict[str, Estimate]:
    return {
        "agreement": exactly(agreement),
        "size_bytes": exactly(size),
        "latency_p50_ms": exactly(latency),
    }


VARIANTS = {
    "fp32": variant(0.99, 4000, 0.20),
    "fp16": variant(0.95, 2000, 0.30),
    "int8": variant(0.80, 1000, 0.10),
}


@pytest.mark.parametrize(("prefer", "taken"), [("size", "fp16"), ("latency", "fp32")])
def test_the_smallest_or_fastest_that_keeps_the_contract(prefer, taken):
    """INT8 is smallest and fastest, but breaks it."""
    assert choose(VARIANTS, AGREEING, prefer).name == taken


@pytest.mark.parametrize("prefer", ["size", "latency"])
def test_a_contract_without_clauses_takes_the_best(prefer):
    assert choose(VARIANTS, Contract(**NOTHING), prefer).name == "int8"


@pytest.mark.parametrize(("prefer", "taken"), [("size", "small"), ("latency", "timed")])
def test_what_was_not_timed_comes_last_where_time_counts(prefer, taken):
    """And where only such variants are left, the smallest is taken."""
    untimed = {"small": variant(1.0, 500, 0.0), "large": variant(1.0, 900, 0.0)}
    for values in untimed.values():
        del values["latency_p50_ms"]

    assert choose({**untimed, "timed": VARIANTS["fp32"]}, AGREEING, prefer).name == taken
    assert choose(untimed, AGREEING, prefer).name == "small"


def test_the_clause_on_latency_waits_for_the_board():
    """A variant that was not timed is judged by the other clauses, a timed one by all."""
    terms = replace(AGREEING, max_latency_p95_ms=0.1)
    timed = VARIANTS["fp32"] | {"latency_p95_ms": exactly(0.2)}
    untimed = {name: VARIANTS["fp32"][name] for name in ("agreement", "size_bytes")}

    assert without_latency(terms, timed) == terms
    assert without_latency(terms, untimed) == AGREEING
    assert choose({"timed": timed}, terms, "size") is None
    assert choose({"untimed": untimed}, terms, "size").name == "untimed"


def test_none_keeps_the_contract():
    impossible = Contract(**{**NOTHING, "min_agreement": 1.0})

    assert choose(VARIANTS, impossible, "size") is None


@pytest.mark.parametrize("prefer", ["size", "latency"])
def test_the_other_measure_breaks_ties(prefer):
    equal = {
        "slow": variant(1, 1000, 0.3),
        "fast": variant(1, 1000, 0.1),
        "big": variant(1, 9000, 0.1),
    }

    assert choose(equal, AGREEING, prefer).name == "fast"


# Agreement, size and latency: of demo runs, and of a processor whose INT8 is fast.
BALANCED = {
    "INT8 is farther and no faster": (
        {"fp32": (0.99, 18.8, 0.067), "fp16": (0.99, 10.2, 0.0453), "int8": (0.985, 7.5, 0.0461)},
        "fp16",
    ),
    "INT8 is farther, but faster": (
        {"fp32": (0.99, 18.8, 0.067), "fp16": (0.99, 10.2, 0.066), "int8": (0.985, 7.5, 0.034)},
        "int8",
    ),
    "faster by less than the noise of a clock": (
        {"fp16": (0.99, 10.2, 0.0453), "int8": (0.985, 7.5, 0.0440)},
        "fp16",
    ),
    "FP16 is farther by rounding alone": (
        {"fp32": (0.9903, 18.8, 0.0449), "fp16": (0.99, 10.2, 0.0453)},
        "fp16",
    ),
    "FP32 breaks a clause on size": (
        {"fp32": (0.99, 99.0, 0.03), "int8": (0.985, 7.5, 0.04)},
        "int8",
    ),
    "nearest, smallest and fastest": (
        {"fp32": (0.98, 18.8, 0.067), "int8": (0.99, 7.5, 0.034)},
        "int8",
    ),
}


@pytest.mark.parametrize(("measured", "taken"), BALANCED.values(), ids=BALANCED)
def test_balanced_takes_the_smallest_that_none_dominates(measured, taken):
    variants = {name: variant(*values) for name, values in measured.items()}

    terms = replace(AGREEING, max_size_bytes=50)

    assert choose(variants, terms, "balanced").name == taken


@pytest.mark.parametrize("_", range(200))
def test_what_balanced_takes_is_dominated_by_nothing_clearly(rng, _):
    """Better in both by more than the tolerances: no such variant is left aside."""
    variants = {
        f"v{n}": variant(rng.uniform(0.9, 1), rng.uniform(5, 20), rng.uniform(0.04, 0.06))
        for n in range(rng.integers(1, 7))
    }

    taken = variants[choose(variants, AGREEING, "balanced").name]

    for other in variants.values():
        nearer = other["agreement"].value > taken["agreement"].value + 0.001
        faster = taken["latency_p50_ms"].value > 1.05 * other["latency_p50_ms"].value
        assert not (nearer and faster)


def test_the_reason_names_the_rule_and_what_it_cost():
    variants = {
        "fp32": variant(0.99, 18.8, 0.067),
        "fp16": variant(0.99, 10.2, 0.0453),
        "int8": variant(0.985, 7.5, 0.0461),
    }

    assert choose(variants, AGREEING, "balanced").reason == (
        "fp16 is chosen: of the 3 variants that keep the contract on the validation series it is "
        "the smallest that no other one beats in nearness to the teacher and in speed "
        "(optimize.prefer: balanced). int8 is smaller, but farther from the teacher and no faster "
        "than fp16."
    )
    assert choose(variants, AGREEING, "size").reason == (
        "int8 is chosen: of the 3 variants that keep the contract on the validation series it is "
        "the smallest (optimize.prefer: size)."
    )
    alone = choose({"int8": variants["int8"]}, AGREEING, "balanced")
    assert alone.reason == "int8 is chosen: it alone keeps the contract on the validation series."
    for values in variants.values():
        del values["latency_p50_ms"]
    assert (
        "the smallest, since only a board can time" in choose(variants, AGREEING, "latency").reason
    )


def test_a_clause_that_was_not_measured():
    with pytest.raises(UsageError, match=r"set contract\.max_accuracy_drop to null"):
        choose(VARIANTS, Contract(), "size")


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_is_that_of_scikit_learn(rng, classes):
    """The macro average, one class against the rest."""
    labels = rng.integers(classes, size=80)
    logits = rng.normal(size=(80, classes)) + 1.5 * np.eye(classes)[labels]
    scores, truth = metrics.softmax(logits), np.eye(classes, dtype=int)[labels]

    found = with_report_estimates(Evaluation(said(logits), {}), labels).estimates

    expected = average_precision_score(truth, scores, average="macro")
    assert found["auc_prc"].value == pytest.approx(expected)
    expected = roc_auc_score(truth, scores, average="macro")
    assert found["roc_auc"].value == pytest.approx(expected)
    for name in ("auc_prc", "roc_auc"):
        assert found[name].low < found[name].value < found[name].high


@pytest.mark.parametrize("step", [None, 0.25], ids=["distinct", "ties"])
def test_auc_intervals_are_those_of_resamples_scored_one_by_one(rng, step):
    """Counting how often each series was drawn gives what sorting each resample gives."""
    labels = rng.integers(3, size=40)
    logits = rng.normal(size=(40, 3)) + np.eye(3)[labels]
    logits = logits if step is None else np.round(logits / step) * step
    scores = metrics.softmax(logits)

    found = with_report_estimates(Evaluation(said(logits), {}), labels).estimates

    for name, score in (("auc_prc", average_precision_score), ("roc_auc", roc_auc_score)):

        def macro(rows, score=score):
            return [
                np.mean([score(labels[row] == k, scores[row, k]) for k in np.unique(labels[row])])
                for row in rows
            ]

        expected = metrics.estimate(lambda rows: np.array(macro(rows)), 40, resamples=100)
        assert (found[name].low, found[name].high) == pytest.approx((expected.low, expected.high))


def test_auc_of_the_classes_that_are_there(rng):
    """A class without a held-out series cannot be scored, and spoils no average."""
    labels = rng.integers(2, size=60)  # of three classes
    logits = rng.normal(size=(60, 3)) + np.eye(3)[labels]
    scores = metrics.softmax(logits)

    found = with_report_estimates(Evaluation(said(logits), {}), labels).estimates

    expected = np.mean([roc_auc_score(labels == k, scores[:, k]) for k in (0, 1)])
    assert found["roc_auc"].value == pytest.approx(expected)


@pytest.fixture(scope="module")
def data() -> Prepared:
    source = load("ItalyPowerDemand")
    return prepare(source, length=None, sizing="resample", normalization="series", seed=0)


class Lines:
    """A classifier of two lines; at a negative weight its slope is turned round."""

    name, classes, can_explain, changes = "lines", 2, True, None

    def __init__(self, weight: float) -> None:
        self.slope = np.linspace(-weight, 1, 24, dtype=np.float32)

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.stack([x[:, 0] @ self.slope, -x[:, 0] @ self.slope], axis=1)


def measured(data: Prepared, model: float) -> Evaluation:
    plan = default_plan(24)
    teacher = occlusion.explain_classifier(Lines(1.0), data.validation.x, plan)
    split = data.validation
    return with_report_estimates(evaluate(Lines(model), split.x, split.y, teacher, plan), split.y)


def test_a_copy_of_the_teacher_measures_perfect(data):
    estimates = measured(data, 1.0).estimates

    perfect = {"agreement": 1, "kl": 0, "accuracy_drop": 0, "saliency_pearson": 1}
    assert {name: estimates[name].value for name in perfect} == pytest.approx(perfect)
    labels = data.validation.y
    hits = Lines(1.0).logits(data.validation.x).argmax(axis=1) == labels
    assert estimates["accuracy"].value == pytest.approx(hits.mean())
    assert 0 <= estimates["ece"].value <= 1


def test_another_model_measures_less(data):
    near, far = measured(data, 0.9).estimates, measured(data, -3.0).estimates

    for name in ("agreement", "saliency_pearson", "saliency_spearman"):
        assert far[name].value < near[name].value
    assert far["kl"].value > near["kl"].value
