"""The whole way, small but real: ItalyPowerDemand, a few epochs, every stage."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.ensemble import RandomForestClassifier

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.validate import validate
from edgedistill.errors import ConfigError, DataError, ModelError, UsageError
from edgedistill.io.files import read_json
from edgedistill.pipeline.run import Result, compress
from edgedistill.pipeline.stages.data import prepare_data, read_source
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import schema, to_json

pytestmark = pytest.mark.slow

STAGES = ("teacher", "student", "model", "variants", "result")
TINY = """
data: {train: ItalyPowerDemand, limit_per_class: 20}
teacher:
  family: fcn
  width: 8
  training: {epochs: 6, learning_rate: 0.01, batch_size: 8, accelerator: cpu}
student:
  family: fcn
  width: 8
  objectives:
    - {name: cross_entropy, weight: 0.1}
    - {name: kd}
    - {name: tsd_maps, weight: 1.0, start: 0.5}
  training: {epochs: 4, batch_size: 8, accelerator: cpu}
optimize: {precisions: [fp32, int8], runs: 10, prefer: size} # the clock decides nothing
golden: 8
contract:
  max_accuracy_drop: 1
  min_agreement: 0
  max_kl: 50
  min_saliency_pearson: -1
  min_saliency_spearman: -1
"""
CLASS_NAMES = ("teacher.class_names=[1, 2]",)  # of a student of few epochs, at chance
LOGITS_ONLY = (
    *CLASS_NAMES,
    "contract.min_saliency_pearson=null",
    "contract.min_saliency_spearman=null",
    "student.objectives=[{name: cross_entropy}, {name: kd}]",
    "optimize.precisions=[fp32]",
)


def recipe(*settings: str) -> Recipe:
    return config.parse(TINY, settings)


def ran(result: Result) -> list[str]:
    """Return the stages that had to run."""
    assert list(result.stages) == list(STAGES)
    return [name for name, was_run in result.stages.items() if was_run]


def weights(out: Path, stage: str = "student") -> dict[str, np.ndarray]:
    return load_file(out / stage / "weights.safetensors")


def assert_same_weights(first: Path, second: Path) -> None:
    found, expected = weights(first), weights(second)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Result, Path]:
    """A run from nothing to a bundle, and its folder; not to be written to."""
    out = tmp_path_factory.mktemp("run") / "out"
    return compress(recipe(), out), out


@pytest.fixture
def out(whole, tmp_path) -> Path:
    """A copy of the whole run."""
    return Path(shutil.copytree(whole[1], tmp_path / "out"))


def test_a_run_leaves_whole_stages_and_nothing_else(whole):
    """But for what calibration saw of the model, which the next run need not collect again."""
    result, out = whole

    assert ran(result) == list(STAGES)
    assert {path.name for path in out.iterdir()} == {*STAGES, "recipe.yaml", ".work"}
    assert {path.name for path in (out / ".work").iterdir()} == {"calibration"}
    assert {path.name for path in (out / "result").iterdir()} == {
        *("report.json", "report.html", "report.md", "bundle.zip", "stage.json")
    }
    for name in STAGES:
        manifest = read_json(out / name / "stage.json")
        assert manifest["stage"] == name
        assert manifest["files"]
        assert "torch" in manifest["versions"]
    assert (out / "student" / "tensorboard" / "student-0").is_dir()
    assert config.load(out / "recipe.yaml") == recipe()


def test_a_search_makes_the_variants_anew_and_nothing_before(out):
    """It competes under the contract; a second run finds everything done."""
    searching = recipe("optimize.search={agreement_loss: 0, saliency_loss: 0}")

    first, second = compress(searching, out), compress(searching, out)

    assert ran(first) == ["variants", "result"]
    assert ran(second) == []
    assert read_json(out / "variants" / "search.json")["complete"]
    names = [candidate.name for candidate in first.report.candidates]
    assert names == [v["name"] for v in read_json(out / "variants" / "variants.json")["variants"]]
    assert not (out / ".work").exists() or not list((out / ".work").glob("variants-*"))


def test_a_run_reports_the_costs_of_its_networks(whole):
    """Those of the teacher and of the student, in the order of the stages."""
    costs = whole[0].costs

    assert list(costs) == ["teacher", "student"]
    for what in ("parameters", "macs", "size_bytes"):
        assert 0 < costs["student"][what] <= costs["teacher"][what]


def test_the_report_says_what_was_measured(whole):
    result, out = whole

    values = read_json(out / "result" / "report.json")

    jsonschema.validate(values, schema())
    assert values == to_json(result.report)
    assert values["verdict"] == "kept"
    assert result.report.reasons == ()
    assert values["chosen"] == "ort-int8"  # the smaller one; everything keeps this contract
    assert [c["name"] for c in values["candidates"]] == ["ort-fp32", "ort-int8"]
    assert all(clause["pass"] for clause in values["contract"])
    assert len(values["contract"]) == 5
    assert values["references"].keys() == {"floor", "ceiling"}
    assert len(values["curves"]["teacher"]) == 6
    assert len(values["curves"]["student"]) == 4
    assert [e["title"].split()[0] for e in values["examples"]] == ["best", "median", "worst"]
    assert result.page.read_text("utf-8").lstrip().lower().startswith("<!doctype html")


def test_the_bundle_validates_as_on_a_board(whole):
    result, _ = whole
    assert result.bundle is not None

    with open_bundle(result.bundle) as bundle:
        validation = validate(bundle, runs=10)

    assert validation.verdict == "kept"
    assert bundle.chosen == result.report.chosen
    assert bundle.name == "ItalyPowerDemand"
    assert bundle.manifest["provenance"]["recipe"] == recipe().to_dict()


def test_an_unchanged_run_does_nothing(whole, out):
    before = {path: path.stat().st_mtime_ns for path in (out / "result").iterdir()}

    again = compress(recipe(), out)

    assert ran(again) == []
    assert again.report == whole[0].report
    assert {path: path.stat().st_mtime_ns for path in (out / "result").iterdir()} == before


def test_another_contract_is_only_judged_anew(out):
    result = compress(recipe("contract.max_kl=49"), out)

    assert ran(result) == ["result"]
    assert {c.name: c.threshold for c in result.report.contract}["kl"] == 49


def test_another_student_spares_the_teacher(whole, out):
    result = compress(recipe("student.width=5", "student.training.epochs=2"), out)

    assert ran(result) == ["student", "model", "variants", "result"]
    assert result.report.student is not None
    assert result.report.student.parameters < whole[0].report.student.parameters


def test_a_damaged_stage_is_made_anew(whole, out):
    """And what was made from it stays, because the same comes out."""
    model = out / "model" / "student.onnx"
    model.write_bytes(model.read_bytes()[:-1])

    result = compress(recipe(), out)

    assert ran(result) == ["model"]
    assert model.read_bytes() == (whole[1] / "model" / "student.onnx").read_bytes()


def test_a_broken_contract_leaves_no_bundle(out):
    """Not even that of an earlier run that kept its own."""
    assert (out / "result" / "bundle.zip").exists()

    result = compress(recipe("contract.max_kl=-1"), out)

    assert ran(result) == ["result"]
    assert result.bundle is None
    assert list(out.rglob("*.zip")) == []
    report = result.report
    assert (report.verdict, report.chosen) == ("broken", None)
    assert len(report.reasons) == 2
    for name, reason in zip(("ort-fp32", "ort-int8"), report.reasons, strict=True):
        assert reason.startswith(f"{name}: on the validation split, kl is ")
        assert "breaks the threshold <= -1 by " in reason
    assert [c.name for c in report.contract if not c.passed] == ["kl"]
    jsonschema.validate(read_json(out / "result" / "report.json"), schema())


def kill_in_student(out: Path) -> None:
    """Run in a process of its own, slowly enough to be killed."""

    def linger(what: str, done: int, total: int) -> None:
        if what.startswith("distill"):
            time.sleep(0.3)

    compress(recipe(), out, linger)


def killed_run(out: Path) -> None:
    """Leave behind what a run leaves that was killed while it trained the student."""
    here = Path(__file__)
    script = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as t; "
    script += f"from pathlib import Path; t.kill_in_student(Path({str(out)!r}))"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(out.glob(".work/student-*/student-0/student.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_run_goes_on_where_it_stopped(whole, tmp_path):
    """Its student is absent, never half there; resumed, it ends with the very same weights."""
    out = tmp_path / "out"
    killed_run(out)
    assert [name for name in STAGES if (out / name).exists()] == ["teacher"]
    epochs: list[int] = []

    def listen(what: str, done: int, total: int) -> None:
        if what == "distill":
            epochs.append(done)

    result = compress(recipe(), out, listen)

    assert ran(result) == ["student", "model", "variants", "result"]
    assert epochs
    assert epochs[0] > 1
    assert epochs[-1] == 4
    assert_same_weights(out, whole[1])
    assert result.report.verdict == "kept"
    assert {path.name for path in (out / ".work").iterdir()} == {"calibration"}


def as_files(folder: Path, change: Callable[[list[str]], list[str]]) -> str:
    """Write the tiny data set as NPZ, with changed test labels, and return what names it."""
    source = read_source(recipe())
    assert source.test is not None
    for part, labels, name in (
        (source.train, source.train.labels, "Italy_TRAIN.npz"),
        (source.test, change(source.test.labels), "Italy_TEST.npz"),
    ):
        np.savez(folder / name, x=np.stack(part.series), y=np.array(labels))
    return str(folder / "Italy_TRAIN.npz")


def test_test_labels_choose_nothing(whole, tmp_path, rng):
    """With other test labels the weights and the chosen variant are the same, the scores not."""
    named = as_files(tmp_path, lambda labels: rng.permutation(labels).tolist())
    shuffled = recipe(
        f"data.train={named}", "data.limit_per_class=null", "references.ceiling=false"
    )
    expected = prepare_data(recipe())
    np.testing.assert_array_equal(prepare_data(shuffled).train.x, expected.train.x)

    result = compress(shuffled, tmp_path / "out")

    assert_same_weights(tmp_path / "out", whole[1])
    first, again = whole[0].report, result.report
    assert again.chosen == first.chosen
    assert again.teacher is not None
    assert first.teacher is not None
    assert again.teacher.metrics.accuracy != first.teacher.metrics.accuracy


def test_an_onnx_teacher(whole, tmp_path):
    """The file of another run: it is not trained, so there is no ceiling and no curve of it."""
    teacher = whole[1] / "model" / "student.onnx"
    settings = (f"teacher.source={teacher}", *CLASS_NAMES, "optimize.precisions=[fp32]")

    result = compress(recipe(*settings), tmp_path)

    report = result.report
    assert report.verdict == "kept"
    assert report.references is not None
    assert report.references.keys() == {"floor"}
    assert report.curves is not None
    assert report.curves.teacher == ()
    assert report.teacher is not None
    assert report.teacher.size_bytes == teacher.stat().st_size
    assert not (tmp_path / "teacher" / "weights.safetensors").exists()


def test_another_second_teacher_makes_the_student_anew(whole, out, tmp_path):
    """Though the recipe names the same file."""
    second = shutil.copyfile(whole[1] / "model" / "student.onnx", tmp_path / "second.onnx")
    term = f"{{name: ensemble, sources: [{second}]}}"
    objectives = f"student.objectives=[{{name: cross_entropy}}, {term}]"
    changed = recipe(objectives, "optimize.precisions=[fp32]")

    first = ran(compress(changed, out))
    again = ran(compress(changed, out))
    second.write_bytes(b"something else")

    assert first == ["student", "model", "variants", "result"]
    assert again == []
    with pytest.raises(ModelError, match=r"second\.onnx"):  # because it is asked again
        compress(changed, out)


def test_an_estimator_as_teacher(tmp_path):
    """Only with trust, because a joblib file runs code."""
    data = prepare_data(recipe())
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    forest.fit(data.train.x.reshape(len(data.train.x), -1).astype(np.float64), data.train.y)
    joblib.dump(forest, tmp_path / "forest.joblib")
    settings = (f"teacher.source={tmp_path / 'forest.joblib'}", "optimize.precisions=[fp32]")

    with pytest.raises(UsageError, match="runs whatever code it contains"):
        compress(recipe(*settings), tmp_path / "out")
    result = compress(recipe(*settings, "teacher.trust=true"), tmp_path / "out")

    assert result.report.verdict == "kept"
    student = result.report.student
    assert student is not None
    assert student.metrics.saliency.pearson is not None


@pytest.fixture(scope="module")
def logits(tmp_path_factory) -> Path:
    """A teacher's logits for all series, in the order of the files."""
    source, apply = read_source(recipe()), prepare_data(recipe()).preprocessing.apply
    assert source.test is not None
    slope = np.linspace(-1, 1, 24, dtype=np.float32)
    said = [apply(part.series)[:, 0] @ slope for part in (source.train, source.test)]
    path = tmp_path_factory.mktemp("logits") / "logits.npz"
    np.savez(
        path, **{n: np.stack([s, -s], 1) for n, s in zip(("train", "test"), said, strict=True)}
    )
    return path


def test_a_file_of_logits_as_teacher(logits, tmp_path):
    """Its predictions are matched; of its reasons nothing is claimed. A changed file is noticed."""
    brought = tmp_path / "logits.npz"
    shutil.copyfile(logits, brought)
    settings = (f"teacher.source={brought}", *LOGITS_ONLY)

    result = compress(recipe(*settings), tmp_path / "out")

    report = result.report
    assert report.verdict == "kept"
    assert [c.name for c in report.contract] == ["accuracy_drop", "agreement", "kl"]
    assert report.student is not None
    assert report.student.metrics.saliency.pearson is None
    assert (report.examples, report.references) == ((), None)
    assert ran(compress(recipe(*settings), tmp_path / "out")) == []
    with np.load(logits) as arrays:
        np.savez(brought, **{name: 2 * arrays[name] for name in arrays})
    assert "teacher" in ran(compress(recipe(*settings), tmp_path / "out"))


def test_logits_cannot_keep_a_clause_on_saliency(logits, tmp_path):
    settings = (f"teacher.source={logits}", *LOGITS_ONLY, "contract.min_saliency_pearson=0.5")

    with pytest.raises(UsageError, match=r"set contract\.min_saliency_pearson to null"):
        compress(recipe(*settings), tmp_path)

    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("name", ["tsd", "tsd_maps"])
def test_logits_cannot_teach_saliency(logits, tmp_path, name):
    settings = (
        f"teacher.source={logits}",
        *LOGITS_ONLY,
        f"student.objectives=[{{name: cross_entropy}}, {{name: {name}}}]",
    )

    with pytest.raises(ConfigError, match=rf"The objective {name} asks the teacher .* Use kd"):
        compress(recipe(*settings), tmp_path)


def test_a_stage_that_fails_leaves_the_others_whole(whole, out):
    """A window longer than the series: nothing of the earlier run is touched by the mistake."""
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "recipe.yaml"}

    with pytest.raises(DataError, match="does not fit"):
        compress(recipe("saliency.width=100"), out)

    after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != "recipe.yaml"}
    assert after == before
