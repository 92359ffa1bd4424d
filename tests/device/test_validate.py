"""The verdict on this machine: kept for the right model, broken for any other."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill import report
from edgedistill.bundle.golden import save_golden
from edgedistill.bundle.reader import open_bundle
from edgedistill.device import validate as device
from edgedistill.device.runtime import start
from edgedistill.errors import IntegrityError, MachineError, ModelError, UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.report import Int8Arithmetic
from edgedistill.runtimes.instructions import instruction_set


def _validated(path, **options):
    with open_bundle(path) as bundle:
        return device.validate(bundle, **{"runs": 20, **options})


def test_original_model_keeps_the_contract(italy):
    """The model that was shipped matches its teacher and is exactly the student."""
    found = _validated(italy)

    assert found.verdict == "kept"
    assert found.fidelity.agreement == 1
    assert found.fidelity.logit_error < 1e-6
    assert found.fidelity.saliency_pearson > 0.9999
    assert {clause.name for clause in found.clauses} >= {
        "agreement",
        "saliency_pearson",
        "fidelity_logit_error",
        "fidelity_saliency_error",
    }


def test_other_weights_break_the_contract(world, tmp_path, swap_model, write_onnx, rng):
    """A network with other weights fails the clauses on the teacher, by name."""
    path = world.write(tmp_path / "b")
    swap_model(path, write_onnx(tmp_path / "other.onnx", world.student.noisy(5, rng)))

    found = _validated(path)

    failed = {clause.name for clause in found.clauses if not clause.passed}
    assert found.verdict == "broken"
    assert "saliency_pearson" in failed
    assert "fidelity_logit_error" in failed
    assert any("saliency_pearson is" in reason for reason in found.report().reasons)


@pytest.mark.parametrize(
    ("precision", "verdict"), [("fp32", "broken"), ("fp16", "kept"), ("int8", "kept")]
)
def test_fidelity_depends_on_the_precision(
    world, tmp_path, write_onnx, swap_model, rng, precision, verdict
):
    """An error of a few thousandths is FP16's right, and in FP32 a broken runtime."""
    path = world.write(tmp_path / "b", {precision: world.folder / "student.onnx"})
    swap_model(path, write_onnx(tmp_path / "near.onnx", world.student.noisy(2e-4, rng)))

    found = _validated(path)

    assert 1e-4 < found.fidelity.logit_error < 1e-2
    assert found.verdict == verdict
    failed = {clause.name for clause in found.clauses if not clause.passed}
    assert failed <= {"fidelity_logit_error", "fidelity_saliency_error"}


def test_judges_saliency_where_clean_logits_agree(world):
    """A runtime that errs only on perturbed copies is found."""
    student = world.golden.student
    wrong = dataclasses.replace(student, signed=student.signed + 1e-2)

    fidelity = device.compare_with_student(student, wrong)
    clauses = {clause.name: clause.passed for clause in device.judge_fidelity(fidelity, "fp32")}

    assert clauses == {"fidelity_logit_error": True, "fidelity_saliency_error": False}


@pytest.mark.parametrize(
    ("clause", "threshold"), [("max_size_bytes", 100), ("max_latency_p95_ms", 1e-6)]
)
def test_judges_size_and_latency_when_asked(world, tmp_path, clause, threshold):
    """Both are measured here, so the contract may name them."""
    path = world.write(tmp_path / "b", contract=Contract(**{clause: threshold}))

    found = _validated(path)

    failed = [c.name for c in found.clauses if not c.passed]
    assert failed == [clause.removeprefix("max_")]
    assert found.verdict == "broken"


def test_teacher_without_saliency_maps(world, tmp_path):
    """A teacher known only by its logits has maps of zeros: saliency is not measured."""
    teacher = world.golden.teacher
    mute = dataclasses.replace(
        teacher, kl=np.zeros_like(teacher.kl), signed=np.zeros_like(teacher.signed)
    )
    path = world.write(
        tmp_path / "b",
        golden=dataclasses.replace(world.golden, teacher=mute),
        contract=Contract(min_saliency_pearson=None, min_saliency_spearman=None),
    )

    found = _validated(path)

    assert found.verdict == "kept"
    assert found.report().candidates[0].metrics.saliency.pearson is None


def test_validates_an_alternative_by_name(world, tmp_path):
    """Another model than the chosen one can be asked for; an unknown one is a usage error."""
    student = world.folder / "student.onnx"
    path = world.write(tmp_path / "b", {"fp32": student, "fp16": student})

    assert _validated(path, model="student-fp16").model.precision == "fp16"
    with pytest.raises(UsageError, match=r"no model 'absent'. Choose one of student-fp32"):
        _validated(path, model="absent")


def test_int8_is_judged_as_every_board_computes(italy, saturating_bundle, tmp_path):
    """The .ort file through its ONNX file where it would saturate; the report names the sums."""
    path = saturating_bundle(italy, tmp_path / "bundle")

    exact, ort = (_validated(path, model=name) for name in ("ort-int8", "ort-int8-ort"))

    assert ort.measured["kl"] == exact.measured["kl"]
    assert ort.int8 == Int8Arithmetic(
        measured="exact", timed="exact", instructions=instruction_set().name
    )
    values = report.to_json(ort.report())
    jsonschema.validate(values, report.schema())
    assert report.from_json(values).candidates[0].int8 == ort.int8


def test_report_keeps_to_the_schema(italy):
    """What a board writes is a report like any other, and can be read back."""
    found = _validated(italy)

    values = report.to_json(found.report())

    jsonschema.validate(values, report.schema())
    assert report.from_json(values) == found.report()
    assert values["verdict"] == "kept"
    assert values["candidates"][0]["latency_ms"]["p95"] > 0
    assert values["environment"]["runtime"].startswith("onnxruntime")


def test_model_with_other_classes_is_a_model_error(world, tmp_path, swap_model, write_onnx):
    """Three logits for two classes are named before anything is compared."""
    student = world.student
    third = dataclasses.replace(
        student,
        head=np.vstack([student.head, student.head[:1]]),
        bias=np.append(student.bias, np.float32(0)),
    )
    path = world.write(tmp_path / "b")
    swap_model(path, write_onnx(tmp_path / "three.onnx", third))

    with pytest.raises(ModelError, match=r"shape \(1, 3\) for one series.* has 2 classes"):
        _validated(path)


def test_unknown_runtime_is_a_machine_error(italy):
    """A model for another runtime says so, and what can be done."""
    with open_bundle(italy) as bundle:
        other = dataclasses.replace(bundle.model(), runtime="abacus")

        with pytest.raises(MachineError, match="made for 'abacus', which this build cannot run"):
            start(other)


def test_golden_set_that_does_not_fit_is_an_integrity_error(world, tmp_path, replace_file):
    """Arrays that hash right but do not fit the classes are not measured with."""
    path = world.write(tmp_path / "b")
    wrong = dataclasses.replace(world.golden, labels=world.golden.labels + 7)
    save_golden(wrong, tmp_path / "wrong.npz")
    replace_file(path, "golden.npz", (tmp_path / "wrong.npz").read_bytes())

    with pytest.raises(IntegrityError, match="golden set of ItalyPowerDemand is unusable: labels"):
        _validated(path)


@pytest.fixture
def endless(world, tmp_path, swap_model):
    """A bundle whose model loops without end, before it adds nothing to the logits."""
    model = onnx.load(world.folder / "student.onnx")
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["v"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, ["N", 2]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, ["N", 2]),
        ],
    )
    model.graph.node[-1].output[0] = "inner"
    model.graph.node.append(helper.make_node("Loop", ["", "true", "inner"], ["logits"], body=body))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    onnx.save(model, tmp_path / "endless.onnx")
    path = world.write(tmp_path / "endless")
    swap_model(path, tmp_path / "endless.onnx")
    return path


@pytest.mark.parametrize("program", ["edgedistill", "edgedistill.device"])
def test_endless_model_is_stopped(endless, tmp_path, program):
    """On the workstation and on the board: exit code 3, no report, and the way to wait longer."""
    out = tmp_path / "report.json"
    command = [sys.executable, "-m", program, "validate", endless, "--out", out]

    done = subprocess.run(
        [*command, "--time-limit", "0.5"], capture_output=True, encoding="utf-8", timeout=60
    )

    assert done.returncode == 3, done.stderr
    assert "did not answer within 0.5 s and was stopped: it may loop without end" in done.stderr
    assert "--time-limit" in done.stderr
    assert not out.exists()


def test_time_limit_is_for_each_call_alone(italy):
    """Many calls take longer than one may; and a limit of nothing is refused."""
    found = _validated(italy, runs=3000, call_limit_s=0.5)

    assert found.verdict == "kept"
    with pytest.raises(UsageError, match="time limit is 0 s"):
        _validated(italy, call_limit_s=0)
