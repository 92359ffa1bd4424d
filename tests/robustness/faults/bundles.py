"""Small bundles with real models: two that keep their contract, one that breaks it on the board."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer as packing
from edgedistill.bundle.golden import Golden
from edgedistill.evaluation.contract import Contract
from edgedistill.io import archives, files
from edgedistill.preprocessing.transforms import fit
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

LENGTH, SERIES, CLASSES = 48, 24, 3
_FILTERS, _WIDTH = 64, 9
_CLASS_NAMES = ("rest", "walk", "run")
SPIKE = [0.0] * (LENGTH - 1) + [1.0]  # far from its mean, as no recorded series is
_FAR = 5.5  # in standard deviations


def write(path: Path, name: str, seed: int, *, hangs: bool = False) -> Path:
    """Write a bundle (zip) whose teacher is its own student: it keeps any contract.

    Args:
        path: path of the new zip.
        name: name of the bundle.
        seed: seed of the weights, and so of the logits.
        hangs: whether the model does not end with a series like `SPIKE`.
    """
    model = _network(path.with_suffix(f".{seed}.onnx"), seed, hangs=hangs)
    recorded = list(np.random.default_rng(0).normal(size=(SERIES, 1, LENGTH)).cumsum(axis=2))
    preprocessing = fit(recorded, length=None, sizing="resample", normalization="series")
    series = preprocessing.apply(recorded)
    plan = default_plan(LENGTH)
    maps = occlusion.explain(OrtRuntime(model).logits, series, plan)
    packing.write(
        path,
        packing.BundleContents(
            name=name,
            created="2026-01-02T03:04:05+00:00",
            class_names=_CLASS_NAMES,
            preprocessing=preprocessing,
            plan=plan,
            contract=Contract(),
            chosen="student-fp32",
            models=[
                bundle.Model(
                    name="student-fp32",
                    path=model,
                    runtime="onnxruntime",
                    precision="fp32",
                    parameters=1_000,
                )
            ],
            golden=Golden(
                series=series, labels=maps.logits.argmax(axis=1), teacher=maps, student=maps
            ),
            provenance=bundle.Provenance(
                recipe={"seed": seed}, versions={"numpy": np.__version__}, seeds={}, data="0"
            ),
        ),
    )
    return path


def write_broken(path: Path, sound: Path, seed: int) -> Path:
    """Write a sound bundle with another model in its place, and every hash made to fit.

    Its bytes show nothing of it: only running it does.
    """
    root = path.with_suffix("")
    archives.unpack(sound, root)
    facts = files.read_json(root / bundle.MANIFEST)
    (entry,) = facts["models"]
    model = root / entry["file"]
    model.write_bytes(_network(path.with_suffix(".onnx"), seed).read_bytes())
    size = model.stat().st_size
    facts["files"][entry["file"]] = {"sha256": files.sha256(model), "size_bytes": size}
    entry["size_bytes"] = size
    (root / bundle.MANIFEST).write_text(json.dumps(facts))
    archives.pack(root, path)
    return path


def _network(path: Path, seed: int, *, hangs: bool = False) -> Path:
    """Write a convolution, ReLU, the mean over time and a linear head, with drawn weights."""
    rng = np.random.default_rng(seed)
    weights = {
        "w": rng.normal(size=(_FILTERS, 1, _WIDTH)),
        "h": rng.normal(size=(CLASSES, _FILTERS)),
        "b": rng.normal(size=CLASSES),
    }
    pads = [_WIDTH // 2, _WIDTH // 2]
    nodes = [
        helper.make_node("Conv", ["series", "w"], ["c"], pads=pads),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "h", "b"], ["logits"], transB=1),
    ]
    series = helper.make_tensor_value_info("series", TensorProto.FLOAT, ["N", 1, LENGTH])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    if hangs:
        nodes[-1].output[0] = "usual"
        nodes += _endless_loop()
        values = {"far": _FAR, "very": 1e15, "zero": 0.0}
        tensors += [numpy_helper.from_array(np.float32(v), n) for n, v in values.items()]
    graph = helper.make_graph(nodes, "small", [series], [logits], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def _endless_loop() -> list[onnx.NodeProto]:
    """Return nodes from `usual` to `logits`: the same values, after no steps or very many."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["sum", "sum"], ["next"]),
        ],
        "step",
        [
            scalar("step", TensorProto.INT64, []),
            scalar("go", TensorProto.BOOL, []),
            scalar("sum", TensorProto.FLOAT, []),
        ],
        [scalar("on", TensorProto.BOOL, []), scalar("next", TensorProto.FLOAT, [])],
    )
    return [
        helper.make_node("ReduceMax", ["series"], ["top"], keepdims=0),
        helper.make_node("Sub", ["top", "far"], ["above"]),
        helper.make_node("Relu", ["above"], ["excess"]),
        helper.make_node("Mul", ["excess", "very"], ["times"]),
        helper.make_node("Cast", ["times"], ["steps"], to=TensorProto.INT64),
        helper.make_node("Loop", ["steps", "", "zero"], ["nothing"], body=body),
        helper.make_node("Add", ["usual", "nothing"], ["logits"]),
    ]
