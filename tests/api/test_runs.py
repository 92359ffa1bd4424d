"""Train, distill, compress and predict from Python, on arrays in memory."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

import edgedistill as ed
from edgedistill.cli import run as run_command
from edgedistill.errors import ConfigError, ContractError, DataError, UsageError
from edgedistill.io.files import read_json
from edgedistill.models import FCN

pytestmark = pytest.mark.slow

LOOSE = ed.Contract(
    max_accuracy_drop=1, min_agreement=0, max_kl=99, min_saliency_pearson=-1,
    min_saliency_spearman=-1,
)  # fmt: skip
QUICK = {
    "references.ceiling": False,
    "optimize.runs": 10,
    "optimize.precisions": ["fp32"],
    "teacher.training.accelerator": "cpu",
    "student.training.accelerator": "cpu",
}


@pytest.fixture(scope="module")
def arrays():
    x, y = load_italy_power_demand(split="train")
    names = np.array(["winter", "summer"])[(y == "2").astype(int)]
    return x, names


@pytest.fixture(scope="module")
def data(arrays):
    x, names = arrays
    return ed.Dataset(x[:40], names[:40], test=(x[40:], names[40:]), name="power")


@pytest.fixture(scope="module")
def calls():
    """What progress was reported."""
    return []


@pytest.fixture(scope="module")
def run(data, calls, tmp_path_factory):
    """A run over all three calls, which share a folder."""
    folder = tmp_path_factory.mktemp("runs") / "power"
    teacher = ed.train(data, width=4, epochs=2, settings=QUICK, out=folder)
    student = partial(FCN, width=3, depth=1)
    ed.distill(teacher, data, student=student, objectives=["kd"], epochs=2, settings=QUICK,
               out=folder)  # fmt: skip
    return ed.compress(
        data, teacher, student=student, objectives=["kd"], epochs=2, contract=LOOSE,
        settings=QUICK, out=folder, progress=lambda *event: calls.append(event),
    )  # fmt: skip


def test_calls_on_one_folder_go_on_from_each_other(run, calls):
    """Neither teacher nor student is trained again."""
    stages = {stage for stage, _, _ in calls}

    assert stages == {"export", "optimize", "measure"}


def test_run_has_its_results(run):
    assert run.verdict == "kept"
    assert run.report.name == "power"
    assert run.page.is_file()
    assert read_json(run.path / "student" / "model.json")["spec"]["arguments"]["width"] == 3
    assert re.search(r"Agreement with the teacher: .* \(≥ 0.0 %, kept\)", repr(run))
    assert "<td>verdict</td><td>kept" in run._repr_html_()
    assert repr(ed.Run(run.path)) == repr(run)


def test_command_repeats_the_run(run, capsys):
    """Its recipe names what was kept in files, so that all stages are found done."""
    assert run_command(["compress", str(run.recipe), "--out", str(run.path), "--json"]) == 0

    assert not re.search(
        r'"(teacher|student|model|variants|result)": true', capsys.readouterr().out
    )


def test_bundle_predicts_as_the_report_says(run, arrays):
    """By name, from arrays and from tensors alike."""
    x, names = arrays

    predicted = run.bundle.predict(x[40:])

    accuracy = next(m for m in run.report.models() if m.name == run.report.chosen).metrics.accuracy
    assert float((predicted == names[40:]).mean()) == pytest.approx(accuracy.value)
    probabilities = run.bundle.predict_proba(list(x[40:]))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert run.bundle.class_names == ("summer", "winter")
    assert "summer winter" in repr(run.bundle)
    assert "<td>model</td>" in run.bundle._repr_html_()


def test_bundle_is_validated_here_as_on_a_board(run):
    assert run.bundle.validate().verdict == "kept"


def test_bundle_refuses_what_it_cannot_predict(run):
    with pytest.raises(DataError, match="2 channels"):
        run.bundle.predict(np.zeros((1, 2, 24)))
    with pytest.raises(DataError, match="Series 0"):
        run.bundle.predict(np.full((1, 1, 24), np.nan))
    with pytest.raises(DataError, match="Cannot read"):
        run.bundle.predict("absent.csv")


def test_explanation_is_drawn(run):
    """As a figure of its own, and as a picture in a notebook."""
    explained = run.explain(3)

    assert [axes.get_ylabel() for axes in explained.plot().axes][:2] == ["series", "teacher"]
    assert explained._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="no series 99"):
        run.explain(99)


def test_student_has_network_and_figures(run):
    student = ed.Student(run.path / "student")

    assert sum(p.numel() for p in student.network.parameters()) > 0
    assert set(student.figures) == {"accuracy", "kl", "saliency_pearson"}
    assert "accuracy" in repr(student)
    assert "<td>kl</td>" in student._repr_html_()


def test_broken_contract_has_a_verdict_and_no_bundle(run, data):
    """The stages before it stay; the error has the reasons."""
    strict = ed.Contract(min_agreement=1.1)
    teacher = ed.train(data, width=4, epochs=2, settings=QUICK, out=run.path)

    broken = ed.compress(
        data, teacher, student=partial(FCN, width=3, depth=1), objectives=["kd"], epochs=2,
        contract=strict, settings=QUICK, out=run.path,
    )  # fmt: skip

    assert broken.verdict == "broken"
    with pytest.raises(ContractError, match="agreement"):
        _ = broken.bundle


def test_settings_that_no_recipe_has_are_refused(data, tmp_path):
    with pytest.raises(ConfigError, match=r"student\.widht"):
        ed.compress(data, settings={"student.widht": 3}, out=tmp_path)
    with pytest.raises(UsageError, match="plain values"):
        ed.compress(data, settings={"seed": object()}, out=tmp_path)
