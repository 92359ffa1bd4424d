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

import numpy as np
import onnx
import onnxruntime
from onnx import shape_inference
from onnxruntime import quantization
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from edgedistill.errors import ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import check_series
from edgedistill.optimize.passes.channel_padding import align
from edgedistill.optimize.passes.graph import captured, check, operators, strip
from edgedistill.optimize.passes.opset import TOOL_ERRORS, brief, convert, opset_of
from edgedistill.optimize.quantization.calibration import (
    Method,
    Observe,
    Ranges,
    observe,
    ranges,
    share_ranges,
)
from edgedistill.optimize.quantization.float_boundaries import float_outputs, keep_float
from edgedistill.optimize.quantization.mean_as_pool import SUFFIX, mean_as_pool
from edgedistill.optimize.quantization.nodes import (
    STATIC,
    TYPES,
    check_nodes,
    fixed_nodes,
    is_static,
    with_cuts,
    with_node_names,
)
from edgedistill.optimize.quantization.zero_sum_filters import weight_ranges
from edgedistill.teachers.exact_session import explicit_weights

_PER_CHANNEL_OPSET = 13  # of ONNX: the first whose Q/DQ has a scale a channel


def to_int8(
    model: onnx.ModelProto,
    calibration: Floats,
    *,
    method: Method = "minmax",
    keep: frozenset[str] = frozenset(),
    reduce_range: bool = False,
    observe: Observe = observe,
) -> onnx.ModelProto:
    """Return a folded model with 8-bit weights and activations; inputs and outputs stay float32.

    Args:
        model: folded, one input (N, C, T).
        calibration: series of the training set, (N, C, T): they set the ranges of activations.
        method: method of calibration.
        keep: names of nodes, of those that `nodes` returns, that stay float.
        reduce_range: 7-bit weights. x86 without VNNI adds two products in 16 bits, which 8-bit
            weights can saturate; ARM, CUDA and newer x86 do not.
        observe: collects the histograms of the model's values, or returns cached ones.

    Raises:
        ConfigError: no such method or node.
        DataError: calibration is empty or not finite.
        ShapeError: calibration does not fit the model's input.
        ModelError: the model has nothing that can be quantized, or all of that is to stay float.
    """
    check_series(calibration, "INT8 calibration")
    _check_fit(model, calibration)
    bare = strip(model)
    activations = ranges(observe(bare, calibration) if is_static(bare) else {}, method)
    return quantize(bare, activations, keep=keep, reduce_range=reduce_range)


def quantize(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    keep: frozenset[str] = frozenset(),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Return a folded model in 8 bits, as `to_int8`, with given ranges of activations.

    Args:
        model: folded and stripped model.
        ranges: ranges of its float values.
        keep: names of nodes that stay float.
        reduce_range: 7-bit weights.

    Raises:
        ConfigError: no such node.
        ModelError: the model has nothing that can be quantized, or all of that is to stay float.
    """
    result = with_qdq(align(model), ranges, keep=keep, reduce_range=reduce_range)
    with _quantizer():
        if "LSTM" in operators(model):
            result = _dynamic_lstm(result, sorted(keep))
    if not {"QuantizeLinear", "DynamicQuantizeLSTM"} & set(operators(result)):
        kept = f", of which {', '.join(sorted(keep))} are to stay float" if keep else ""
        raise ModelError(
            f"Nothing in this model can be quantized: it has {', '.join(operators(model))}{kept}. "
            f"INT8 needs a {', '.join(STATIC)} or LSTM with constant weights. Leave int8 out of "
            "the precisions."
        )
    names = _names(model)
    explicit = explicit_weights(strip(result))  # a board without the package onnx loads it as it is
    compact = _short_names(explicit, keep=names | {f"{name}{SUFFIX}" for name in names})
    check(compact, "The INT8 model")
    return compact


def with_qdq(
    model: onnx.ModelProto,
    ranges: Ranges,
    *,
    keep: frozenset[str] = frozenset(),
    reduce_range: bool = False,
) -> onnx.ModelProto:
    """Return the static part of `quantize`, with the names of `with_node_names` and none shortened.

    Raises:
        ConfigError: no such node.
    """
    result = with_node_names(model)
    check_nodes(result, keep)
    if not is_static(model):
        return result
    kept = with_cuts(result, keep)
    floats = {*kept, *fixed_nodes(result)}
    result, ranges = mean_as_pool(result, share_ranges(result, ranges), floats)
    with _quantizer():
        return _static(result, ranges, kept, reduce_range)


def _static(
    model: onnx.ModelProto, ranges: Ranges, float_nodes: list[str], reduce_range: bool
) -> onnx.ModelProto:
    model = convert(model, max(opset_of(model), _PER_CHANNEL_OPSET))
    typed = shape_inference.infer_shapes(model)
    add_pre_process_metadata(typed)  # `fold` did what the quantizer requires
    limits = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        typed,
        True,  # a scale an output channel
        reduce_range,
        quantization.QuantType.QInt8,
        quantization.QuantType.QUInt8,
        TensorsData(quantization.CalibrationMethod.MinMax, limits),
        [],
        [*fixed_nodes(model), *float_nodes],
        TYPES,
        {"TensorQuantOverrides": weight_ranges(typed, 64 if reduce_range else 127)},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result = float_outputs(strip(quantizer.model.model), model)
    keep_float(result.graph, set(float_nodes))
    return result


def _dynamic_lstm(model: onnx.ModelProto, float_nodes: list[str]) -> onnx.ModelProto:
    """Quantize every LSTM, with one scale a tensor: a scale a channel is slower, not more exact."""
    add_pre_process_metadata(model)
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        path = Path(folder) / "dynamic.onnx"
        quantization.quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["LSTM"],
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=float_nodes,
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
    made = {name for node in model.graph.node for name in node.output}
    return {value.name for value in values} | made | captured(model.graph)


def _short_names(model: onnx.ModelProto, *, keep: set[str]) -> onnx.ModelProto:
    """Return the model with short names for all that the quantizer added.

    Its names repeat the tensor's and the node's: in a student of a thousand weights they are half
    of the file. Activations keep theirs, to be compared with the float model's.
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
def _quantizer() -> Iterator[None]:
    """Silence the quantizer: advice to the root logger, progress to standard output.

    Raises:
        ModelError: it fails, as it may on operators that it does not expect.
    """
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    except TOOL_ERRORS as error:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot quantize this model: {brief(error)} "
            "Leave int8 out of the precisions."
        ) from error
    finally:
        root.setLevel(level)
