"""The inspector's words, in the ways in which TensorRT 10 and 11 write them."""

from __future__ import annotations

import json

import pytest

from edgedistill.errors import ModelError
from edgedistill.runtimes.tensorrt.layers import Layer, Share, by_precision, read_layers, with_times


def _information(*layers):
    return json.dumps({"Layers": layers, "Bindings": ["series", "logits"]})


def _tensor(text):
    return {"Name": "x", "Dimensions": [1, 8, 24], "Format/Datatype": text}


CONVOLUTION = {
    "Name": "conv1 + relu1",
    "LayerType": "CaskConvolution",
    "Inputs": [_tensor("Thirty-two wide channel vectorized row major Int8 format")],
    "Outputs": [_tensor("Row major linear FP16 format")],
    "TacticName": "sm80_xmma_fprop",
    "Metadata": "[ONNX Layer: conv1]\u001e[ONNX Layer: relu1]\u001e[ONNX Layer: conv1]",
}
COPY = {
    "Name": "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1",
    "LayerType": "Reformat",
    "Inputs": [_tensor("Float")],
    "Outputs": [_tensor("Int8")],
}
FUSED = {  # TensorRT 11 writes the type alone
    "Name": "__myl_FcAdd_myl0_3",
    "LayerType": "runtime_fusion",
    "Inputs": [{"Name": "p", "Datatype": "BFloat16", "Format": "(Linear) Row major linear format"}],
    "Outputs": [{"Name": "logits", "Datatype": "Float", "Format": "(Linear) Row major linear"}],
    "Metadata": "[ONNX Layer: head]",
}
CALL = {"Name": "shapes", "LayerType": "shape_call", "Inputs": [], "Outputs": []}


def test_reads_layers():
    """Name, kind, precisions and ONNX nodes, each once."""
    layers = read_layers(_information(CONVOLUTION, COPY, FUSED, CALL))

    assert layers == (
        Layer("conv1 + relu1", "CaskConvolution", ("int8",), ("fp16",), ("conv1", "relu1")),
        Layer(COPY["Name"], "Reformat", ("fp32",), ("int8",), ()),
        Layer("__myl_FcAdd_myl0_3", "runtime_fusion", ("bf16",), ("fp32",), ("head",)),
        Layer("shapes", "shape_call", (), (), ()),
    )
    assert [layer.precision for layer in layers] == ["int8", "reformat", "bf16", "none"]


def test_unknown_types_are_shown_as_they_are():
    """A type that TensorRT will have tomorrow is no error."""
    (layer,) = read_layers(_information({**COPY, "LayerType": "x", "Inputs": [_tensor("E8M0")]}))

    assert layer.reads == ("E8M0",)


def test_reads_names_alone():
    """An engine that was built without details has layers by name."""
    assert read_layers(_information("conv1")) == (Layer("conv1", "unknown", (), (), ()),)


@pytest.mark.parametrize(
    "information",
    ["", "[]", "{}", _information({"Name": "x"}), _information({**COPY, "Inputs": [{}]})],
    ids=["nothing", "a list", "no layers", "no kind", "no type"],
)
def test_unknown_words_are_a_model_error(information):
    """A new way of describing engines is not misread."""
    with pytest.raises(ModelError, match="in a way that is not known here"):
        read_layers(information)


def test_sums_layers_and_times_by_precision():
    """Why INT8 is slow shows in what is not INT8."""
    layers = read_layers(_information(CONVOLUTION, {**CONVOLUTION, "Name": "conv2"}, COPY, CALL))

    shares = by_precision(
        with_times(layers, {"conv1 + relu1": 0.25, "conv2": 0.5, COPY["Name"]: 2.0})
    )

    assert shares == (Share("int8", 2, 0.75), Share("reformat", 1, 2.0), Share("none", 1, None))
