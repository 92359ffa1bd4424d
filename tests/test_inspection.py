"""The facts about files: models, weights, bundles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from safetensors.torch import save_file

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer as packing
from edgedistill.bundle.golden import Golden
from edgedistill.errors import IntegrityError, ModelError, UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.inspection import describe, external_data
from edgedistill.preprocessing.transforms import Preprocessing
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import default_plan
from edgedistill.teachers import OnnxClassifier

T, K, FILTERS = 16, 2, 4
PARAMETERS = FILTERS * 3 + FILTERS + FILTERS * K + K


@pytest.fixture
def model(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A small convolutional network as an exporter writes it, shape constants and all."""

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["series", "w", "b"], ["features"], pads=[1, 1]),
            helper.make_node("Relu", ["features"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
            helper.make_node("Reshape", ["mean", "flat"], ["flattened"]),
            helper.make_node("Gemm", ["flattened", "head", "bias"], ["logits"]),
        ],
        "net",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ("batch", 1, T))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", K))],
        [
            weight("w", FILTERS, 1, 3),
            weight("b", FILTERS),
            weight("head", FILTERS, K),
            weight("bias", K),
            numpy_helper.from_array(np.array([0, FILTERS]), "flat"),
        ],
    )
    return save(graph, tmp_path / "model.onnx")


def save(graph: onnx.GraphProto, path: Path) -> Path:
    proto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
        producer_name="test",
        producer_version="1",
    )
    onnx.save(proto, path)
    return path


class Series(CalibrationDataReader):
    """Four series to calibrate with."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.left = [rng.normal(size=(1, 1, T)).astype(np.float32) for _ in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"series": self.left.pop()} if self.left else None


def test_onnx_file(model):
    facts = describe(model)

    assert facts == {
        "path": str(model),
        "kind": "onnx",
        "size_bytes": model.stat().st_size,
        "parameters": PARAMETERS,
        "precision": "fp32",
        "inputs": [{"name": "series", "dtype": "float32", "shape": ["batch", 1, T]}],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", K]}],
        "operators": {"Conv": 1, "Relu": 1, "GlobalAveragePool": 1, "Reshape": 1, "Gemm": 1},
        "opsets": {"ai.onnx": 20},
        "ir_version": 10,
        "producer": "test 1",
    }


@pytest.mark.parametrize(
    ("weights", "precision"), [(QuantType.QInt8, "int8"), (QuantType.QUInt8, "uint8")], ids=str
)
def test_quantized_file_has_the_same_parameters(weights, precision, model, tmp_path, rng):
    """Scales and zero points are none; a bias that became int32 is one."""
    quantize_static(
        model,
        tmp_path / "q.onnx",
        Series(rng),
        quant_format=QuantFormat.QDQ,
        weight_type=weights,
        activation_type=weights,
    )

    facts = describe(tmp_path / "q.onnx")

    assert facts["precision"] == f"{precision} (QDQ)"
    assert facts["parameters"] == PARAMETERS
    assert facts["operators"]["QuantizeLinear"] > 0


def test_quantized_operators_differ_from_qdq_pairs(model, tmp_path, rng):
    quantize_static(model, tmp_path / "q.onnx", Series(rng), quant_format=QuantFormat.QOperator)

    facts = describe(tmp_path / "q.onnx")

    assert facts["operators"]["QLinearConv"] == 1
    assert facts["precision"] == "int8 (QOperator)"


def test_half_precision_file(model, tmp_path):
    graph = onnx.load(model).graph
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name != "bias":
            half = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))

    facts = describe(save(graph, tmp_path / "half.onnx"))

    assert facts["precision"] == "fp16 + fp32"
    assert facts["parameters"] == PARAMETERS


def test_external_weights_count_in_the_size(model, tmp_path):
    loaded = onnx.load(model)
    onnx.save(
        loaded,
        tmp_path / "out.onnx",
        save_as_external_data=True,
        location="out.data",
        size_threshold=0,
    )

    facts = describe(tmp_path / "out.onnx")

    files = [tmp_path / "out.onnx", tmp_path / "out.data"]
    assert facts["size_bytes"] == sum(path.stat().st_size for path in files)
    assert facts["parameters"] == PARAMETERS


def test_external_tensors_of_branches_and_constants_count(tmp_path):
    """Every tensor may lie in another file, not only the initializers."""

    def tensor(name: str, location: str) -> onnx.TensorProto:
        value = numpy_helper.from_array(np.ones(4, dtype=np.float32), name)
        (tmp_path / location).write_bytes(value.raw_data)
        set_external_data(value, location)
        value.ClearField("raw_data")
        return value

    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constant = helper.make_node("Constant", [], ["y"], value=tensor("c", "constant.bin"))
    other = helper.make_node("Identity", ["w"], ["y"])
    branches = {
        "then_branch": helper.make_graph([constant], "then", [], [value]),
        "else_branch": helper.make_graph([other], "else", [], [value], [tensor("w", "else.bin")]),
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["which"], ["y"], **branches)],
        "choice",
        [helper.make_tensor_value_info("which", TensorProto.BOOL, ())],
        [value],
    )
    path = save(graph, tmp_path / "m.onnx")

    assert external_data(path) == [tmp_path / "constant.bin", tmp_path / "else.bin"]
    assert describe(path)["size_bytes"] == path.stat().st_size + 2 * 16


def test_operators_of_branches_are_counted(tmp_path):
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    branches = {
        f"{name}_branch": helper.make_graph([helper.make_node(op, ["x"], ["y"])], name, [], [value])
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["condition"], ["y"], **branches)],
        "branching",
        [
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
        ],
        [value],
    )

    facts = describe(save(graph, tmp_path / "if.onnx"))

    assert facts["operators"] == {"If": 1, "Neg": 1, "Abs": 1}
    assert facts["inputs"][1]["shape"] == [None]
    assert facts["precision"] == "none"


@pytest.mark.parametrize("keep", [0, 1, 60])
def test_error_of_a_damaged_onnx_file_has_its_path(keep, model):
    model.write_bytes(model.read_bytes()[:keep])

    with pytest.raises(ModelError, match=r"model\.onnx.*export the file again"):
        describe(model)


def test_safetensors_file(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros(4, dtype=torch.bfloat16),
        "steps": torch.tensor(7),
    }
    save_file(tensors, path)

    facts = describe(path)

    assert facts["parameters"] == 10
    assert facts["precision"] == "fp32 + bf16"
    assert {"name": "a", "dtype": "F32", "shape": [2, 3]} in facts["tensors"]
    assert {"name": "steps", "dtype": "I64", "shape": []} in facts["tensors"]
    assert facts["size_bytes"] == path.stat().st_size


def test_error_of_a_damaged_safetensors_file_has_its_path(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"\x10\x00")

    with pytest.raises(ModelError, match=r"Cannot read .*w\.safetensors"):
        describe(path)


@pytest.mark.parametrize("name", ["found", "found.zip"])
def test_bundle(name, model, tmp_path, rng):
    """Folder and zip have equal facts, but for path and size."""
    path = write_bundle(tmp_path / name, model, rng)

    facts = describe(path)

    assert facts["kind"] == "bundle"
    assert facts["path"] == str(path)
    assert facts["name"] == "Waves"
    assert facts["class_names"] == ["sine", "square"]
    assert facts["chosen"] == "student-fp32"
    assert facts["golden_series"] == 6
    assert facts["models"][0]["precision"] == "fp32"
    assert facts["models"][0]["contents"]["operators"]["Conv"] == 1
    assert 0 < facts["size_bytes"] < 100_000
    assert json.loads(json.dumps(facts)) == facts


def test_tampered_bundle_is_refused(model, tmp_path, rng):
    path = write_bundle(tmp_path / "found", model, rng)
    (path / "models" / "student-fp32.onnx").write_bytes(b"other")

    with pytest.raises(IntegrityError, match="was changed"):
        describe(path)


def test_error_of_a_missing_file_has_its_path(tmp_path):
    with pytest.raises(ModelError, match=r"There is no .*absent\.onnx"):
        describe(tmp_path / "absent.onnx")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "model.pt").touch()

    with pytest.raises(UsageError, match=r"model\.pt is nothing that can be inspected"):
        describe(tmp_path / "model.pt")


def write_bundle(path: Path, model: Path, rng: np.random.Generator) -> Path:
    series = rng.normal(size=(6, 1, T)).astype(np.float32)
    plan = default_plan(T)
    explanation = explain(OnnxClassifier(model, classes=K).logits, series, plan)
    packing.write(
        path,
        packing.BundleContents(
            name="Waves",
            created="2026-01-01T00:00:00+00:00",
            class_names=("sine", "square"),
            preprocessing=Preprocessing(length=T, channels=1),
            plan=plan,
            contract=Contract(),
            chosen="student-fp32",
            models=[
                bundle.Model(
                    name="student-fp32",
                    path=model,
                    runtime="onnxruntime",
                    precision="fp32",
                    parameters=PARAMETERS,
                )
            ],
            golden=Golden(
                series=series,
                labels=np.arange(6, dtype=np.int64) % K,
                teacher=explanation,
                student=explanation,
            ),
            provenance=bundle.Provenance(recipe={}, versions={}, seeds={}, data="0" * 64),
        ),
    )
    return path
