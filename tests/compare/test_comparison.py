"""Two models are alike or not, and an injected error is found in its layer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from edgedistill.compare.activations import Network
from edgedistill.compare.comparison import (
    PRECISIONS,
    TOLERANCES,
    ComparedModel,
    Tolerance,
    compare,
    precision_in,
)
from edgedistill.errors import ConfigError, ModelError, ShapeError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.optimize.float16 import to_fp16
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.quantization.int8 import to_int8
from edgedistill.saliency.occlusion import explain
from edgedistill.saliency.perturbation import default_plan

pytestmark = pytest.mark.slow

PLAN = default_plan(60)
_OVERFLOWS = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[N, 1, 4] series) => (float[N, 4] logits)
<float[1] wide = {{200.0}}, float[1] narrow = {{0.001}}, int64[1] axis = {{1}}>
{{
  large = Cast <to = {to}> (wide)
  small = Cast <to = {to}> (narrow)
  typed = Cast <to = {to}> (series)
  big = Mul(typed, large)
  bigger = Mul(big, large)
  square = Mul(bigger, small)
  flat = Squeeze(square, axis)
  logits = Cast <to = 1> (flat)
}}
"""


class Constant:
    """A classifier with the same logits for all series."""

    name, can_explain, changes = "constant", True, None

    def __init__(self, *logits: float) -> None:
        self.classes = len(logits)
        self.row = np.float32([logits])

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.repeat(self.row, len(x), axis=0)


def side(path):
    network = Network(path)
    return ComparedModel(
        name=path.name, classifier=network, network=network, precision=network.precision
    )


@pytest.fixture
def opened(tmp_path):
    """Return a model, or the text of one, as a side of a comparison."""

    def call(model):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        proto = parser.parse_model(model) if isinstance(model, str) else model
        path.write_bytes(proto.SerializeToString())
        return side(path)

    return call


def _with(model, name, change):
    """Return a model with a constant changed by a function."""
    value = next(i for i in model.graph.initializer if i.name == name)
    value.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(value).copy()), name))
    return model


def _one_weight(values):
    values[0, 0, 0] += 0.5
    return values


def test_model_is_alike_to_itself(student, series):
    """No difference, no first layer, and the same in JSON."""
    found = compare(side(student("fcn")), side(student("fcn")), series, PLAN)

    assert found.alike
    assert found.first is None
    assert found.worst(3) == []
    assert (found.outputs.logit_error, found.outputs.agreement.value) == (0, 1)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["alike"] is True


def test_a_planted_fault_is_named(student, series, opened):
    """One weight in the middle of an FCN: its convolution is the first, and adds all there is."""
    faulty = opened(_with(onnx.load(student("fcn")), "blocks.2.0.weight", _one_weight))
    node = next(n for n in onnx.load(student("fcn")).graph.node if "blocks.2.0.weight" in n.input)

    found = compare(side(student("fcn")), faulty, series, PLAN)

    assert not found.alike
    assert "a logit differs by" in found.reasons[0]
    assert (found.first.node, found.first.operator) == (node.name, "Conv")
    assert [layer.node for layer in found.worst(9)] == [node.name]
    assert [layer.beyond for layer in found.layers] == [False] * 2 + [True] * 6
    facts = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert facts["first"]["node"] == node.name
    assert facts["precision"] == "fp32"


def test_outputs_agree_with_their_definitions(student, series, opened):
    """Against the measures one by one, the first model's classes explained."""
    first = side(student("fcn"))
    second = opened(_with(onnx.load(student("fcn")), "blocks.2.0.weight", _one_weight))
    one, other = first.classifier.logits(series), second.classifier.logits(series)
    targets = one.argmax(axis=1)
    maps = [
        explain(s.classifier.logits, series, PLAN, targets=targets).signed for s in (first, second)
    ]
    errors = np.abs(one - other).max(axis=1) / max(1, np.abs(one).max())

    found = compare(first, second, series, PLAN).outputs

    assert found.logit_error == pytest.approx(errors.max(), rel=1e-5)
    assert found.logit_error_median == pytest.approx(np.median(errors), rel=1e-5)
    assert found.agreement.value == (targets == other.argmax(axis=1)).mean()
    assert found.kl == metrics.estimate_mean(metrics.kl_divergence(one, other))
    assert found.saliency_pearson.value == pytest.approx(metrics.pearson(*maps).mean(), rel=1e-6)
    assert found.saliency_spearman.value == pytest.approx(metrics.spearman(*maps).mean(), rel=1e-6)


@pytest.mark.parametrize("family", ["fcn", "lite", "lstm"])
def test_half_precision_is_alike(family, student, series, opened):
    """Within its own tolerance, not within that of FP32."""
    half = opened(to_fp16(fold(load(student(family))), series))

    found = compare(side(student(family)), half, series, PLAN)
    strict = compare(side(student(family)), half, series, PLAN, tolerance=1e-5)

    assert (found.precision, found.tolerance) == ("fp16", TOLERANCES["fp16"])
    assert found.alike
    assert found.first is None
    assert not strict.alike
    assert strict.first is not None
    assert strict.tolerance == Tolerance(layers=1e-5, logits=1e-5)


@pytest.mark.parametrize(
    ("factor", "reason"), [(60, r"span [\d.]+ steps"), (0.25, r"% of A's values lie beyond")]
)
def test_a_badly_scaled_layer_is_named(student, series, opened, factor, reason):
    """In INT8, a scale that is too coarse or too small, with what it does to the values."""
    model = to_int8(fold(load(student("fcn"))), series)
    scale = next(n.input[1] for n in model.graph.node if n.input[0] == "relu_1")

    found = compare(
        side(student("fcn")),
        opened(_with(model, scale, lambda value: np.float32(factor) * value)),
        series,
        PLAN,
    )

    assert found.precision == "int8"
    assert (found.first.tensor, found.first.operator) == ("relu_1", "Relu")
    assert found.worst(1)[0].tensor == "relu_1"
    assert found.first.reason is not None
    assert re.search(reason, found.first.reason)
    assert found.alone[0] == ("getitem", "getitem_3", "getitem_6")


def test_int8_is_judged_by_classes_and_maps(student, series, opened):
    """No bound on its logits; a model that predicts other classes is not alike."""
    model = to_int8(fold(load(student("fcn"))), series)
    swapped = onnx.load(student("fcn"))
    for name in ("head.weight", "head.bias"):
        _with(swapped, name, lambda values: values[::-1].copy())

    found = compare(side(student("fcn")), opened(model), series, PLAN)
    other = compare(opened(swapped), opened(model), series, PLAN)

    assert found.outputs.logit_error > TOLERANCES["fp32"].logits
    assert not any("logit" in reason for reason in found.reasons)
    assert found.alike == (
        found.outputs.agreement.value >= 0.99 and found.outputs.saliency_pearson.value >= 0.99
    )
    assert any("they name the same class for 0.0% of" in reason for reason in other.reasons)
    assert any("their saliency maps correlate by" in reason for reason in other.reasons)


def test_contract_takes_the_place_of_the_figures_of_int8(student, series, opened):
    """Classes and maps by its thresholds; the tolerance of a logit, and --tolerance, stay."""
    model = opened(to_int8(fold(load(student("fcn"))), series))
    first = side(student("fcn"))
    measured = compare(first, model, series, PLAN).outputs
    loose = Contract(min_agreement=0.0, max_kl=9.0, min_saliency_pearson=-1.0)
    strict = Contract(
        min_agreement=1.1,
        max_kl=measured.kl.value / 2,
        min_saliency_pearson=1.1,
        min_saliency_spearman=1.2,
    )

    kept = compare(first, model, series, PLAN, contract=replace(loose, min_saliency_spearman=None))
    broken = compare(first, model, series, PLAN, contract=strict)
    overruled = compare(first, model, series, PLAN, contract=strict, tolerance=1e6)
    single = compare(first, first, series, PLAN, contract=loose)

    assert kept.alike
    for reason, part in zip(
        broken.reasons,
        ("110% is needed", "nats; ", "(Pearson); 1.1", "(Spearman); 1.2"),
        strict=True,
    ):
        assert part in reason
    assert overruled.alike
    assert single.tolerance.logits == TOLERANCES["fp32"].logits
    assert single.tolerance.by_contract


def test_overflow_of_half_precision_is_located(opened, rng):
    """At its first layer; ONNX Runtime on a CPU computes in float32 and hides it."""
    series = (np.abs(rng.normal(size=(6, 1, 4))) + 2).astype(np.float32)
    single, half = (opened(_OVERFLOWS.format(to=kind)) for kind in (1, 10))

    found = compare(single, half, series, default_plan(4))

    assert found.precision == "fp16"
    assert found.first.tensor == "bigger"
    assert found.first.reason == "24 of 24 values are infinite or NaN in B alone"
    assert any(reason.startswith("B gives infinity or NaN at ") for reason in found.reasons)
    json.dumps(found.to_json(), allow_nan=False)


def test_logits_that_are_not_finite(student, series):
    """In the second they are a reason, in the first an error."""
    sound = side(student("fcn"))
    broken = ComparedModel(name="broken", classifier=Constant(np.nan, np.nan))

    found = compare(sound, broken, series, PLAN)

    assert found.outputs.kl is None
    assert found.outputs.saliency_pearson is None
    assert found.reasons[-1] == "B gives logits that are infinite or NaN"
    assert found.to_json()["outputs"]["logit_error"] is None
    with pytest.raises(ModelError, match="broken gives logits that are infinite or NaN"):
        compare(broken, sound, series, PLAN)


def test_renamed_layers_are_compared_in_their_order(student, series, opened):
    """The fault is named by the first model's node."""
    model = _with(onnx.load(student("fcn")), "blocks.2.0.weight", _one_weight)
    names = {name: f"v{i}" for i, n in enumerate(model.graph.node) for name in n.output}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    model.graph.output[0].name = names["logits"]

    found = compare(side(student("fcn")), opened(model), series, PLAN)

    assert found.paired_by == "order"
    assert "paired in their order" in found.notes[0]
    assert found.first.tensor == "getitem_3"


def test_models_of_other_structure_have_outputs_alone(student, series):
    """And the layers that have no counterpart are named."""
    found = compare(side(student("fcn")), side(student("lstm")), series, PLAN)

    assert found.layers == ()
    assert "Only outputs were compared: the two share no names" in found.notes[0]
    assert not found.alike


def test_a_model_without_layers_has_outputs_alone(student, series):
    """As an engine."""
    first = side(student("fcn"))
    engine = ComparedModel(name="engine.plan", classifier=first.classifier)

    found = compare(first, engine, series, PLAN)

    assert found.alike
    assert found.notes == ("Only outputs were compared: the layers of engine.plan cannot be read.",)


def test_fixed_batches(student, series, opened):
    """One size is compared as it is; two sizes, or too few series, leave the outputs."""
    sized = {}
    for size in (1, 16, 64):
        model = onnx.load(student("fcn"))
        for value in (model.graph.input[0], model.graph.output[0]):
            value.type.tensor_type.shape.dim[0].dim_value = size
        sized[size] = opened(model)
    free = side(student("fcn"))

    one, some, many, two = (
        compare(a, b, series, PLAN)
        for a, b in ((free, sized[1]), (sized[16], free), (free, sized[64]), (sized[1], sized[16]))
    )

    assert all(found.alike for found in (one, some, many, two))
    assert len(one.layers) == len(some.layers) == 8
    assert many.notes == (
        "Only outputs were compared: the files take 64 series at once, and there are 40.",
    )
    assert two.notes == ("Only outputs were compared: the files take 1 and 16 series at once.",)


def test_other_series_are_refused(student, series):
    """By the shape that the file names."""
    model = side(student("fcn"))

    with pytest.raises(
        ShapeError, match=r"fcn\.onnx takes series of \(C, T\) \(1, 60\); .* \(1, 50\)"
    ):
        compare(model, model, series[..., :50], default_plan(50))


def test_other_classes_are_refused(student, series):
    """With the shapes of both."""
    first = side(student("fcn"))
    three = ComparedModel(name="three", classifier=Constant(0, 0, 0))

    with pytest.raises(ShapeError, match=r"fcn\.onnx gives .* \(40, 2\), three of \(40, 3\)"):
        compare(first, three, series, PLAN)


def test_progress_counts_layers_and_windows(student, series):
    """Layers, then either model."""
    calls = []
    model = side(student("fcn"))

    compare(model, model, series, PLAN, on_progress=lambda *call: calls.append(call[0]))

    assert list(dict.fromkeys(calls)) == ["compare layers", "ask A", "ask B"]


def test_every_precision_has_a_tolerance_above_the_finer_ones():
    """Every precision has a criterion."""
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
    """8-bit weights count as INT8; a name without precision as FP32."""
    assert precision_in(text) == precision
