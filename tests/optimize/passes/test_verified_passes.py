"""A pass reports whether it changed anything, keeps the interface, and is refused if it errs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill.errors import ConfigError, ModelError, VerificationError
from edgedistill.optimize.execution import runner
from edgedistill.optimize.passes import verified_passes
from edgedistill.optimize.passes.graph import load, operators
from edgedistill.optimize.passes.verified_passes import (
    aligned,
    apply,
    fastest_layout,
    folded,
    lifted,
    static_batch,
)


@pytest.mark.parametrize(
    "make", [folded, lifted, aligned, static_batch(4)], ids=lambda one: one.__name__
)
@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_a_second_time_changes_nothing(make, family, student, series):
    """Logits stay, the argument stays, and what is done is not done again."""
    model = load(student(family))
    before = model.SerializeToString()

    once, changed = apply(model, [make], series)
    _, again = make(once)

    assert changed == (once.graph.node != model.graph.node or make.__name__ == "fixed_batch")
    assert not again
    assert model.SerializeToString() == before


def test_passes_one_after_the_other(student, series):
    """All together give what the exported model gives."""
    model = load(student("fcn"))

    found, changed = apply(model, [folded, lifted, static_batch(7)], series)

    assert changed
    assert operators(found)["Conv"] == 3
    assert "BatchNormalization" not in operators(found)
    np.testing.assert_allclose(runner(found)(series), runner(model)(series), atol=1e-5)


def test_without_passes(student, series):
    model = load(student("fcn"))

    assert apply(model, [], series) == (model, False)


def test_a_fixed_batch_takes_no_other(student, series):
    """The file has a fixed batch; the runner fills the last one."""
    model, _ = static_batch(16)(load(student("fcn")))

    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == 16
    assert len(runner(model)(series)) == len(series) == 40
    with pytest.raises(ModelError, match="has a batch of 16, which cannot become 2"):
        static_batch(2)(model)


def test_a_batch_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"The batch is 0\. Fix it to 1 or more"):
        static_batch(0)


def test_a_pass_that_changes_logits_is_refused(student, series):
    """A bias that moved by a thousandth."""

    def slipping(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        bias = next(i for i in result.graph.initializer if i.name == "head.bias")
        values = numpy_helper.to_array(bias) + np.float32(1e-3)
        bias.CopyFrom(numpy_helper.from_array(values, "head.bias"))
        return result, True

    with pytest.raises(VerificationError, match=r"after the pass slipping misses .* by 0\.001"):
        apply(load(student("fcn")), [folded, slipping], series)


def test_a_pass_that_changes_the_interface_is_refused(student, series):
    """Another name of the output breaks every program that reads it."""

    def renaming(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        result = onnx.ModelProto()
        result.CopyFrom(model)
        result.graph.input[0].name = result.graph.node[0].input[0] = "renamed"
        return result, True

    with pytest.raises(VerificationError, match=r"after the pass renaming takes .*renamed"):
        apply(load(student("fcn")), [renaming], series)


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, True), (0.96, False)])
def test_lifted_only_where_it_is_faster(ratio, chosen, student, series, monkeypatch):
    """The clock decides; here it is set."""
    monkeypatch.setattr(verified_passes, "_time", lambda *_: ratio)
    monkeypatch.setattr(verified_passes, "_SMALL", 0)
    model, _ = folded(load(student("fcn")))

    found, changed = fastest_layout(series[:1])(model)

    assert changed == chosen
    assert ("Unsqueeze" in operators(found)) == chosen


@pytest.mark.parametrize(("ratio", "chosen"), [(0.5, 16), (0.9, 0)])
def test_aligned_too_where_that_is_faster_again(ratio, chosen, student, series, monkeypatch):
    """First the lifted model is timed, then the one that is aligned as well."""
    times = iter((0.9, ratio))
    monkeypatch.setattr(verified_passes, "_time", lambda *_: next(times))
    monkeypatch.setattr(verified_passes, "_SMALL", 0)
    model, _ = folded(load(student("lite")))

    found, _ = fastest_layout(series[:1])(model)

    groups = [a.i for n in found.graph.node for a in n.attribute if a.name == "group" and a.i > 1]
    assert "Unsqueeze" in operators(found)
    assert all(group % 16 == 0 for group in groups) == bool(chosen)


def test_a_small_model_is_not_timed(student, series, monkeypatch):
    monkeypatch.setattr(verified_passes, "_time", lambda *_: pytest.fail("timed"))
    model, _ = folded(load(student("lite")))

    assert fastest_layout(series[:1])(model) == (model, False)


def test_timing_distinguishes_a_slow_model_from_a_fast_one(student, series):
    """The same model on forty series takes longer than on one."""
    run = runner(load(student("fcn")))

    assert verified_passes._time(run, lambda one: run(np.repeat(one, 40, axis=0)), series[:1]) < 0.8
