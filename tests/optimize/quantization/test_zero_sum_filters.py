"""Filters that sum to zero do so in 8 bits too, and no other filter is touched."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.optimize.execution import runner
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.quantization.zero_sum_filters import weight_ranges
from edgedistill.optimize.variants import to_int8

PEAK = np.array([-1, -1, 2, 2, -1, -1]) * 0.37
RISE = np.array([-1, 1, -1, 1, 0, 0]) * 0.11
PLAIN = np.array([0.3, -0.2, 0.1, 0.5, 0.0, 0.9])


def _model(*filters: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,{len(filters)},55] logits) {{
          logits = Conv<kernel_shape=[6]>(series, w)
        }}"""
    )
    weights = np.stack(filters)[:, None].astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def _whole(weights: np.ndarray, limit: float, levels: int) -> np.ndarray:
    return np.round(weights * levels / limit)


@pytest.mark.parametrize("levels", [127, 64])
def test_filters_that_sum_to_zero_do_so_in_8_bits(levels):
    """By the largest weight a peak would not."""
    (ranges,) = weight_ranges(_model(PEAK, RISE, PLAIN), levels).values()

    peak, rise, plain = (float(r["rmax"]) for r in ranges)
    assert _whole(PEAK, peak, levels).sum() == _whole(RISE, rise, levels).sum() == 0
    assert levels % 2 == 0 or _whole(PEAK, PEAK.max(), levels).sum() != 0
    assert (rise, plain) == pytest.approx((0.11, 0.9))
    assert [-float(r["rmin"]) for r in ranges] == [peak, rise, plain]
    assert [r.get("axis") for r in ranges] == [0, None, None]


def test_filters_of_no_zero_sum_are_left_to_the_quantizer():
    assert weight_ranges(_model(PLAIN, np.zeros(6)), 127) == {}


@pytest.mark.parametrize("reduce_range", [False, True])
def test_no_level_leaks_into_an_8_bit_model(reduce_range, series):
    """A constant series has no peaks."""
    model = fold(_model(PEAK, RISE, PLAIN))

    quantized = to_int8(model, np.concatenate([series, series + 3]), reduce_range=reduce_range)

    said = runner(quantized)(np.full((1, 1, 60), 3, np.float32))
    (weights,) = (numpy_helper.to_array(i) for i in quantized.graph.initializer if len(i.dims) == 3)
    assert weights.sum(axis=2, dtype=int).ravel()[:2].tolist() == [0, 0]
    assert np.abs(said[:, :2]).max() < 1e-6
    assert said[0, 2, 0] == pytest.approx(3 * PLAIN.sum(), rel=0.05)
