"""Who can be asked: networks of ours, brought teachers; not what cannot answer."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.errors import ModelError, ShapeError, UsageError
from edgedistill.explain.models import explained_model, named_teacher
from edgedistill.pipeline.artifacts import network_of
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.recipe import recipe as config


@pytest.fixture(scope="module")
def data(recipe):
    return prepare_data(recipe)


def _named(spec, data, **changes):
    given = {"weights": None, "trust": False, **changes}
    return named_teacher(str(spec), data.class_names, data.train.x, **given)


def test_a_network_answers_and_has_gradients(run, data):
    """Under the name of its folder."""
    voice = explained_model("student", network_of(run / "student", data.class_names, data.test.x))

    assert (voice.role, voice.name) == ("student", "student")
    assert voice.network is not None
    assert voice.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_folder_and_a_file_name_a_teacher(run, data):
    """Only the folder's network has gradients."""
    folder, file = (_named(run / place, data) for place in ("teacher", "model/student.onnx"))

    assert (folder.role, file.role) == ("teacher", "teacher")
    assert folder.network is not None
    assert file.network is None


def test_weights_of_another_teacher_are_left_alone(run, data):
    """A run's own factory may have some; the file named instead brings its own."""
    voice = _named(run / "model" / "student.onnx", data, weights="run.safetensors")

    assert voice.classifier.logits(data.test.x).shape == (len(data.test.x), 2)


def test_a_file_of_logits_is_refused(data, tmp_path):
    """It has nothing to say of covered windows."""
    source = tmp_path / "logits.npz"
    np.savez(source, train=np.random.default_rng(0).normal(size=(len(data.train.x), 2)))

    with pytest.raises(UsageError, match=r"logits\.npz is a file of logits"):
        _named(source, data)


def test_a_missing_file_is_told(data):
    """As `train` tells it."""
    with pytest.raises(ModelError, match=r"There is no file none\.onnx"):
        _named("none.onnx", data)


def test_a_network_of_other_series_is_refused(run):
    """A convolutional network would answer for any length; its own and the found one are named."""
    shorter = prepare_data(
        config.parse("data: {train: ItalyPowerDemand, limit_per_class: 15, length: 20}")
    )

    for ask in (
        lambda: network_of(run / "student", shorter.class_names, shorter.test.x),
        lambda: _named(run / "teacher", shorter),
    ):
        with pytest.raises(ShapeError, match=r"1 channels, 24 steps and 2 classes; .* 1, 20 and 2"):
            ask()
