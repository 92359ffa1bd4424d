"""Every variant was run before it is there, and describes itself truly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgedistill.distill import optimize
from edgedistill.distill.optimize import PRECISIONS, variants
from edgedistill.distill.optimize.execution import logits
from edgedistill.errors import ConfigError, DataError, ModelError, VerificationError


@pytest.mark.parametrize("family", ["fcn", "lstm"])
def test_one_whole_file_a_precision(family, student, series, tmp_path):
    """Three files, each smaller than the one before, with one parameter count."""
    found = variants(student(family), series, tmp_path)

    assert [v.name for v in found] == ["ort-fp32", "ort-fp16", "ort-int8"]
    assert [v.precision for v in found] == list(PRECISIONS)
    assert {v.runtime for v in found} == {"onnxruntime"}
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(v.path.name for v in found)
    assert [v.size_bytes for v in found] == [v.path.stat().st_size for v in found]
    assert found[0].size_bytes > found[1].size_bytes > found[2].size_bytes
    assert len({v.parameters for v in found}) == 1
    for variant in found:
        nodes = onnx.load(variant.path).graph.node
        assert sum(variant.operators.values()) == len(nodes)
        assert logits(variant.path, series[:1]).shape == (1, 2)


def test_only_what_is_asked_for(student, series, tmp_path):
    """One precision, one file."""
    found = variants(student("fcn"), series, tmp_path, ("fp16",))

    assert [v.path.name for v in found] == ["ort-fp16.onnx"]
    assert [p.name for p in tmp_path.iterdir()] == ["ort-fp16.onnx"]


def test_unknown_precision(student, series, tmp_path):
    """The known ones are listed, and nothing is written."""
    with pytest.raises(ConfigError, match=r"no precision 'int4'\. Choose from fp32, fp16, int8"):
        variants(student("fcn"), series, tmp_path, ("fp32", "int4"))

    assert list(tmp_path.iterdir()) == []


def test_no_series_to_check_with(student, series, tmp_path):
    """Without real series nothing is called checked."""
    with pytest.raises(DataError, match="needs at least one series"):
        variants(student("fcn"), series[:0], tmp_path, ("fp32",))


def test_truncated_model(student, series, tmp_path):
    """A student's file that is cut short makes no variants."""
    path = tmp_path / "cut.onnx"
    path.write_bytes(student("fcn").read_bytes()[:1000])

    with pytest.raises(ModelError, match="cut short"):
        variants(path, series, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_fp32_that_computes_something_else_is_not_kept(student, series, tmp_path, monkeypatch):
    """A planted slip in a graph pass is found on real series, and no file looks good."""

    def slipping(model: onnx.ModelProto) -> onnx.ModelProto:
        bias = next(i for i in model.graph.initializer if i.name == "head.bias")
        values = numpy_helper.to_array(bias) + np.float32(1e-3)
        bias.CopyFrom(numpy_helper.from_array(values, "head.bias"))
        return model

    monkeypatch.setattr(optimize, "fold", slipping)

    with pytest.raises(VerificationError, match=r"The FP32 variant misses .* by 0\.001") as caught:
        variants(student("fcn"), series, tmp_path, ("fp32",))

    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_fp16_that_overflows_is_not_kept(student, series, tmp_path):
    """Values beyond 65504 become infinite in half precision: that variant is refused."""
    with pytest.raises(ModelError, match="leave fp16 out of the precisions"):
        variants(student("fcn"), 1e6 * series, tmp_path, ("fp16",))

    assert list(tmp_path.iterdir()) == []
