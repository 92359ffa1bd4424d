"""INT8 for ONNX Runtime: weights and activations in 8 bits, calibrated on real series.

Convolutions and dense layers become static Q/DQ: signed weights with a scale per output channel,
unsigned activations with a zero point, which is what ONNX Runtime's CPU kernels fuse and run fast.
An LSTM has no static form there, so it becomes `DynamicQuantizeLSTM`, which has 8-bit weights and
measures its activations as it runs.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Literal

import onnx
from onnxruntime import quantization
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from edgedistill.distill.optimize.execution import Floats, check_series
from edgedistill.distill.optimize.graph import check, load, operators, strip
from edgedistill.errors import ConfigError, ModelError, ShapeError

Method = Literal["minmax", "percentile"]

# Not entropy: with ONNX Runtime's bins (as many as levels) it finds the range of minmax.
METHODS: dict[Method, quantization.CalibrationMethod] = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "percentile": quantization.CalibrationMethod.Percentile,
}

_PERCENT = 99.9  # of all activations that the range of "percentile" keeps
_KEEP_RANGES = {"Concat", "Neg", "Relu", "Slice"}  # operators behind which channels stay as unlike
_STATIC = ("Conv", "Gemm", "MatMul")  # what has weights that the static form can quantize


def to_int8(
    model: onnx.ModelProto,
    calibration: Floats,
    *,
    method: Method = "minmax",
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Return a folded model with 8-bit weights and activations; inputs and outputs stay float32.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T): they set the ranges of activations.
        method: how an activation's range is read off the calibration: all of it ("minmax"), or
            99.9 % of it, so that an outlier does not coarsen the rest ("percentile").
        reduce_range: 7-bit weights. x86 without VNNI adds two products in 16 bits, which 8-bit
            weights can saturate; ARM, CUDA and newer x86 do not.

    Raises:
        ConfigError: no such method.
        DataError: calibration is empty or not finite.
        ShapeError: calibration does not fit the model's input.
        ModelError: the model has nothing that can be quantized.
    """
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise ConfigError(f"There is no calibration method {method!r}. Choose from {known}.")
    check_series(calibration, "INT8 calibration")
    _check_fit(model, calibration)
    found = operators(model)
    result = strip(model)
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder, _quiet():
        if _is_static(found):
            result = _static(result, calibration, Path(folder), method, reduce_range)
        if "LSTM" in found:
            result = _dynamic_lstm(result, Path(folder))
    if not {"QuantizeLinear", "DynamicQuantizeLSTM"} & set(operators(result)):
        raise ModelError(
            f"Nothing in this model can be quantized: it has {', '.join(found)}. INT8 needs a "
            f"{', '.join(_STATIC)} or LSTM with constant weights. Leave int8 out of the precisions."
        )
    compact = _short_names(strip(result), keep=_names(model))
    check(compact, "The INT8 model")
    return compact


def _is_static(found: dict[str, int]) -> bool:
    """Whether static Q/DQ pays.

    Behind an LSTM only the dense head is left, whose few weights weigh less than the nodes that
    would quantize them.
    """
    return "Conv" in found or ("LSTM" not in found and any(name in found for name in _STATIC))


class _Series(quantization.CalibrationDataReader):  # type: ignore[misc]  # ships no types
    """Hands the calibration series over one at a time: the histograms want equal batches."""

    def __init__(self, name: str, series: Floats) -> None:
        self._feeds = ({name: one[None]} for one in series)

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next series by the name of the input, or None after the last."""
        return next(self._feeds, None)


def _static(
    model: onnx.ModelProto, calibration: Floats, folder: Path, method: Method, reduce_range: bool
) -> onnx.ModelProto:
    add_pre_process_metadata(model)  # `fold` did what the quantizer would ask for
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    path = folder / "static.onnx"
    quantization.quantize_static(
        model,
        path,
        _Series(model.graph.input[0].name, calibration),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=_uneven(model),
        calibrate_method=METHODS[method],
        extra_options={"CalibPercentile": _PERCENT},
    )
    return strip(load(path))


def _uneven(model: onnx.ModelProto) -> list[str]:
    """Return the nodes from convolutions to a batch norm that did not fold into them.

    Such a norm brings channels of unlike ranges to one. LITE's fixed filters span 2 to 96 time
    steps: on a scale that they share, the small ones would be lost. These nodes stay float.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    return [name for norm in norms for name in _path_to_convolutions(norm, producers)]


def _path_to_convolutions(norm: onnx.NodeProto, producers: dict[str, onnx.NodeProto]) -> list[str]:
    """Return the names from `norm` back to convolutions; none if something else is among them."""
    path, ahead = [norm.name], [norm.input[0]]
    while ahead:
        node = producers.get(ahead.pop())
        if node is None or node.op_type not in _KEEP_RANGES | {"Conv"}:
            return []
        path.append(node.name)
        if node.op_type == "Slice":
            ahead.append(node.input[0])
        elif node.op_type != "Conv":
            ahead.extend(node.input)
    return path


def _dynamic_lstm(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Quantize every LSTM, with one scale a tensor: a scale a channel is slower, not more exact."""
    add_pre_process_metadata(model)
    path = folder / "dynamic.onnx"
    quantization.quantize_dynamic(
        model, path, op_types_to_quantize=["LSTM"], weight_type=quantization.QuantType.QInt8
    )
    return strip(onnx.load(path))


def _check_fit(model: onnx.ModelProto, calibration: Floats) -> None:
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    if dims[1:] != list(calibration.shape[1:]):
        raise ShapeError(
            f"The calibration series have shape {calibration.shape[1:]} but the model takes "
            f"{tuple(dims[1:])} as (C, T). Calibrate with series prepared for this model."
        )


def _names(model: onnx.ModelProto) -> set[str]:
    values = (*model.graph.input, *model.graph.output)
    return {v.name for v in values} | {name for node in model.graph.node for name in node.output}


def _short_names(model: onnx.ModelProto, *, keep: set[str]) -> onnx.ModelProto:
    """Return the model with short names for all that the quantizer added.

    Its names repeat the tensor's and tell what the node tells: in a student of a thousand weights
    they are half of the file. Activations keep theirs, to be compared with the float model's.
    """
    short: dict[str, str] = {"": ""}
    for node in model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                fresh = name if name in keep else f"q{len(short)}"
                names[index] = short.setdefault(name, fresh)
    for initializer in model.graph.initializer:
        initializer.name = short.get(initializer.name, initializer.name)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantizer: advice to the root logger, progress to standard output."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        root.setLevel(level)
