"""Running and comparing models: refusals of ONNX Runtime, and errors with their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from edgedistill.errors import DataError, ModelError, VerificationError
from edgedistill.optimize.execution import (
    assert_close,
    check_series,
    class_count,
    errors,
    logits,
    open_model,
    runner,
)


def test_series_of_another_length(student, series):
    """ONNX Runtime's complaint comes with the file and the shape."""
    with pytest.raises(ModelError, match=r"cannot run fcn\.onnx on series \(40, 1, 30\)"):
        logits(student("fcn"), np.ascontiguousarray(series[:, :, :30]))


def test_file_that_onnx_runtime_cannot_load(tmp_path, series):
    """The same message for a file that is no model."""
    path = tmp_path / "odd.onnx"
    path.write_bytes(b"not a model")

    with pytest.raises(ModelError, match=r"cannot run odd\.onnx"):
        logits(path, series)


def test_open_model_returns_input_inner_values_and_output():
    """Every float value comes under its name."""
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,2] x) => (float[N,1,2] y) { a = Mul(x, x) b = Neg(a) y = Reciprocal(b) }
        """
    )

    found = open_model(model)(np.full((1, 1, 2), 2, np.float32))

    assert {name: value[0, 0, 0] for name, value in found.items()} == {
        "x": 2,
        "a": 4,
        "b": -4,
        "y": -0.25,
    }


@pytest.mark.parametrize("batch", ["N", 1, 3, 8])
def test_runner_fills_the_batch_that_a_model_wants(batch):
    """Seven series give seven rows, each its own, whatever the batch."""
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[{batch},1] x) => (float[{batch},1] y) {{ y = Neg(x) }}
        """
    )
    x = np.arange(7, dtype=np.float32)[:, None]

    np.testing.assert_array_equal(runner(model)(x), -x)
    values = open_model(model)(x[:1])
    assert {name: len(rows) for name, rows in values.items()} == dict.fromkeys(
        ("x", "y"), 1 if batch == "N" else batch
    )
    np.testing.assert_array_equal(values["y"], -values["x"])
    assert class_count(model) == 1


def test_open_classes_count_as_none():
    model = parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,K] x) => (float[N,K] y) { y = Neg(x) }
        """
    )

    assert class_count(model) == 0


@pytest.mark.parametrize(("scale", "relative"), [(100.0, 0.01), (2.0, 0.5), (0.001, 1.0)], ids=str)
def test_errors_are_relative_to_the_largest_logit_but_at_least_one(scale, relative):
    """Large logits may differ more, tiny ones need not differ less."""
    expected = np.array([[scale, 0.0]])

    assert errors(expected, expected + 1.0) == pytest.approx((1.0, relative))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_infinitely_far(bad):
    """NaN compares false with everything: it must not pass."""
    expected = np.zeros((1, 2))

    assert errors(expected, expected + bad) == (np.inf, np.inf)
    with pytest.raises(VerificationError, match="by inf"):
        assert_close("It", expected, expected + bad, 1e9)


def test_assert_close_returns_the_errors():
    """Within the tolerance the numbers come back."""
    assert assert_close("It", np.array([[4.0]]), np.array([[5.0]]), 0.25) == (1.0, 0.25)


def test_assert_close_refuses_other_shapes():
    """Shapes that broadcast are still not equal."""
    with pytest.raises(VerificationError, match=r"shape \(2, 1\) where \(2, 3\) is expected"):
        assert_close("It", np.zeros((2, 3)), np.zeros((2, 1)), 1.0)


def test_double_precision_series_are_refused(series):
    """The models take float32, so nothing else is silently converted."""
    with pytest.raises(DataError, match="needs finite float32 series, got float64"):
        check_series(series.astype(np.float64), "check")
