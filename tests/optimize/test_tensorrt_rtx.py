"""Every file for TensorRT goes through its real parser and builder, typed as we typed it.

TensorRT-RTX has the parser and the builder of TensorRT and needs no GPU to build for one that is
named. Its engines are not those of a board, and none of them is run here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.variants import PRECISIONS, variants

pytestmark = pytest.mark.slow

LENGTH = 32
BATCH = 8
CARD = "SM86"  # an Ampere GPU, the generation of Jetson Orin
SPECS = {
    "fcn": ModelSpec(family="fcn", width=8),
    "resnet": ModelSpec(family="resnet", width=8, depth=2),
    "inception": ModelSpec(family="inception", width=8, depth=2),
    "lite": ModelSpec(family="lite", width=8),
    "lstm": ModelSpec(family="lstm", width=24, depth=1),
}
TYPES = {  # what layers give beside float32 and whole numbers, in TensorRT's names
    "fp32": set(),
    "fp16": {"HALF"},
    "bf16": {"BF16"},
    "int8": {"INT8"},
    "w8a16": {"HALF", "INT8"},
}


@pytest.fixture(scope="module")
def rtx(unavailable) -> ModuleType:
    """TensorRT-RTX, or no test."""
    try:
        import tensorrt_rtx
    except ImportError:
        unavailable("tensorrt-rtx is not installed: python -m pip install tensorrt-rtx")
    return tensorrt_rtx


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Callable[[str, int], tuple[Path, np.ndarray]]:
    """Return a small student's file and series for it, by family and channels."""
    folder = tmp_path_factory.mktemp("students")

    @cache
    def make(family: str, channels: int) -> tuple[Path, np.ndarray]:
        torch.manual_seed(0)
        steps = np.random.default_rng(0).normal(size=(12, channels, LENGTH))
        series = (steps.cumsum(axis=2) / 4).astype(np.float32)
        module = build(SPECS[family], channels=channels, classes=3, length=LENGTH)
        path = folder / f"{family}-{channels}.onnx"
        export(module, path, series)
        return path, series

    return make


@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("family", SPECS)
def test_every_file_parses_and_builds(family, channels, rtx, exported, tmp_path):
    """With a free batch and a fixed one; every type that we wrote is there, and no other."""
    path, series = exported(family, channels)
    precisions = [p for p in PRECISIONS if (family, p) != ("lstm", "int8")]
    for batch in (None, BATCH):
        for variant in variants(
            path, series, tmp_path, precisions, runtimes=["tensorrt"], batch=batch
        ):
            where = f"{variant.name}, batch {batch}"

            builder, network, complaints = _parse(rtx, variant.path)
            assert complaints == [], where
            plan = _build(rtx, builder, network)

            assert plan is not None, where
            assert plan.nbytes > 0
            assert network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            assert tuple(network.get_input(0).shape) == (batch or -1, channels, LENGTH)
            assert tuple(network.get_output(0).shape) == (batch or -1, 3)
            assert _types(network) == {"FLOAT"} | TYPES[variant.precision], where


@pytest.mark.parametrize("family", ["fcn", "lstm"])
def test_int8_for_onnx_runtime_is_refused(family, rtx, exported, tmp_path):
    """Its zero points, 32-bit biases and own operators are none of TensorRT's: the check bites."""
    (quantized,) = variants(*exported(family, 1), tmp_path, ["int8"])

    _, _, complaints = _parse(rtx, quantized.path)

    assert complaints


def _parse(rtx: ModuleType, path: Path) -> tuple[Any, Any, list[str]]:
    """Return builder, network and what the parser complains of; nothing if it took the file."""
    logger = rtx.Logger(rtx.Logger.INTERNAL_ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    taken = parser.parse(path.read_bytes())
    complaints = [parser.get_error(index).desc() for index in range(parser.num_errors)]
    assert taken != bool(complaints)
    return builder, network, complaints


def _build(rtx: ModuleType, builder: Any, network: Any) -> Any:
    """Return the engine's bytes, or None if TensorRT cannot build it."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(rtx.ComputeCapability, CARD), 0)
    series = network.get_input(0)
    if series.shape[0] == -1:
        profile = builder.create_optimization_profile()
        profile.set_shape(series.name, *((size, *tuple(series.shape)[1:]) for size in (1, 1, 64)))
        config.add_optimization_profile(profile)
    return builder.build_serialized_network(network, config)


def _types(network: Any) -> set[str]:
    """Return the types of what the layers of a network give, whole numbers above 8 bits aside."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    outputs = [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]
    return {output.dtype.name for output in outputs} - {"INT32", "INT64", "BOOL"}
