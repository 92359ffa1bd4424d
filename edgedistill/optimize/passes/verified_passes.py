"""Graph passes, such as folding: each returns (model, changed), and is verified by a run.

A pass keeps the names and types of inputs and outputs. `apply` runs the model before and after it
on real series, and refuses other logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from edgedistill.errors import ConfigError, ModelError, VerificationError
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import TOLERANCE, assert_close, runner
from edgedistill.optimize.passes.channel_padding import align
from edgedistill.optimize.passes.conv1d_to_conv2d import lift
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import check, parameters, strip
from edgedistill.saliency.classifier import LogitsFn

Pass = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, bool]]

_SMALL = 4000  # weights
_RUNS = 60  # calls of each model
_FASTER = 0.95  # of the time it took: less gain is not worth other operators


def folded(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Fold batch norms and constants, see `fold`.

    Raises:
        ModelError: the result is not a valid model.
    """
    result = fold(model)
    return result, result.graph != strip(model).graph


def lifted(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Give convolutions and poolings over time two dimensions, see `conv1d_to_conv2d.lift`.

    Raises:
        ModelError: the result is not a valid model.
    """
    result = lift(model)
    check(result, "The lifted model")
    return result, len(result.graph.node) != len(model.graph.node)


def aligned(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    """Fill up the channels of depthwise convolutions, see `channel_padding.align`.

    Raises:
        ModelError: the result is not a valid model.
    """
    result = align(model)
    check(result, "The aligned model")
    return result, parameters(result) != parameters(model)


def fastest_layout(one: Floats) -> Pass:
    """Return the pass that lifts, or aligns and lifts, where ONNX Runtime's CPU is faster with it.

    A small model is left as it is without a measurement: a call of it is mostly overhead.

    Args:
        one: series, (1, C, T), that the models are timed with.
    """

    def laid_out_for_cpu(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        if parameters(model) < _SMALL:
            return model, False
        filled, has_more = aligned(model)
        best, limit = model, _FASTER
        for base in [model, filled] if has_more else [model]:
            candidate, changed = lifted(base)
            if changed and (ratio := _time(runner(candidate), runner(model), one)) <= limit:
                best, limit = candidate, ratio * _FASTER
        return best, best is not model

    return laid_out_for_cpu


def static_batch(size: int) -> Pass:
    """Return the pass that fixes the batch to `size` series.

    Raises:
        ConfigError: size is below 1.
    """
    if size < 1:
        raise ConfigError(f"The batch is {size}. Fix it to 1 or more, or leave it free.")

    def fixed_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
        result = strip(model)
        for value in (*result.graph.input, *result.graph.output):
            dim = value.type.tensor_type.shape.dim[0]
            if dim.HasField("dim_value") and dim.dim_value != size:
                raise ModelError(
                    f"{value.name} has a batch of {dim.dim_value}, which cannot become {size}. "
                    "Export the model for a free batch."
                )
            dim.dim_value = size
        result = fold(result)  # what depended on the batch is a constant now
        return result, result.graph != strip(model).graph

    return fixed_batch


def apply(
    model: onnx.ModelProto, passes: Sequence[Pass], series: Floats
) -> tuple[onnx.ModelProto, bool]:
    """Run passes one after the other, each verified on series (N, C, T).

    Returns:
        The model, and whether any pass changed it.

    Raises:
        VerificationError: a pass changed the interface, or a logit by more than 1e-5 of the
            largest.
    """
    changed = False
    for one in passes:
        before = model
        model, differs = one(before)
        if differs:
            _verify(one, before, model, series)
        changed |= differs
    return model, changed


def _time(new: LogitsFn, old: LogitsFn, one: Floats) -> float:
    """Return the median time of one call over that of another, timed in turns."""
    spent: tuple[list[int], list[int]] = ([], [])
    for _ in range(_RUNS):
        for run, times in zip((new, old), spent, strict=True):
            begin = time.perf_counter_ns()
            run(one)
            times.append(time.perf_counter_ns() - begin)
    return float(np.median(spent[0]) / np.median(spent[1]))


def _verify(one: Pass, before: onnx.ModelProto, after: onnx.ModelProto, series: Floats) -> None:
    name = f"The model after the pass {getattr(one, '__name__', one)}"
    was, now = _interface(before), _interface(after)
    if was != now:
        raise VerificationError(f"{name} takes and gives {now}, before it was {was}.")
    assert_close(name, runner(before)(series), runner(after)(series), TOLERANCE)


def _interface(model: onnx.ModelProto) -> list[tuple[str, int, list[int]]]:
    """Return name, type and sizes of inputs and outputs, all but the batch."""
    tensors = [(v.name, v.type.tensor_type) for v in (*model.graph.input, *model.graph.output)]
    return [(name, t.elem_type, [d.dim_value for d in t.shape.dim[1:]]) for name, t in tensors]
