"""Unsupported precisions are refused before anything is made."""

from __future__ import annotations

import pytest

from edgedistill.errors import ConfigError
from edgedistill.optimize.precision_support import FORMS, PRECISIONS, SHORT_NAMES, check_forms


def test_every_form_is_a_known_precision():
    assert {p for forms in FORMS.values() for p in forms} == set(PRECISIONS)
    assert SHORT_NAMES.keys() == FORMS.keys()


@pytest.mark.parametrize(
    ("runtimes", "precisions", "says"),
    [
        (["onnxruntime", "tflite"], ["fp32"], "no runtime 'tflite'. Choose from onnxruntime, ten"),
        (["tensorrt"], ["fp32", "int4"], "no precision 'int4'. Choose from fp32, fp16, bf16, int8"),
        (["onnxruntime"], ["bf16"], "a form of bf16: onnxruntime has fp32, fp16, int8, w8a16"),
    ],
)
def test_refusals(runtimes, precisions, says):
    with pytest.raises(ConfigError, match=says):
        check_forms(runtimes, precisions)


def test_one_runtime_that_has_it_is_enough():
    """With two runtimes a precision is made for the one that has a form of it."""
    check_forms(["onnxruntime", "tensorrt"], PRECISIONS)
