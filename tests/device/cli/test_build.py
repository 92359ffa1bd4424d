"""`build`: the table, the JSON, the exit codes; engines are TensorRT-RTX's, or a stand-in's."""

from __future__ import annotations

import json

import pytest

from edgedistill.device.__main__ import main
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt import engine_cache
from edgedistill.runtimes.tensorrt.builder import BuildOptions, EngineBuild

pytestmark = pytest.mark.slow

ELSEWHERE = ["--compute-capability", "8.6"]


def test_builds_for_a_gpu_elsewhere(italy, tmp_path, capsys, rtx):
    """A table that says what was built; the second time it was there."""
    command = ["build", str(italy), "--cache", str(tmp_path), *ELSEWHERE]

    assert main(command) == 0
    first = capsys.readouterr().out
    assert main(command) == 0
    second = capsys.readouterr().out

    assert "built: there was none in the cache" in first
    assert f"tensorrt_rtx {rtx.version} on GPU any, compute capability 8.6" in first
    assert first.endswith("unknown, because the GPU is not here\n")
    assert "found in the cache" in second


def test_prints_json(italy, tmp_path, capsys, rtx):
    """All facts, and the options as they were used."""
    options = ["--level", "1", "--workspace-mib", "32", "--max-batch", "8", "--json"]

    assert main(["build", str(italy), "--cache", str(tmp_path), *ELSEWHERE, *options]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["options"] == {
        "max_batch": 8,
        "level": 1,
        "workspace_mib": 32,
        "dla_core": None,
        "version_compatible": False,
        "refit": False,
    }
    assert found["size_bytes"] > 1000
    assert found["layers"] is None
    assert found["memory_bytes"] is None
    assert isinstance(found["warnings"], list)


@pytest.fixture
def board(fake_tensorrt, rtx, world, monkeypatch):
    """A machine with a GPU and TensorRT: stand-ins whose engine answers like the student."""
    student = OrtRuntime(world.folder / "student.onnx")
    built = []

    def serialize(library, model, options, **_):
        built.append(options)
        return EngineBuild(b"a plan", (), ("a tactic was skipped",))

    monkeypatch.setattr(engine_cache, "serialize", serialize)
    fake_tensorrt(student.logits, batches=(1, 64), shape=(1, 24), classes=2)
    return built


def test_shows_layers_where_the_engine_runs(board, italy, tmp_path, capsys):
    """Precisions and times of the layers, and their sums."""
    assert main(["build", str(italy), "--cache", str(tmp_path)]) == 0

    lines = capsys.readouterr().out.splitlines()
    warnings = [line.split("  ")[-1].strip() for line in lines if line.startswith("warning")]
    assert warnings[0] == "a tactic was skipped"
    assert warnings[1].startswith("Using an engine plan file across")
    assert any(line.startswith("scratch memory of a call") for line in lines)
    (total,) = (line for line in lines if line.startswith("layers in int8"))
    assert total.endswith("1, 0.2500 ms")
    assert lines[-2].split() == ["layer", "kind", "reads", "writes", "time", "ONNX", "nodes"]
    assert lines[-1].split() == ["conv", "conv", "int8", "int8", "0.2500", "ms"]


def test_validate_and_benchmark_take_the_engine_that_was_built(board, world, tmp_path, capsys):
    """A model for TensorRT: the same options find the same engine, other options build another."""
    bundle = str(world.write(tmp_path / "b.zip", runtime="tensorrt"))
    options = ["--cache", str(tmp_path / "engines"), "--level", "1"]
    out = tmp_path / "report.json"

    assert main(["build", bundle, *options]) == 0
    assert main(["validate", bundle, *options, "--runs", "5", "--out", str(out)]) == 0
    assert main(["benchmark", bundle, *options, "--runs", "5", "--no-costs"]) == 0
    assert "Orin, compute capability 8.7" in capsys.readouterr().out
    assert board == [BuildOptions(level=1)]
    assert main(["benchmark", bundle, *options, "--runs", "5", "--no-costs", "--level", "2"]) == 0

    assert board == [BuildOptions(level=1), BuildOptions(level=2)]
    written = json.loads(out.read_text())
    assert written["verdict"] == "kept"
    assert written["environment"]["runtime"] == "tensorrt 10.3.0"


def test_first_validation_reports_the_engine_build(board, world, tmp_path, capsys):
    """It can take minutes, so stderr says so; the second run finds the engine."""
    bundle = str(world.write(tmp_path / "b.zip", runtime="tensorrt"))
    command = ["validate", bundle, "--cache", str(tmp_path / "engines"), "--runs", "5"]
    command += ["--out", str(tmp_path / "report.json"), "--json"]

    main(command)
    first = capsys.readouterr()
    main(command)
    second = capsys.readouterr()

    assert "Building the engine of student-fp32.onnx for tensorrt 10.3.0 on GPU Orin" in first.err
    assert "Building" not in first.out + second.out + second.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--level", "9"], 2, "The optimization level is 9"),
        (["--model", "other"], 2, "no model 'other'"),
        (["--compute-capability", "1.0"], 2, "does not build for compute capability '1.0'"),
        ([*ELSEWHERE, "--dla", "0"], 5, "there is no core 0"),
        ([*ELSEWHERE, "--version-compatible"], 3, "cannot build student-fp32.onnx"),
    ],
    ids=["level", "model", "capability", "dla", "builder"],
)
def test_errors_become_messages_and_codes(italy, tmp_path, capsys, rtx, options, code, message):
    """One line on stderr and nothing in the cache."""
    assert main(["build", str(italy), "--cache", str(tmp_path), *options]) == code

    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert list(tmp_path.iterdir()) == []


def test_layers_left_to_the_gpu_are_listed(board, italy, tmp_path, capsys, monkeypatch):
    """The fallback to the GPU, which TensorRT keeps to itself, has a line of its own."""
    monkeypatch.setattr(
        engine_cache, "serialize", lambda *_, **__: EngineBuild(b"a plan", ("mean", "head"))
    )

    assert main(["build", str(italy), "--cache", str(tmp_path), "--dla", "0"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("layers that DLA leaves to the GPU  mean, head") for line in lines)
