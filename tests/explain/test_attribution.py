"""Reports have the maps of occlusion and of gradients, for each model."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedistill.attribution.gradients import gradient_input, integrated_gradients
from edgedistill.errors import UsageError
from edgedistill.evaluation import metrics
from edgedistill.explain import PlanOverrides, explain, open_input
from edgedistill.saliency import occlusion

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def input_(run, recipe):
    return open_input(run, 2, recipe=recipe)


@pytest.fixture
def bundled(run):
    return open_input(run / "result" / "bundle.zip", 2)


def _silent(what, done, total):
    """Ignore progress."""


def test_occlusion_agrees_with_running_every_copy(input_):
    """The incremental way gives the map of the black box, of the teacher's class."""
    report = explain(input_, "occlusion", _silent)

    teacher, student = (
        occlusion.explain(model.classifier.logits, input_.series, input_.plan, targets=targets)
        for model, targets in zip(input_.models, (None, np.array([report.target])), strict=True)
    )
    assert report.target == teacher.logits.argmax()
    for attribution, explanation in zip(report.attributions, (teacher, student), strict=True):
        np.testing.assert_allclose(attribution.scores, explanation.signed[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(attribution.kl, explanation.kl[0], rtol=1e-2, atol=1e-5)
        np.testing.assert_allclose(
            attribution.map,
            occlusion.time_map(explanation.signed, input_.plan)[0],
            rtol=1e-3,
            atol=1e-5,
        )
        assert attribution.probability == pytest.approx(
            metrics.softmax(explanation.logits).max(), rel=1e-5
        )
    expected = metrics.pearson(teacher.signed, student.signed)[0]
    assert report.pearson == pytest.approx(expected, abs=1e-3)


def test_recorded_maps_are_used_unchanged(bundled):
    """The model of the bundle explains the class that its teacher predicted."""
    report = explain(bundled, "occlusion", _silent)

    teacher = bundled.models[0].explanation
    np.testing.assert_array_equal(report.attributions[0].scores, teacher.signed[0])
    assert report.target == teacher.logits.argmax()
    assert report.attributions[1].kl is not None


@pytest.mark.parametrize("method", ["gradient-input", "integrated-gradients"])
def test_gradients_are_those_of_the_module(input_, method):
    """Summed over channels, and over each window for its score."""
    report = explain(input_, method, _silent)

    series = torch.from_numpy(input_.series)
    targets = torch.tensor([report.target])
    for attribution, model in zip(report.attributions, input_.models, strict=True):
        module = model.network.module
        if method == "gradient-input":
            expected = gradient_input(module, series, targets)
        else:
            level = series.mean(dim=2, keepdim=True)
            expected = integrated_gradients(module, series, targets, level)
        values = expected.sum(dim=1)[0].numpy()
        windows = [values[s : s + input_.plan.width].sum() for s in input_.plan.starts]
        np.testing.assert_allclose(attribution.map, values, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(attribution.scores, windows, rtol=1e-4, atol=1e-6)
        assert attribution.kl is None
        assert (attribution.gap is None) == (method == "gradient-input")
    first, second = report.attributions
    assert report.pearson == pytest.approx(metrics.pearson(first.map[None], second.map[None])[0])


def test_integrated_gradients_start_from_the_baseline_of_the_plan(run, recipe):
    """Zero, or the mean of each channel; a local mean is none for the whole series."""

    def ask(baseline):
        asked = open_input(run, 2, recipe=recipe, windows=PlanOverrides(baseline=baseline))
        shifted = replace(asked, series=asked.series + 1)  # normalized, it has a mean of zero
        return explain(shifted, "integrated-gradients", _silent).attributions[0].map

    assert np.abs(ask("zero") - ask("mean")).max() > 1e-4
    with pytest.raises(UsageError, match="Take --baseline mean or zero"):
        ask("local_mean")


def test_model_alone_has_no_agreement(run, recipe):
    """It explains its own class."""
    alone = open_input(run / "model" / "student.onnx", 0, recipe=recipe)

    report = explain(alone, "occlusion", _silent)

    assert report.pearson is None
    assert report.target == report.attributions[0].prediction


def test_models_without_gradients_are_refused(run, recipe, bundled):
    """An ONNX file, and a teacher that is only recorded; the message names the alternative."""
    alone = open_input(run / "model" / "student.onnx", 0, recipe=recipe)

    with pytest.raises(UsageError, match=r"the model \(student\.onnx\) is no torch module"):
        explain(alone, "gradient-input", _silent)
    with pytest.raises(UsageError, match=r"the teacher \(recorded in the bundle\) is no torch"):
        explain(bundled, "integrated-gradients", _silent)


def test_progress_counts_the_windows_of_each_model(input_):
    """Up to all windows."""
    calls = []

    explain(input_, "occlusion", lambda *call: calls.append(call))

    windows = len(input_.plan.starts)
    assert ("ask the teacher", windows, windows) in calls
    assert calls[-1] == ("ask the student", windows, windows)


def test_strongest_windows_come_first(input_):
    """By size, whatever the sign."""
    report = explain(input_, "occlusion", _silent)
    attribution = report.attributions[0]

    order = report.windows(attribution, 3)

    assert len(order) == 3
    strengths = np.abs(attribution.scores)
    assert strengths[order].tolist() == sorted(strengths, reverse=True)[:3]


@pytest.mark.parametrize("method", ["occlusion", "gradient-input"])
def test_json_has_the_values_of_the_report(input_, method):
    """JSON-able, with the last step inclusive."""
    report = explain(input_, method, _silent)

    values = json.loads(json.dumps(report.to_json(2), allow_nan=False))

    attribution, window = report.attributions[1], report.windows(report.attributions[1], 1)[0]
    student = values["models"][1]
    assert values["explained_class"] == input_.class_names[report.target]
    assert student["map"]["count"] == input_.plan.length
    assert student["map"]["max"] == pytest.approx(float(attribution.map.max()))
    assert len(student["windows"]) == 2
    assert student["windows"][0]["score"] == pytest.approx(float(attribution.scores[window]))
    first = int(input_.plan.starts[window])
    assert student["windows"][0]["first_step"] == first
    assert student["windows"][0]["last_step"] == first + input_.plan.width - 1
    assert (student["kl"] is None) == (method != "occlusion")
