"""The QAT model has the logits of the real INT8 model, and gradients that train it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch.nn import functional

from edgedistill.attribution.incremental.propagation import IncrementalModel
from edgedistill.errors import ModelError
from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.execution import logits
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.optimize.qat.model import QatModel, check_trainable
from edgedistill.optimize.qat.operators import OPERATORS
from edgedistill.optimize.quantization.calibration import observe, ranges
from edgedistill.optimize.quantization.int8 import quantize
from edgedistill.optimize.quantization.nodes import nodes

pytestmark = pytest.mark.slow

NEAR = 1e-5  # of the largest logit: what float32 sums in another order differ by
STEP = 1e-3  # of it: what one value that a float layer rounds to the next step changes


@pytest.fixture(scope="module")
def folded(student):
    return lambda family: strip(fold(load(student(family))))


def said_by(model: onnx.ModelProto, series: np.ndarray, folder) -> np.ndarray:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return logits(path, series)


@pytest.mark.parametrize("family", ["fcn", "lite"])
@pytest.mark.parametrize("mixed", [False, True], ids=["plain", "mixed"])
def test_the_qat_model_equals_the_int8_model(family, mixed, folded, series, tmp_path):
    """It is not near to the float model but to what ONNX Runtime computes in 8 bits."""
    model = folded(family)
    found = ranges(observe(model, series), "minmax")
    keep = frozenset(nodes(model)[1::2]) if mixed else frozenset()
    real = said_by(quantize(model, found, keep=keep), series, tmp_path)

    twin = QatModel(model, found, keep)(torch.from_numpy(series)).detach().numpy()

    largest = np.abs(real).max()
    misses = np.abs(twin - real).max(axis=1)
    assert np.quantile(misses, 0.9) < NEAR * largest
    assert misses.max() < (STEP if mixed else NEAR) * largest
    assert np.abs(said_by(model, series, tmp_path) - real).max() > 10 * NEAR * largest


@pytest.mark.parametrize("family", ["resnet", "inception"])
def test_networks_with_branches_equal_the_int8_model(family, series, tmp_path):
    """Sums, concatenations, pooling and a norm that did not fold."""
    torch.manual_seed(0)
    model = build(ModelSpec(family=family, width=4, depth=1), channels=1, classes=2, length=60)
    path = tmp_path / "student.onnx"

    export(model.eval(), path, series)
    folded = strip(fold(load(path)))
    found = ranges(observe(folded, series), "percentile")
    real = said_by(quantize(folded, found), series, tmp_path)

    twin = QatModel(folded, found)(torch.from_numpy(series)).detach().numpy()

    assert np.abs(twin - real).max() < NEAR * max(1.0, np.abs(real).max())


@pytest.mark.parametrize("layers", [1, 2])
def test_dense_layers_without_a_convolution(layers, series, rng, tmp_path):
    """A matrix product has a scale a column or one for all, as in the quantizer."""
    body = "a = Flatten(series) b = MatMul(a, w0) c = Relu(b) logits = MatMul(c, w1)"
    if layers == 1:
        body = "a = Flatten(series) logits = MatMul(a, w0)"
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,4] logits) {{ {body} }}
        """
    )
    for index, shape in enumerate([(60, 4), (4, 4)][:layers]):
        weight = rng.normal(size=shape) * rng.uniform(0.1, 3.0, size=shape[1])
        value = numpy_helper.from_array(weight.astype(np.float32), f"w{index}")
        model.graph.initializer.append(value)
    found = ranges(observe(model, series), "minmax")
    real = said_by(quantize(model, found), series, tmp_path)

    twin = QatModel(model, found)(torch.from_numpy(series)).detach().numpy()

    assert np.abs(twin - real).max() < NEAR * np.abs(real).max()


def test_trained_weights_go_back_into_the_float_model(folded, series, tmp_path):
    """The quantizer reproduces the training: the new INT8 model equals the trained QAT model.

    Up to the ranges: those are kept here, so that nothing but the weights is new.
    """
    model = folded("fcn")
    found = ranges(observe(model, series), "minmax")
    twin = QatModel(model, found)
    labels = torch.arange(len(series)) % 2
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        loss = functional.cross_entropy(twin(torch.from_numpy(series)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    learned = twin.to_onnx()

    assert losses[-1] < losses[0]
    real = said_by(quantize(strip(learned), found), series, tmp_path)
    said = twin(torch.from_numpy(series)).detach().numpy()
    # Biases are rounded in steps of the weights before: far below a step of an activation, but
    # a value at the border of two steps falls into the other one.
    assert np.abs(said - real).max() < 0.02 * np.abs(real).max()
    before = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    after = {i.name: numpy_helper.to_array(i) for i in learned.graph.initializer}
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {n for n, value in before.items() if value.dtype == np.float32}


def test_every_learned_weight_has_a_gradient(folded, series):
    """Rounding would stop them all."""
    model = folded("fcn")
    twin = QatModel(model, ranges(observe(model, series), "minmax"))

    twin(torch.from_numpy(series)).square().sum().backward()

    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in twin.parameters())


@pytest.mark.parametrize("scale", [1.0, -1.0], ids=["8-bit", "float"])
def test_fixed_filters_do_not_learn(scale, series, tmp_path):
    """LITE's are no weights: in 8 bits too they sum to zero, and do so after the training."""
    torch.manual_seed(0)
    student = build(ModelSpec(family="lite", width=4), channels=1, classes=2, length=60)
    with torch.no_grad():
        student.norm.weight[-1] = scale
    export(student, tmp_path / "student.onnx", series)
    model = strip(fold(load(tmp_path / "student.onnx")))

    twin = QatModel(model, ranges(observe(model, series), "minmax"))

    fixed = [tuple(p.shape) for p in twin.parameters() if not p.requires_grad]
    assert fixed == [(17, 1, 96)]


def test_a_channel_of_tiny_weights_equals_the_int8_model(series, tmp_path, rng):
    """Its bias makes the scale coarser than its weights: they are rounded to zero."""
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {
          logits = Conv<kernel_shape=[1]>(series, w, b)
        }"""
    )
    constants = {"w": np.array([1e-9, 1.0]).reshape(2, 1, 1), "b": np.array([0.5, 0.1])}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    found = ranges(observe(model, series), "minmax")

    twin = QatModel(model, found)(torch.from_numpy(series)).detach().numpy()

    real = said_by(quantize(model, found), series, tmp_path)
    assert np.abs(twin - real).max() < NEAR * np.abs(real).max()


def test_windows_are_computed_by_whole_copies(folded, series):
    """The change by a window is rounded with all the rest, so it cannot be followed alone."""
    model = folded("fcn")
    twin = QatModel(model, ranges(observe(model, series), "minmax"))
    clean = torch.from_numpy(series[:4])
    starts, patches = torch.tensor([[3, 20]]), torch.zeros(4, 2, 1, 7)

    with torch.no_grad():
        asked = IncrementalModel(twin, clean)
        answer = asked.changes(starts, patches)

    assert answer.method == "full"
    for index, start in enumerate((3, 20)):
        copies = clean.clone()
        copies[:, :, start : start + 7] = 0
        expected = (twin(copies) - twin(clean)).detach()
        torch.testing.assert_close(answer.changes[:, index], expected)


def test_an_lstm_cannot_be_trained_in_8_bits(folded, series):
    with pytest.raises(ModelError, match=r"An LSTM measures .* Leave optimize\.recover out"):
        QatModel(folded("lstm"), {})


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("a = Conv<kernel_shape=[1]>(series, w) logits = Erf(a)", "Erf_0 is a Erf, which cannot"),
        (
            'logits = Conv<kernel_shape=[1], auto_pad="SAME_UPPER">(series, w)',
            "Conv_0 is a Conv with auto_pad, which cannot",
        ),
    ],
    ids=["operator", "form"],
)
def test_unsupported_operators_are_named(body, named):
    model = parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[N,1,60] series) => (float[N,2,60] logits) {{ {body} }}
        """
    )
    weight = numpy_helper.from_array(np.ones((2, 1, 1), np.float32), "w")
    model.graph.initializer.append(weight)

    with pytest.raises(ModelError, match=named) as caught:
        check_trainable(model)

    assert all(name in str(caught.value) for name in OPERATORS)
