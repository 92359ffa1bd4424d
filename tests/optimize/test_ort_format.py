"""ONNX Runtime's own format: the same logits, the same speed, the operators of a build."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedistill.errors import DataError, ModelError, VerificationError
from edgedistill.optimize import ort_format
from edgedistill.optimize.execution import logits
from edgedistill.optimize.ort_format import CONFIG, to_ort
from edgedistill.optimize.variants import variants


@pytest.fixture
def made(student, series, tmp_path):
    """Return the ONNX file of a student in a precision."""

    def make(family, precision):
        variants(student(family), series, tmp_path, (precision,))
        return tmp_path / f"ort-{precision}.onnx"

    return make


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_formats_give_the_same_logits(made, series, tmp_path, family, precision):
    """On series that the conversion was not checked with."""
    source, out = made(family, precision), tmp_path / "m.ort"

    to_ort(source, out, series[:8])

    expected = logits(source, series, exact_int8=False)  # as an .ort file computes
    np.testing.assert_allclose(logits(out, series), expected, atol=1e-5)
    assert b"ORTM" in out.read_bytes()[:16]


def test_the_required_operators_are_those_of_the_file(made, series, tmp_path):
    """Fused ones, with their types, and no path of the machine that wrote them."""
    to_ort(made("fcn", "int8"), tmp_path / "m.ort", series)

    required = tmp_path.joinpath(f"m{CONFIG}").read_text()

    assert "QLinearConv{" in required
    assert "com.microsoft;1;" in required
    assert "Relu" not in required  # fused into the convolution before it
    assert str(tmp_path) not in required


def test_eight_bit_operators_are_fused_in_the_file(made, series, tmp_path):
    """A session does not do it later: at a lower level they would compute in float32 for good."""
    source = made("fcn", "int8")
    to_ort(source, tmp_path / "m.ort", series)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "basic.onnx")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    kinds = {node.op_type for node in onnx.load(tmp_path / "basic.onnx").graph.node}

    assert "QLinearConv" not in kinds  # the level that would not do
    assert "QLinearConv" in (tmp_path / f"m{CONFIG}").read_text()


def test_logging_stays_as_it_was(made, series, tmp_path, monkeypatch):
    """ONNX Runtime's tools would give every logger of the process a handler."""
    monkeypatch.setattr(logging.root, "handlers", [])

    to_ort(made("fcn", "fp32"), tmp_path / "m.ort", series)

    assert logging.root.handlers == []
    assert logging.root.manager.disable == logging.NOTSET


def test_files_that_disagree_are_not_kept(made, student, series, tmp_path, monkeypatch):
    """Another student's file simulates a conversion that changes the logits."""
    convert = ort_format._convert
    monkeypatch.setattr(ort_format, "_convert", lambda _, out: convert(student("lite"), out))
    source = made("fcn", "fp32")

    with pytest.raises(VerificationError, match=r"The .ort file of ort-fp32.onnx misses the log"):
        to_ort(source, tmp_path / "m.ort", series)

    assert list(tmp_path.iterdir()) == [source]


def test_what_cannot_be_converted(tmp_path, series, made):
    """No model, and nothing to hold the files against."""
    (tmp_path / "text.onnx").write_text("no model")

    with pytest.raises(ModelError, match=r"cannot run text.onnx"):
        to_ort(tmp_path / "text.onnx", tmp_path / "t.ort", series)
    with pytest.raises(DataError, match=r"check of the .ort file needs at least one series"):
        to_ort(made("fcn", "fp32"), tmp_path / "t.ort", series[:0])

    assert not (tmp_path / "t.ort").exists()
