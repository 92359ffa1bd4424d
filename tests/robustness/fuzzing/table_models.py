"""A case through a real bundle and the real command: the logits are those of the series."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer
from edgedistill.bundle.golden import Golden
from edgedistill.data import Prepared, load, prepare
from edgedistill.data.sources import ReadOptions
from edgedistill.device.__main__ import main
from edgedistill.evaluation.contract import Contract
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.saliency import occlusion
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import default_plan
from fuzzing.table_cases import Case
from fuzzing.table_check import Finding


def check_predictions(case: Case, folder: Path) -> None:
    """Compare what `predict` prints for the test file with the model on the series written.

    Raises:
        Finding: a probability differs, or the command fails.
    """
    source = load(str(case.train), str(case.test), options=ReadOptions(roles=case.roles))
    data = prepare(source, length=None, sizing="resample", normalization="series", seed=0)
    model = _write_model(folder / "model.onnx", data)
    _write_bundle(folder / "bundle.zip", model, data)
    x = data.preprocessing.apply(case.series[1])
    logits = OrtRuntime(model).logits(x).astype(np.float64)
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    out, log = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(log):
        code = main(["predict", str(folder / "bundle.zip"), str(case.test), "--json"])
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    if code or len(records) != len(x):
        raise Finding(f"predict ends with {code} and {len(records)} lines: {log.getvalue()}")
    found = [[one["probabilities"][name] for name in data.class_names] for one in records]
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-6):
        raise Finding(f"predict gives {found}, not {expected.tolist()}")


def _write_model(path: Path, data: Prepared) -> Path:
    """Write a linear model with drawn weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    shape = data.channels * data.length, data.classes
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *data.train.x.shape[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", data.classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def _write_bundle(path: Path, model: Path, data: Prepared) -> None:
    plan = default_plan(data.length)
    golden = data.test.x[:2]
    seen = occlusion.explain(OrtRuntime(model).logits, golden, plan)
    outputs = Explanation(seen.logits, seen.kl, seen.signed)
    entry = bundle.Model(
        name="linear",
        path=model,
        runtime="onnxruntime",
        precision="fp32",
        parameters=data.train.x[0].size * data.classes,
        session=SessionSettings(),
    )
    writer.write(
        path,
        writer.BundleContents(
            name=data.name,
            created="2026-01-02T03:04:05+00:00",
            class_names=data.class_names,
            preprocessing=data.preprocessing,
            plan=plan,
            contract=Contract(),
            chosen="linear",
            models=[entry],
            golden=Golden(series=golden, labels=data.test.y[:2], teacher=outputs, student=outputs),
            provenance=bundle.Provenance(
                recipe={"seed": 0}, versions={"numpy": np.__version__}, seeds={}, data="0"
            ),
            input_schema=data.schema,
        ),
    )
