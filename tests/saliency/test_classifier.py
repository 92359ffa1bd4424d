"""What goes into one call of a black box: as much as pays and fits, and everything once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgedistill.errors import ModelError
from edgedistill.saliency.classifier import FIRST_BATCH, BatchSizer, batched_logits, session_logits

PLENTY = 1 << 40


def _feed(batch, seconds):
    """Let a batch learn from calls of its own size, which take `seconds(size)`."""
    sizes = []
    for _ in range(20):
        sizes.append(batch.size)
        batch.record_call(batch.size, seconds(batch.size))
    return sizes


def test_a_batch_grows_while_that_pays():
    """A call costs 1 s and 10 ms a copy up to 256 copies: beyond, a larger one gains nothing."""
    sizes = _feed(BatchSizer(None, 1, PLENTY), lambda n: max(1.0, n / 256) + 0.0001 * n)

    assert sizes[:5] == [FIRST_BATCH, 64, 128, 256, 512]
    assert set(sizes[5:]) == {256}


def test_gain_below_a_tenth_stops_the_growth():
    """9 percent more copies a second are not worth twice the memory; 11 are."""
    rates = {32: 1.0, 64: 1.11, 128: 1.11 * 1.09}

    sizes = _feed(BatchSizer(None, 1, PLENTY), lambda n: n / rates[n])

    assert set(sizes[3:]) == {64}


def test_a_batch_never_leaves_its_memory():
    """However well it goes; a given size is cut as well."""
    sizes = _feed(BatchSizer(None, 10, 1_000), lambda _: 1.0)

    assert sizes[:3] == [32, 64, 100]
    assert set(sizes[2:]) == {100}
    assert BatchSizer(512, 10, 1_000).size == 100


def test_a_given_size_stays():
    """So that the calls do not depend on timing."""
    assert set(_feed(BatchSizer(48, 1, PLENTY), lambda _: 1e-9)) == {48}


def test_short_last_call_does_not_change_the_size():
    """A last, small call is slow for its size, which says nothing about the size."""
    batch = BatchSizer(None, 1, PLENTY)

    batch.record_call(FIRST_BATCH, 1.0)
    batch.record_call(3, 1.0)

    assert batch.size == 2 * FIRST_BATCH
    batch.record_call(2 * FIRST_BATCH, 1.0)
    assert batch.size == 4 * FIRST_BATCH


def test_a_batch_that_failed_does_not_grow_again():
    """What did not fit once will not fit later."""
    batch = BatchSizer(None, 1, PLENTY)

    batch.shrink(32)

    assert set(_feed(batch, lambda _: 1.0)) == {16}


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 11, 100])
def test_sweep_computes_every_window_once(rng, size):
    """Whole series where they fit, else windows of one, in order."""
    answers = rng.normal(size=(5, 4, 2)).astype(np.float32)
    asked = np.zeros((5, 4), dtype=int)

    def ask(piece):
        assert piece.count <= size
        asked[piece.rows, piece.windows] += 1
        return answers[piece.rows, piece.windows]

    found = batched_logits(ask, 5, 4, BatchSizer(size, 1, PLENTY))

    np.testing.assert_array_equal(found, answers)
    np.testing.assert_array_equal(asked, 1)


def test_a_model_that_changes_its_classes_is_refused():
    """Its answers could not be compared."""

    def ask(piece):
        return np.zeros((1, 1, 2 + piece.rows.start))

    with pytest.raises(ModelError, match="gave 2 logits a series, then 3"):
        batched_logits(ask, 3, 1, BatchSizer(1, 1, PLENTY))


def test_a_session_is_a_callable(rng):
    """ONNX Runtime's session answers as the graph says: here, twice the first two steps."""
    node = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    weights = 2 * np.eye(5, 2, dtype=np.float32)
    graph = helper.make_graph(
        node,
        "first",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    series = rng.normal(size=(3, 1, 5)).astype(np.float32)

    logits = session_logits(session)(series)

    np.testing.assert_allclose(logits, 2 * series[:, 0, :2], rtol=1e-6)
