"""The tuning run: what it tries, what it takes, and what it must never take."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from edgedistill.bundle.reader import Model, open_bundle
from edgedistill.device import tuning
from edgedistill.device.tuning import TOLERANCE, fastest, tune, write_tuned
from edgedistill.errors import MachineError, UsageError
from edgedistill.evaluation.metrics import Estimate
from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.variants import variants
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings

TWO, FOUR = SessionSettings(threads=2), SessionSettings(threads=4)


@pytest.fixture
def student(world):
    """The student of the shared world."""
    return Model(
        name="student",
        path=world.folder / "student.onnx",
        runtime="onnxruntime",
        precision="fp32",
        parameters=58,
    )


def test_tries_threads_then_the_rest(student, world, monkeypatch):
    """With the defaults first, every candidate once, and never more threads than cores."""
    monkeypatch.setattr(tuning, "cores", lambda: 2)

    found = tune(student, world.series, rounds=3)

    tried = [trial.settings for trial in found.trials]
    assert tried[:3] == [DEFAULT, TWO, replace(TWO, spinning=False)]
    assert len(tried) == len(set(tried)) <= 6
    assert any(not settings.memory_arena for settings in tried[3:])
    assert any(settings.optimization == "extended" for settings in tried[3:])
    assert all(trial.p50_ms is not None for trial in found.trials)
    assert all(trial.logit_error <= TOLERANCE for trial in found.trials)
    assert found.settings in tried
    assert found.gain >= 1


def test_taken_settings_are_significantly_faster(student, world, monkeypatch):
    """Made-up times: two threads win the first step, no arena the second; the gains multiply."""
    ms = {1: 4.0, 2: 2.0}

    def timed(runtimes, sample, *, rounds):
        found = []
        for runtime in runtimes:
            settings = runtime.describe()["session"]
            time = ms[int(settings[0])] * (0.5 if "arena off" in settings else 1.0)
            time *= 3 if "spinning off" in settings else 1
            found.append(Estimate(time, time * 0.99, time * 1.01))
        return found

    monkeypatch.setattr(tuning, "cores", lambda: 2)
    monkeypatch.setattr(tuning, "measure_interleaved", timed)

    found = tune(student, world.series)

    assert found.settings == SessionSettings(threads=2, memory_arena=False)
    assert found.gain == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("two", "four", "taken"),
    [
        (Estimate(2.6, 2.5, 2.8), Estimate(2.7, 2.6, 2.8), TWO),
        (Estimate(2.8, 2.7, 2.95), Estimate(3.2, 3.1, 3.3), DEFAULT),
        (Estimate(2.8, 2.7, 2.95), Estimate(2.85, 2.84, 2.86), FOUR),
    ],
    ids=["the faster of two", "overlapping intervals", "slower but sure"],
)
def test_fastest(two, four, taken):
    """The fastest of those whose whole interval lies below that of what there is."""
    assert fastest({DEFAULT: Estimate(3.0, 2.9, 3.1), TWO: two, FOUR: four}) == taken


@pytest.fixture
def recurrent(world, tmp_path, rng):
    """An 8-bit LSTM, whose logits depend on how many threads ONNX Runtime has for it."""
    hidden = 16
    weights = {
        "w": rng.normal(size=(1, 4 * hidden, 1)),
        "r": rng.normal(size=(1, 4 * hidden, hidden)) / 4,
        "h": rng.normal(size=(2, hidden)),
    }
    nodes = [
        helper.make_node("Transpose", ["series"], ["steps"], perm=[2, 0, 1]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=hidden),
        helper.make_node("Squeeze", ["last", "axis"], ["state"]),
        helper.make_node("Gemm", ["state", "h"], ["logits"], transB=1),
    ]
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    constants.append(numpy_helper.from_array(np.array([0]), "axis"))
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["N", 1, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        constants,
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "f.onnx")
    quantization.quantize_dynamic(
        tmp_path / "f.onnx", tmp_path / "q.onnx", op_types_to_quantize=["LSTM"]
    )
    return Model(
        name="lstm",
        path=tmp_path / "q.onnx",
        runtime="onnxruntime",
        precision="int8",
        parameters=1,
    )


def test_settings_that_change_the_logits_are_never_taken(recurrent, world, monkeypatch):
    """A real case: ONNX Runtime's 8-bit LSTM gives other logits on two threads than on one."""
    monkeypatch.setattr(tuning, "cores", lambda: 2)

    found = tune(recurrent, world.series, rounds=3)

    refused = [trial for trial in found.trials if trial.p50_ms is None]
    assert {trial.settings.threads for trial in refused} == {2}
    assert all(trial.logit_error > TOLERANCE for trial in refused)
    assert found.settings.threads == 1


def test_a_graph_that_was_optimized_when_written_is_not_tried_otherwise(
    student, world, monkeypatch
):
    """Of an .ort file the level changes nothing."""
    monkeypatch.setattr(tuning, "cores", lambda: 1)

    levels = {
        suffix: {
            settings.optimization
            for settings in tuning._around(
                DEFAULT, replace(student, path=student.path.with_suffix(suffix))
            )
        }
        for suffix in (".onnx", ".ort")
    }

    assert levels == {".onnx": {"all", "extended"}, ".ort": {"all"}}


def test_only_onnxruntime_has_settings(student, world):
    """A model of another runtime is refused with its name."""
    with pytest.raises(UsageError, match="'student' runs in 'abacus', which has no session"):
        tune(replace(student, runtime="abacus"), world.series)


def test_missing_onnxruntime(student, world, monkeypatch):
    """The message says what installs it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(MachineError, match="python -m pip install onnxruntime"):
        tune(student, world.series)


@pytest.fixture
def two(world, tmp_path):
    """A bundle of two models, as a folder."""
    models = dict.fromkeys(("fp32", "int8"), world.folder / "student.onnx")
    return world.write(tmp_path / "b", models)


@pytest.mark.parametrize("name", ["t", "t.zip"])
def test_write_tuned_changes_the_settings_alone(two, tmp_path, name):
    """Of the model that was named; everything else is as it was, in the source and in the copy."""
    before = (two / "manifest.json").read_bytes()

    with open_bundle(two) as source:
        write_tuned(source, tmp_path / name, {"student-int8": TWO})

    with open_bundle(tmp_path / name) as tuned:
        assert [model.session for model in tuned.models] == [None, TWO]
        expected = json.loads(before)
        expected["models"][1]["session"] = TWO.to_dict()
        assert tuned.manifest == expected
    assert (two / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("name", ["b2", "b2.zip"])
def test_write_tuned_may_replace_its_own_source(world, tmp_path, name):
    """A board that tunes the bundle it has, twice: the newer settings win."""
    world.write(tmp_path / name)

    for settings in (TWO, SessionSettings()):
        with open_bundle(tmp_path / name) as source:
            write_tuned(source, tmp_path / name, {"student-fp32": settings})

    with open_bundle(tmp_path / name) as found:
        assert found.model("student-fp32").session == SessionSettings()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_write_tuned_refuses_other_targets_and_models(two, tmp_path):
    """Nothing of somebody else's is replaced, and a model that is not there is named."""
    (tmp_path / "photos").mkdir()

    with open_bundle(two) as source:
        with pytest.raises(UsageError, match="exists and is no bundle"):
            write_tuned(source, tmp_path / "photos", {"student-int8": TWO})
        with pytest.raises(UsageError, match="no model 'best'"):
            write_tuned(source, tmp_path / "t", {"best": TWO})

    assert not (tmp_path / "t").exists()


def test_8_bit_weights_with_16_bit_arithmetic_are_tuned(student, rng, tmp_path):
    """The exact mode of INT8, which such a model does not need, would end it."""
    series = rng.normal(size=(8, 1, 60)).astype(np.float32)
    network = build(ModelSpec(family="lstm", width=24, depth=1), channels=1, classes=2, length=60)
    export(network, tmp_path / "lstm.onnx", series)
    (variant,) = variants(tmp_path / "lstm.onnx", series, tmp_path, ("w8a16",))
    model = replace(student, path=variant.path, precision="w8a16")

    assert tune(model, series, rounds=1).trials
