"""`optimize` on ONNX files of other exporters, as somebody would type it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.io.files import read_json


def _model(path: Path, body: str, opset: int) -> Path:
    """Write a model of ItalyPowerDemand's series in which `body` makes r of a convolution c."""
    rng = np.random.default_rng(0)
    model = parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,1,24] x) => (float[N,2] y) {{
          c = Conv<pads = [1, 1]>(x, kernel) {body} g = GlobalAveragePool(r) f = Flatten(g)
          y = Gemm<transB = 1>(f, dense)
        }}
        """
    )
    for name, shape in {"kernel": (8, 1, 3), "dense": (2, 8)}.items():
        array = rng.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


@pytest.fixture
def optimize(invoke, tmp_path):
    """Run `optimize` on a model for both runtimes in all precisions but W8A16."""
    settings = (
        *("--set", "optimize.runtimes=[onnxruntime, tensorrt]"),
        *("--set", "optimize.precisions=[fp32, fp16, bf16, int8]"),
    )

    def run(body, opset, *options):
        model = _model(tmp_path / "m.onnx", body, opset)
        return invoke(
            *("optimize", "--data", "ItalyPowerDemand", *settings, "--model", model),
            *("--out", tmp_path / "variants", *options),
        )

    return run


def test_old_opset_is_raised_and_reported(optimize):
    """The first row of the table."""
    ran = optimize("r = Relu(c)", 11)

    assert ran.code == 0, ran.stderr
    assert "raised from opset 11 to 20" in ran.stdout
    assert ran.stdout.count("size_bytes") == 7


def test_precision_that_fails_is_a_row_and_the_others_are_made(optimize, tmp_path):
    """The logarithm of zero is no value that 8 bits could have a range for."""
    ran = optimize("p = Relu(c) l = Log(p) r = Exp(l)", 20, "--json")

    assert ran.code == 0, ran.stderr
    assert [name for name in ran.json if name.endswith(".onnx")] == [
        *("ort-fp32.onnx", "ort-fp16.onnx", "trt-fp32.onnx", "trt-fp16.onnx", "trt-bf16.onnx"),
        *("ort-int8.onnx", "trt-int8.onnx"),
    ]
    assert "is infinite or NaN" in ran.json["ort-int8.onnx"]["not_made"]
    assert ran.json["trt-bf16.onnx"]["size_bytes"] > 0
    assert not (tmp_path / "variants" / "ort-int8.onnx").exists()
    failures = read_json(tmp_path / "variants" / "variants.json")["failures"]
    assert set(failures) == {"ort-int8", "trt-int8"}


def test_model_that_is_none_ends_with_a_message(invoke, tmp_path):
    """One line on stderr, exit code 3, and no folder."""
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x07garbage")

    ran = invoke(
        *("optimize", "--data", "ItalyPowerDemand", "--model", path),
        *("--out", tmp_path / "variants"),
    )

    assert ran.code == 3
    assert "is cut short or no valid ONNX model" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "variants").exists()
