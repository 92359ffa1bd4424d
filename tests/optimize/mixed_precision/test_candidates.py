"""The losses of candidates, the log of a search, and the Pareto front."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.optimize.mixed_precision.candidates import (
    CANDIDATE_LOG,
    Candidate,
    CandidateLog,
    Setting,
    log_key,
    pareto_front,
)

NOTHING = dict.fromkeys((field.name for field in fields(Contract)), None)


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


def candidate(*keep: str, method="minmax", size=100.0, ms=(1.0, 1.0, 1.0), **values) -> Candidate:
    measured = {"agreement": 0.9, "kl": 0.1, "saliency_pearson": 0.8, **values}
    estimates = {name: exactly(value) for name, value in measured.items() if value is not None}
    estimates |= {"size_bytes": exactly(size), "latency_p50_ms": Estimate(*ms)}
    return Candidate(Setting(method, frozenset(keep)), estimates)


def test_loss_sums_what_is_missing_to_the_teacher():
    """A teacher without maps is matched in classes and probabilities alone."""
    assert candidate().loss == pytest.approx(0.1 + 0.1 + 0.2)
    assert candidate(saliency_pearson=None).loss == pytest.approx(0.1 + 0.1)
    assert candidate(agreement=1.0, kl=0.0, saliency_pearson=1.0).loss == 0


def test_shortfall_counts_broken_clauses_alone():
    """Shares as they are, bytes as a part of the threshold."""
    terms = Contract(**{**NOTHING, "min_agreement": 0.95, "max_kl": 0.5, "max_size_bytes": 80})

    found = candidate().shortfall(terms)

    assert found == pytest.approx(0.05 + 20 / 80)
    assert candidate(agreement=0.96, size=80).shortfall(terms) == 0
    assert [candidate().keeps(terms), candidate(agreement=0.96, size=80).keeps(terms)] == [
        False,
        True,
    ]


def test_a_log_is_resumed(tmp_path):
    """Measurements are restored, floats and sets as they were; another key starts anew."""
    measured = [candidate(), candidate("Conv_0", "Gemm_0", kl=1 / 3), candidate(method=None)]
    log = CandidateLog(tmp_path, "key")
    for each in measured:
        log.add(each)

    again = CandidateLog(tmp_path, "key").candidates
    other = CandidateLog(tmp_path, "other").candidates

    assert again == {each.setting: each for each in measured}
    assert other == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"key": "key", "measured": [{}]}', '{"key": "key"}'])
def test_a_damaged_log_is_started_anew(text, tmp_path):
    (tmp_path / CANDIDATE_LOG).write_text(text)

    assert CandidateLog(tmp_path, "key").candidates == {}


def test_the_key_of_a_log_is_that_of_model_calibration_and_context(tmp_path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"one")
    series = np.zeros((2, 1, 4), dtype=np.float32)
    keys = [log_key(model, series, "a"), log_key(model, series, "b")]
    keys += [log_key(model, series + 1, "a"), log_key(model, series.reshape(1, 2, 4), "a")]
    model.write_bytes(b"two")
    keys.append(log_key(model, series, "a"))

    assert len(set(keys)) == len(keys)


def test_the_front_holds_what_no_other_beats():
    small, near = candidate("a", size=50), candidate("b", saliency_pearson=0.9)
    fast = candidate("c", size=200, ms=(0.5, 0.4, 0.6))
    beaten = candidate("d", size=60)

    assert pareto_front([near, beaten, fast, small]) == [small, near, fast]


def test_latencies_within_their_intervals_are_equal_on_the_front():
    """Of two equal models, the one that was timed as faster beats the other only if it is."""
    known = candidate("a", ms=(1.00, 0.9, 1.1), size=50)
    noise = candidate("b", ms=(0.95, 0.85, 1.05), size=60)
    faster = candidate("c", ms=(0.5, 0.4, 0.6), size=60)

    assert pareto_front([known, noise]) == [known]
    assert pareto_front([known, faster]) == [known, faster]
