"""What models say of a series is what occlusion and the gradients say, put side by side."""

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


@pytest.fixture(scope="module")
def subject(run, recipe):
    return open_input(run, 2, recipe=recipe)


@pytest.fixture
def bundled(run):
    return open_input(run / "result" / "bundle.zip", 2)


def _silent(what, done, total):
    """Listen to nothing."""


def test_occlusion_agrees_with_asking_about_every_copy(subject):
    """The fast way through the network gives the map of the black box, of the teacher's class."""
    account = explain(subject, "occlusion", _silent)

    teacher, student = (
        occlusion.explain(voice.classifier.logits, subject.series, subject.plan, targets=targets)
        for voice, targets in zip(subject.models, (None, np.array([account.target])), strict=True)
    )
    assert account.target == teacher.logits.argmax()
    for told, said in zip(account.attributions, (teacher, student), strict=True):
        np.testing.assert_allclose(told.scores, said.signed[0], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(told.kl, said.kl[0], rtol=1e-2, atol=1e-5)
        np.testing.assert_allclose(
            told.map, occlusion.time_map(said.signed, subject.plan)[0], rtol=1e-3, atol=1e-5
        )
        assert told.probability == pytest.approx(metrics.softmax(said.logits).max(), rel=1e-5)
    expected = metrics.pearson(teacher.signed, student.signed)[0]
    assert account.pearson == pytest.approx(expected, abs=1e-3)


def test_recorded_maps_are_taken_as_they_are(bundled):
    """The model of the bundle is asked about the class that its teacher named."""
    account = explain(bundled, "occlusion", _silent)

    teacher = bundled.models[0].explanation
    np.testing.assert_array_equal(account.attributions[0].scores, teacher.signed[0])
    assert account.target == teacher.logits.argmax()
    assert account.attributions[1].kl is not None


@pytest.mark.parametrize("method", ["gradient-input", "integrated-gradients"])
def test_gradients_are_those_of_the_module(subject, method):
    """Summed over channels, and over each window for its score."""
    account = explain(subject, method, _silent)

    series = torch.from_numpy(subject.series)
    targets = torch.tensor([account.target])
    for told, voice in zip(account.attributions, subject.models, strict=True):
        module = voice.network.module
        if method == "gradient-input":
            expected = gradient_input(module, series, targets)
        else:
            level = series.mean(dim=2, keepdim=True)
            expected = integrated_gradients(module, series, targets, level)
        values = expected.sum(dim=1)[0].numpy()
        windows = [values[s : s + subject.plan.width].sum() for s in subject.plan.starts]
        np.testing.assert_allclose(told.map, values, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(told.scores, windows, rtol=1e-4, atol=1e-6)
        assert told.kl is None
        assert (told.gap is None) == (method == "gradient-input")
    first, second = account.attributions
    assert account.pearson == pytest.approx(metrics.pearson(first.map[None], second.map[None])[0])


def test_integrated_gradients_start_from_the_baseline_of_the_plan(run, recipe):
    """Zero, or the mean of each channel; a local mean is none for the whole series."""

    def ask(baseline):
        asked = open_input(run, 2, recipe=recipe, windows=PlanOverrides(baseline=baseline))
        shifted = replace(asked, series=asked.series + 1)  # normalized, it has a mean of zero
        return explain(shifted, "integrated-gradients", _silent).attributions[0].map

    assert np.abs(ask("zero") - ask("mean")).max() > 1e-4
    with pytest.raises(UsageError, match="Take --baseline mean or zero"):
        ask("local_mean")


def test_a_model_alone_is_held_against_nothing(run, recipe):
    """It explains its own class."""
    alone = open_input(run / "model" / "student.onnx", 0, recipe=recipe)

    account = explain(alone, "occlusion", _silent)

    assert account.pearson is None
    assert account.target == account.attributions[0].prediction


def test_models_without_gradients_are_refused(run, recipe, bundled):
    """An ONNX file, and a teacher that is only recorded; the message says what to take."""
    alone = open_input(run / "model" / "student.onnx", 0, recipe=recipe)

    with pytest.raises(UsageError, match=r"the model \(student\.onnx\) is no torch module"):
        explain(alone, "gradient-input", _silent)
    with pytest.raises(UsageError, match=r"the teacher \(recorded in the bundle\) is no torch"):
        explain(bundled, "integrated-gradients", _silent)


def test_progress_is_told_for_each_model(subject):
    """Up to all windows."""
    heard = []

    explain(subject, "occlusion", lambda *told: heard.append(told))

    windows = len(subject.plan.starts)
    assert ("ask the teacher", windows, windows) in heard
    assert heard[-1] == ("ask the student", windows, windows)


def test_strongest_windows_come_first(subject):
    """By size, whatever the sign."""
    account = explain(subject, "occlusion", _silent)
    told = account.attributions[0]

    order = account.windows(told, 3)

    assert len(order) == 3
    strengths = np.abs(told.scores)
    assert strengths[order].tolist() == sorted(strengths, reverse=True)[:3]


@pytest.mark.parametrize("method", ["occlusion", "gradient-input"])
def test_json_says_what_the_account_holds(subject, method):
    """JSON-able, with the last step inclusive."""
    account = explain(subject, method, _silent)

    values = json.loads(json.dumps(account.to_json(2), allow_nan=False))

    told, window = account.attributions[1], account.windows(account.attributions[1], 1)[0]
    student = values["models"][1]
    assert values["explained_class"] == subject.class_names[account.target]
    assert student["map"]["count"] == subject.plan.length
    assert student["map"]["max"] == pytest.approx(float(told.map.max()))
    assert len(student["windows"]) == 2
    assert student["windows"][0]["score"] == pytest.approx(float(told.scores[window]))
    first = int(subject.plan.starts[window])
    assert student["windows"][0]["first_step"] == first
    assert student["windows"][0]["last_step"] == first + subject.plan.width - 1
    assert (student["kl"] is None) == (method != "occlusion")
