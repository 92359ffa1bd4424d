"""The search finds the fewest float nodes that keep the contract, and resumes after a kill."""

from __future__ import annotations

from dataclasses import fields
from itertools import combinations

import numpy as np
import onnx
import pytest

from edgedistill.errors import UsageError
from edgedistill.evaluation import contract
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.optimize.execution import logits
from edgedistill.optimize.mixed_precision.candidates import Candidate, Setting
from edgedistill.optimize.mixed_precision.plot import draw
from edgedistill.optimize.mixed_precision.search import (
    SearchOptions,
    relative_contract,
    search,
    select,
)
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

pytestmark = pytest.mark.slow

NOTHING = dict.fromkeys((field.name for field in fields(Contract)), None)
NODES = ("Conv_0", "Conv_1", "Conv_2", "Gemm_0")
NEEDED = frozenset({"Conv_2", "Gemm_0"})  # must stay float, by the simulated measure below


def exactly(value: float) -> Estimate:
    return Estimate(value, value, value)


@pytest.fixture(scope="module")
def measure(student, series):
    """Measure against the float FCN as the teacher: what is lost is lost by 8 bits alone."""
    plan = default_plan(series.shape[2])
    path = student("fcn")
    teacher = occlusion.explain(lambda x: logits(path, x), series[:8], plan)
    labels = teacher.logits.argmax(axis=1)

    def measured(candidate):
        said = occlusion.explain(lambda x: logits(candidate, x), series[:8], plan, targets=labels)
        return contract.compare(teacher, said, labels) | {"latency_p50_ms": exactly(1.0)}

    return measured


@pytest.fixture
def counting(student, series):
    """Return a measure of float weights in a file, and the list of its calls.

    The error of a node is 0.1 of agreement if it must be float, else 0.001; so the right result
    is known.
    """
    asked = []
    shapes = {
        tuple(node_weight.dims): name
        for name, node_weight in _weights(fold(load(student("fcn")))).items()
    }

    def measured(path):
        model = onnx.load(path)
        floats = {
            shapes[tuple(i.dims)]
            for i in model.graph.initializer
            if i.data_type == onnx.TensorProto.FLOAT and tuple(i.dims) in shapes
        }
        asked.append(floats)
        lost = sum(0.1 if node in NEEDED else 0.001 for node in set(NODES) - floats)
        return {
            "agreement": exactly(1 - lost),
            "kl": exactly(lost),
            "saliency_pearson": exactly(1 - lost),
            "latency_p50_ms": exactly(1.0),
        }

    return measured, asked


def _weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the weight of every node by the node's name."""
    constants = {i.name: i for i in model.graph.initializer}
    counts: dict[str, int] = {}
    found = {}
    for node in model.graph.node:
        place = counts.setdefault(node.op_type, 0)
        counts[node.op_type] += 1
        if node.op_type in ("Conv", "Gemm"):
            found[f"{node.op_type}_{place}"] = constants[node.input[1]]
    return found


def test_the_nodes_that_must_be_float_are_found(student, series, counting, tmp_path):
    """Exactly those two, of all sets that keep the contract the smallest."""
    measure, _ = counting
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})

    found = search(student("fcn"), series, measure, terms, folder=tmp_path)

    assert found.is_kept
    assert found.complete
    assert found.chosen.setting.keep == NEEDED
    assert {s.node for s in found.sensitivity[:2]} == NEEDED
    assert [s.loss for s in found.sensitivity[:2]] == pytest.approx([-0.3, -0.3])
    keeping = [  # the slow, obvious search
        set(keep)
        for number in range(len(NODES))
        for keep in combinations(NODES, number)
        if set(keep) >= NEEDED
    ]
    assert min(keeping, key=len) == found.chosen.setting.keep


def test_a_node_that_was_not_needed_goes_back_to_8_bits(student, series, tmp_path):
    """Two nodes help most alone, but a third makes them superfluous: backward steps find out."""

    def measure(path):
        constants = onnx.load(path).graph.initializer
        floats = [list(i.dims) for i in constants if i.data_type == onnx.TensorProto.FLOAT]
        first, last = [16, 1, 8] in floats, [32, 16, 5] in floats
        agreement = 0.95 if last and first else 0.9 if first else 0.8
        if [16, 32, 3] in floats and last:
            agreement = 0.985 if first else 0.99
        return {
            "agreement": exactly(agreement),
            "kl": exactly(0.0),
            "latency_p50_ms": exactly(1.0),
        }

    terms = Contract(**{**NOTHING, "min_agreement": 0.98})

    found = search(student("fcn"), series, measure, terms, folder=tmp_path)

    assert found.is_kept
    assert found.chosen.setting.keep == {"Conv_1", "Conv_2"}


def test_plain_int8_is_enough_for_an_easy_contract(student, series, measure, tmp_path):
    """On a real model, measured for real: nothing stays float, and the nearest ranges are taken."""
    terms = Contract(**{**NOTHING, "min_agreement": 0.5})

    found = search(student("fcn"), series, measure, terms, folder=tmp_path)

    assert found.is_kept
    plain = [c for c in found.candidates if not c.setting.keep]
    assert {c.setting.method for c in plain} == {"minmax", "percentile", "entropy"}
    assert found.chosen.loss <= min(c.loss for c in plain)
    assert found.reference.loss == pytest.approx(0, abs=1e-5)
    assert {s.node for s in found.sensitivity} == set(NODES)
    assert draw(found).startswith(b"\x89PNG")


def test_a_float_node_brings_a_real_model_nearer(student, series, measure, tmp_path):
    """All float but one is nearer to the float model than all in 8 bits."""
    terms = Contract(**{**NOTHING, "max_kl": 0.0})  # nothing keeps it

    found = search(student("fcn"), series, measure, terms, folder=tmp_path)

    assert not found.is_kept
    by_keep = {c.setting.keep: c for c in found.candidates}
    most = max(by_keep, key=len)
    assert len(most) == len(NODES) - 1
    assert by_keep[most].loss < by_keep[frozenset()].loss
    assert found.chosen.shortfall(terms) == min(c.shortfall(terms) for c in found.candidates)


def test_a_killed_search_resumes(student, series, counting, tmp_path):
    """Candidates in the log are not measured again, and the result is that of one run."""
    measure, asked = counting
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})
    whole = search(student("fcn"), series, measure, terms, folder=tmp_path / "whole")
    measured = len(asked)

    def dying(path):
        if len(asked) == measured + 5:
            raise KeyboardInterrupt
        return measure(path)

    with pytest.raises(KeyboardInterrupt):
        search(student("fcn"), series, dying, terms, folder=tmp_path / "killed")
    again = search(student("fcn"), series, measure, terms, folder=tmp_path / "killed")

    assert len(asked) == 2 * measured
    assert again == whole


@pytest.mark.parametrize("change", ["context", "calibration"])
def test_another_search_ignores_the_log(change, student, series, counting, tmp_path):
    measure, asked = counting
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})
    search(student("fcn"), series, measure, terms, folder=tmp_path, context="a")
    measured = len(asked)
    other = series[:20] if change == "calibration" else series

    search(student("fcn"), other, measure, terms, folder=tmp_path, context=change[:2])

    assert len(asked) == 2 * measured


def test_a_spent_budget_keeps_what_there_is(student, series, counting, tmp_path):
    """The float model and one INT8 model are measured in any case."""
    measure, asked = counting
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})

    found = search(
        student("fcn"),
        series,
        measure,
        terms,
        folder=tmp_path,
        options=SearchOptions(budget_s=1e-9),
    )

    assert not found.complete
    assert len(asked) == 2
    assert found.chosen.setting == Setting("minmax")


def test_an_lstm_tries_one_calibration_method(student, series, measure, tmp_path):
    """They are found as it runs; with its only LSTM in float nothing would be left in 8 bits."""
    terms = Contract(**{**NOTHING, "min_agreement": 0.0})

    found = search(student("lstm"), series, measure, terms, folder=tmp_path)

    assert [c.setting for c in found.candidates] == [Setting("minmax")]
    assert [s.node for s in found.sensitivity] == ["LSTM_0"]


def test_progress_starts_and_ends(student, series, counting, tmp_path):
    events = []
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})

    search(
        student("fcn"),
        series,
        counting[0],
        terms,
        folder=tmp_path,
        on_progress=lambda *event: events.append(event),
    )

    done = [event[1] for event in events]
    assert done == sorted(done)
    assert events[-1][1] == events[-1][2]
    assert all(event[1] < event[2] for event in events[:-1])


def test_a_measure_that_gives_too_little(student, series, tmp_path):
    with pytest.raises(UsageError, match=r"needs kl, latency_p50_ms of every candidate"):
        search(
            student("fcn"),
            series,
            lambda _: {"agreement": exactly(1.0)},
            Contract(**NOTHING),
            folder=tmp_path,
        )


def candidate(**values: float) -> Candidate:
    measured = {"agreement": 0.9, "kl": 0.1, "saliency_pearson": 0.8, "latency_p50_ms": 1.0}
    return Candidate(Setting("minmax"), {n: exactly(v) for n, v in {**measured, **values}.items()})


def test_losses_tighten_the_contract_and_never_loosen_it():
    terms = Contract(**{**NOTHING, "min_agreement": 0.89, "min_saliency_pearson": 0.5})

    found = relative_contract(terms, candidate(), agreement=0.02, saliency=0.01)

    assert (found.min_agreement, found.min_saliency_pearson) == pytest.approx((0.89, 0.79))
    assert relative_contract(terms, candidate(), agreement=None, saliency=None) == terms
    assert relative_contract(
        Contract(**NOTHING), candidate(), agreement=0.1, saliency=None
    ).min_agreement == pytest.approx(0.8)


def test_a_nearer_model_may_be_a_per_cent_larger():
    terms = Contract(**NOTHING)
    small = candidate(size_bytes=1000)
    near = candidate(size_bytes=1009, kl=0.05)
    large = candidate(size_bytes=1100, kl=0.0)
    fast = candidate(size_bytes=5000, latency_p50_ms=0.5)

    assert select([small, near, large, fast], terms, "size") == near
    assert select([small, near, large, fast], terms, "latency") == fast


def test_the_model_is_that_of_the_chosen_setting(student, series, counting, tmp_path):
    terms = Contract(**{**NOTHING, "min_agreement": 0.99})

    found = search(student("fcn"), series, counting[0], terms, folder=tmp_path)

    expected = to_int8(fold(load(student("fcn"))), series, keep=NEEDED)
    assert found.model == expected
    held = [i.data_type for i in found.model.graph.initializer if len(i.dims) >= 2]
    assert sorted(held) == 2 * [onnx.TensorProto.FLOAT] + 2 * [onnx.TensorProto.INT8]
    path = tmp_path / "model.onnx"
    path.write_bytes(found.model.SerializeToString())
    assert np.isfinite(logits(path, series)).all()
