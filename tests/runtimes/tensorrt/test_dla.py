"""What a DLA takes, by TensorRT-RTX's own parser; the machine's cores are a stand-in."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.errors import ModelError
from edgedistill.runtimes.tensorrt.bindings import make_builder
from edgedistill.runtimes.tensorrt.dla import adjust_parser, use_dla

pytestmark = pytest.mark.slow

CORES = SimpleNamespace(num_DLA_cores=2)
HALF = helper.make_node("Cast", ["series"], ["x"], name="half", to=TensorProto.FLOAT16)
BACK = helper.make_node("Cast", ["y"], ["out"], name="back", to=TensorProto.FLOAT)


@pytest.fixture
def parsed(rtx):
    """Parse nodes over float32 series (1, 1, length); networks live with the fixture."""
    alive = []

    def parse(nodes, weights=(), *, length=64):
        ends = [
            helper.make_tensor_value_info("series", TensorProto.FLOAT, [1, 1, length]),
            helper.make_tensor_value_info("out", TensorProto.FLOAT, None),
        ]
        graph = helper.make_graph(nodes, "dla", ends[:1], ends[1:], list(weights))
        opset = helper.make_opsetid("", 20)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
        builder = make_builder(rtx)
        typed = rtx.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
        network = builder.create_network(1 << int(typed))
        parser = rtx.trt.OnnxParser(network, rtx.log)
        assert parser.parse(model.SerializeToString()), parser.get_error(0).desc()
        alive.extend((builder, parser))
        return network

    return parse


def _config(refused):
    """A configuration of a machine whose DLA refuses some layers."""
    flags = []
    return SimpleNamespace(
        flags=flags, set_flag=flags.append, can_run_on_DLA=lambda layer: layer.name not in refused
    )


def _convolution(width):
    weights = numpy_helper.from_array(np.ones((1, 1, width), np.float16), "w")
    return helper.make_node("Conv", ["x", "w"], ["y"], name="filter"), weights


@pytest.mark.parametrize(
    ("node", "weights", "length", "because"),
    [
        (*_convolution(41), 64, "filter (its window of 41 is wider than 32)"),
        (*_convolution(31), 64, "filter"),
        (*_convolution(31), 9000, "filter (an axis of 9000 is longer than 8192)"),
        (
            helper.make_node("AveragePool", ["x"], ["y"], name="filter", kernel_shape=[9]),
            None,
            64,
            "filter (its window of 9 is wider than 8)",
        ),
    ],
    ids=["kernel", "unknown", "axis", "pool"],
)
def test_layers_left_to_the_gpu_are_named_with_the_limit(
    rtx, parsed, node, weights, length, because
):
    """TensorRT says only that it cannot; the documented limits say why, before the build."""
    network = parsed([HALF, node, BACK], [weights] if weights else [], length=length)
    config = _config({"filter"})

    left = use_dla(rtx.trt, CORES, network, config, 1)

    assert left == (because,)
    assert (config.DLA_core, config.default_device_type) == (1, rtx.trt.DeviceType.DLA)
    assert config.flags == [rtx.trt.BuilderFlag.GPU_FALLBACK]


def test_a_float32_model_is_refused(rtx, parsed):
    """None of its layers could run there, and TensorRT would run all on the GPU without a word."""
    network = parsed([helper.make_node("Relu", ["series"], ["out"])])

    with pytest.raises(ModelError, match=r"computes in FP16, and no layer .* Choose trt-fp16"):
        use_dla(rtx.trt, CORES, network, _config(set()), 0)


def test_a_model_with_qdq_pairs_is_refused(rtx, parsed):
    """INT8 on a DLA is implicit quantization, which strongly typed networks have not."""
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    network = parsed(
        [
            helper.make_node("QuantizeLinear", ["series", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out"]),
        ],
        [scale, zero],
    )

    with pytest.raises(ModelError, match=r"takes no Q/DQ pairs.*Choose trt-fp16"):
        use_dla(rtx.trt, CORES, network, _config(set()), 0)


def test_a_model_that_would_run_on_the_gpu_alone_is_refused(rtx, parsed):
    """`--dla` would name a core that computes nothing."""
    node, weights = _convolution(3)
    network = parsed([HALF, node, BACK], [weights])
    names = {network.get_layer(index).name for index in range(network.num_layers)}

    with pytest.raises(ModelError, match=r"No layer of this model can run on a DLA: .*half"):
        use_dla(rtx.trt, CORES, network, _config(names), 0)


@pytest.mark.parametrize("there", [True, False])
def test_the_parser_is_adjusted_where_it_can_be(there):
    """TensorRT 11.4 has the flag, 10.3 has not."""
    flags = []
    trt = SimpleNamespace(OnnxParserFlag=SimpleNamespace(**{"ADJUST_FOR_DLA": 3} if there else {}))

    adjust_parser(trt, SimpleNamespace(set_flag=flags.append))

    assert flags == ([3] if there else [])
