"""A coarser precision is allowed more, and a tolerance is a number above 0."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgedistill.compare.tolerance import PRECISIONS, TOLERANCES, Tolerance, precision_in
from edgedistill.errors import ConfigError


def test_every_precision_has_a_tolerance_above_the_finer_ones():
    """Every precision is judged by something."""
    found = [TOLERANCES[precision] for precision in PRECISIONS]

    assert set(TOLERANCES) == set(PRECISIONS)
    assert all(fine.layers < coarse.layers for fine, coarse in pairwise(found))
    assert all(one.logits is not None or one.agreement is not None for one in found)


@pytest.mark.parametrize("layers", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_that_makes_no_sense(layers):
    """The message names it."""
    with pytest.raises(ConfigError, match=rf"The tolerance is {layers}; give a number above 0"):
        Tolerance(layers=layers)


@pytest.mark.parametrize(
    ("text", "precision"),
    [("trt-fp16.onnx", "fp16"), ("int8", "int8"), ("w8a16", "int8"), ("student.onnx", "fp32")],
)
def test_a_precision_is_read_off_a_name(text, precision):
    """8-bit weights count as INT8; what says nothing as FP32."""
    assert precision_in(text) == precision
