"""Teachers and students as recipes name them."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.dummy import DummyClassifier
from torch import nn

from edgedistill.api.networks import student_section, teacher
from edgedistill.errors import UsageError
from edgedistill.models import FCN, ModelSpec, build
from edgedistill.teachers import load

SMALL = partial(FCN, width=2, depth=1)
FCN_SOURCE = "edgedistill.models.families:FCN"


@pytest.fixture
def prepared(rng):
    """What of a prepared data set is looked at: shapes and some series."""
    x = rng.normal(size=(8, 1, 20)).astype(np.float32)
    return SimpleNamespace(channels=1, classes=2, length=20, train=SimpleNamespace(x=x))


def section(model, folder, prepared, names=None):
    return teacher(model).write(folder, SimpleNamespace(class_names=names), prepared)


@pytest.mark.parametrize(
    ("student", "expected"),
    [
        ("fcn:8", {"family": "fcn", "width": 8}),
        ("lite", {"family": "lite"}),
        ("nets:Net", {"source": "nets:Net"}),
        ({"family": "lstm", "depth": 1}, {"family": "lstm", "depth": 1}),
        (FCN, {"source": FCN_SOURCE}),
        (SMALL, {"source": FCN_SOURCE, "arguments": {"width": 2, "depth": 1}}),
        (
            partial(SMALL, width=3),
            {"source": FCN_SOURCE, "arguments": {"width": 3, "depth": 1}},
        ),
    ],
)
def test_students_are_named(student, expected, tmp_path, prepared):
    assert student_section(student, tmp_path, prepared) == expected


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ("fcm:8:2", None),
        ("resnet18", "no student"),
        (lambda: None, "cannot be imported"),
        (SMALL(channels=1, classes=2), "functools.partial\\(FCN"),
        (nn.Sequential(nn.Flatten(), nn.Linear(20, 2)), "cannot be made again"),
        (partial(FCN, 1), "by their names"),
        (partial(FCN, width="8"), "no numbers"),
    ],
)
def test_students_that_no_recipe_can_name_are_refused(student, message, tmp_path, prepared):
    if message is None:
        assert student_section(student, tmp_path, prepared) == {"source": student}
        return
    with pytest.raises(UsageError, match=message):
        student_section(student, tmp_path, prepared)


def test_class_of_a_program_cannot_be_imported_by_a_recipe(tmp_path, prepared):
    """Nor one inside a function."""

    class Net(nn.Module):
        pass

    with pytest.raises(UsageError, match="file of its own"):
        student_section(Net, tmp_path, prepared)
    cell = type("Net", (nn.Module,), {"__module__": "__main__"})
    with pytest.raises(UsageError, match="writefile my_models"):
        student_section(cell, tmp_path, prepared)


def test_module_with_a_factory_is_kept_as_weights(tmp_path, prepared):
    module = SMALL(channels=1, classes=2)

    named = teacher(module, factory=SMALL).write(
        tmp_path, SimpleNamespace(class_names=None), prepared
    )

    assert named["source"] == FCN_SOURCE
    assert named["arguments"] == {"width": 2, "depth": 1}
    weights = load_file(named["weights"])
    assert all(weights[name].equal(value) for name, value in module.state_dict().items())


def test_factory_of_another_module_is_refused(tmp_path, prepared):
    module = SMALL(channels=1, classes=2)

    with pytest.raises(UsageError, match="another module"):
        teacher(module, factory=partial(FCN, width=3, depth=1)).write(
            tmp_path, SimpleNamespace(class_names=None), prepared
        )


def test_module_that_nothing_makes_again_is_exported(tmp_path, prepared):
    """Its logits stay."""
    torch.manual_seed(0)
    module = build(ModelSpec(family="fcn", width=2), channels=1, classes=2, length=20).eval()

    named = section(module, tmp_path, prepared)

    opened = load(named["source"], class_names=("a", "b"), train=prepared.train.x)
    expected = module(torch.from_numpy(prepared.train.x)).detach().numpy()
    np.testing.assert_allclose(opened.logits(prepared.train.x), expected, atol=1e-4)


def test_estimator_is_written_for_the_recipe(tmp_path, prepared):
    """What was just written is trusted."""
    estimator = DummyClassifier().fit(np.zeros((4, 20)), [0, 1, 0, 1])

    named = section(estimator, tmp_path, prepared)

    assert named["trust"]
    assert isinstance(joblib.load(named["source"]), DummyClassifier)


def test_names_of_classes_are_those_of_the_columns(tmp_path, prepared):
    """Where their order is not that of the data, and an estimator has none of its own."""
    names = ("walk", "rest")

    assert section("a.onnx", tmp_path, prepared, names)["class_names"] == ["walk", "rest"]
    assert "class_names" not in section("a.onnx", tmp_path, prepared, ("rest", "walk"))
    estimator = DummyClassifier().fit(np.zeros((2, 20)), ["rest", "walk"])
    assert "class_names" not in section(estimator, tmp_path, prepared, names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2],), "no teacher"),
        ((nn.Linear(1, 1), {"weights": "a"}), "teacher in files"),
        (("a.onnx", {"factory": FCN}), "module in memory"),
    ],
)
def test_what_is_no_teacher_is_refused(arguments, message):
    model, options = (*arguments, {})[:2]

    with pytest.raises(UsageError, match=message):
        teacher(model, **options)


def test_teachers_describe_themselves():
    own = teacher("a.onnx", class_names=["<a>", "b"])

    assert teacher(own) is own
    assert repr(own) == "Teacher 'a.onnx': class_names ['<a>', 'b']"
    assert "&lt;a&gt;" in own._repr_html_()
    assert repr(teacher(nn.Linear(1, 1))) == "Teacher 'Linear'"
