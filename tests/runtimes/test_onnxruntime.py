"""ONNX Runtime as a runtime: right logits, or a message that helps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import edgedistill_kernels
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgedistill
from edgedistill.errors import MachineError, ModelError, ShapeError
from edgedistill.runtimes import onnxruntime as runtime_module
from edgedistill.runtimes.onnxruntime import PROVIDERS, OrtRuntime, session_options
from edgedistill.runtimes.session_settings import SessionSettings

AZURE = "AzureExecutionProvider"  # calls remote models: it runs no node of a local one
GPU_BUILD = os.environ.get("EDGEDISTILL_ORT_GPU", "")


def test_logits_are_the_networks_own(world):
    """The session gives what the same network gives in NumPy, for any batch size."""
    runtime = OrtRuntime(world.folder / "student.onnx")
    weights = world.student
    assert runtime.classes == len(weights.bias)

    for count in (1, 7, 48):
        expected = weights.features(world.series[:count]) @ weights.head.T + weights.bias

        actual = runtime.logits(world.series[:count])

        assert actual.dtype == np.float32
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_describes_how_it_runs(world):
    """Version, provider and settings are told."""
    settings = SessionSettings(threads=2, memory_arena=False)

    facts = OrtRuntime(world.folder / "student.onnx", settings=settings).describe()

    assert facts["runtime"].startswith("onnxruntime 1.")
    assert facts["providers"] == "CPUExecutionProvider"
    assert facts["session"] == str(settings)


@pytest.mark.parametrize("kept", [0.5, 0.0], ids=["truncated", "empty"])
def test_damaged_file_is_a_model_error(world, tmp_path, kept):
    """Half a model names the file."""
    whole = (world.folder / "student.onnx").read_bytes()
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(whole[: int(kept * len(whole))])

    with pytest.raises(ModelError, match=r"damaged.onnx is no ONNX file.*Copy or export"):
        OrtRuntime(damaged)


def test_missing_file_is_a_model_error(tmp_path):
    """A path without a file names the file."""
    with pytest.raises(ModelError, match=r"absent.onnx"):
        OrtRuntime(tmp_path / "absent.onnx")


def test_missing_onnxruntime_says_what_installs_it(world, monkeypatch):
    """Without the package the message has the command."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(MachineError, match="python -m pip install onnxruntime"):
        OrtRuntime(world.folder / "student.onnx")


def test_telemetry_of_onnxruntime_is_off(italy, tmp_path):
    """ONNX Runtime's telemetry is off: no device id, no session file, no cache."""
    environment = {name: os.environ[name] for name in ("PATH",)}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}

    ran = subprocess.run(
        [sys.executable, "-m", "edgedistill.device", "benchmark", italy, "--runs", "3"],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert ran.returncode == 0, ran.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("shape", [(3, 1, 25), (3, 2, 24), (3, 24)], ids=str)
def test_wrong_series_are_a_shape_error(world, shape):
    """The message names both shapes."""
    runtime = OrtRuntime(world.folder / "student.onnx")

    with pytest.raises(ShapeError, match=r"Got series of shape .* takes \('N', 1, 24\)"):
        runtime.logits(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("name", [b"series", b"logits"])
def test_a_name_that_is_no_text_is_a_model_error(world, tmp_path, name):
    """ONNX Runtime loads such a model, and Python cannot say how its tensor is called."""
    path = tmp_path / "odd.onnx"
    content = (world.folder / "student.onnx").read_bytes()
    path.write_bytes(content.replace(name, b"\xff" * len(name)))

    with pytest.raises(ModelError, match=r"cannot run odd.onnx: 'utf-8' codec can't decode"):
        OrtRuntime(path)


def test_a_model_without_an_input_is_a_model_error(tmp_path):
    """One that always says the same can be loaded, and cannot be asked."""
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])
    value = numpy_helper.from_array(np.zeros((1, 2), np.float32))
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["logits"], value=value)], "g", [], [logits]
    )
    opset = [helper.make_opsetid("", 20)]
    path = tmp_path / "constant.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)

    with pytest.raises(ModelError, match=r"The input of constant.onnx is not there; one float32"):
        OrtRuntime(path)


@pytest.mark.parametrize(
    ("kind", "shape", "what"),
    [
        (TensorProto.DOUBLE, ["N", 1, 24], "input"),
        (TensorProto.FLOAT, ["N", 24], "input"),
        (TensorProto.FLOAT, [1, 1, 24], "input"),
        (TensorProto.FLOAT, ["N", 1, 24], "output"),
    ],
    ids=["float64", "rank 2", "fixed batch", "output of rank 3"],
)
def test_wrong_interface_is_a_model_error(tmp_path, kind, shape, what):
    """A model that does not take (N, C, T) and give (N, K), N free, is refused with its shapes."""
    path = _identity(tmp_path / "other.onnx", kind, shape)

    with pytest.raises(ModelError, match=rf"The {what} of other.onnx is .* with free N is needed"):
        OrtRuntime(path)


def test_failure_while_running_is_a_model_error(tmp_path):
    """A model that loads but cannot compute is explained too."""
    nodes = [
        helper.make_node("Constant", [], ["to"], value_ints=[-1, 5]),
        helper.make_node("Reshape", ["series", "to"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["N", 1, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
    )
    path = tmp_path / "odd.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    runtime = OrtRuntime(path)

    with pytest.raises(ModelError, match=r"cannot run odd.onnx: .*Reshape"):
        runtime.logits(np.zeros((2, 1, 24), dtype=np.float32))


def test_every_setting_arrives():
    """Each is read back from the options that ONNX Runtime gets."""
    settings = SessionSettings(
        threads=2, spinning=False, optimization="basic", execution="parallel", memory_arena=False
    )

    options = session_options(onnxruntime, settings)

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.graph_optimization_level == level
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena


def test_the_defaults_are_onnxruntimes_own_on_one_thread():
    """What is not tuned runs as it always did."""
    options = session_options(onnxruntime, SessionSettings())

    own = onnxruntime.SessionOptions()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.graph_optimization_level == own.graph_optimization_level
    assert options.execution_mode == own.execution_mode
    assert options.enable_cpu_mem_arena == own.enable_cpu_mem_arena
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"


@pytest.mark.parametrize(
    "settings",
    [
        SessionSettings(threads=2, spinning=False),
        SessionSettings(threads=2, execution="parallel"),
        SessionSettings(optimization="none"),
        SessionSettings(optimization="extended", memory_arena=False),
    ],
    ids=str,
)
def test_settings_do_not_change_the_logits(world, settings):
    """A real session under each gives the same logits."""
    path = world.folder / "student.onnx"

    actual = OrtRuntime(path, settings=settings).logits(world.series)

    np.testing.assert_allclose(actual, OrtRuntime(path).logits(world.series), atol=1e-5)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "NoSuchExecutionProvider", ""])
def test_a_provider_that_this_build_lacks(world, provider):
    """Short names and others alike; the message has what there is."""
    name = PROVIDERS.get(provider, provider)
    if name in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has {name}")

    with pytest.raises(MachineError, match=rf"has no {name}; it has .*CPUExecutionProvider"):
        OrtRuntime(world.folder / "student.onnx", provider=provider)


@pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(),
    reason="this ONNX Runtime has no provider that is sure to run nothing",
)
class TestSilentFallback:
    """A provider that is there, starts, and runs no node."""

    def test_onnxruntime_itself_falls_back_without_an_error(self, world):
        """Why the guard is there: the session opens, and the CPU computes."""
        session = onnxruntime.InferenceSession(world.folder / "student.onnx", providers=[AZURE])

        assert session.get_providers()[0] == AZURE

    def test_fallback_is_an_error_that_lists_the_nodes(self, world):
        """Which operators the CPU got, and the way out."""
        with pytest.raises(MachineError, match=r"leaves to the CPU .*1 Gemm.*--provider cpu"):
            OrtRuntime(world.folder / "student.onnx", provider=AZURE)

    def test_a_damaged_model_is_not_the_providers_fault(self, tmp_path):
        """Exit code 3, as on the CPU."""
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes(b"no model")

        with pytest.raises(ModelError, match=r"damaged.onnx is no ONNX file"):
            OrtRuntime(damaged, provider=AZURE)


def test_parts_without_a_record(world):
    """An ONNX Runtime that cannot tell who runs what leaves only the list of nodes out."""

    class Old:
        def get_providers(self):
            return [AZURE]

    assert runtime_module._left_to_cpu(Old()) == ""


GPU_SCRIPT = """
import sys
from pathlib import Path
import onnxruntime
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.onnxruntime import open_session
from edgedistill.errors import MachineError
from edgedistill.runtimes.session_settings import DEFAULT

student, constant, provider = sys.argv[1:]
for opened in (
    lambda: OrtRuntime(Path(student), provider=provider),
    lambda: open_session(onnxruntime, Path(constant), DEFAULT, provider),
):
    try:
        opened()
    except MachineError as error:
        print(error)
    else:
        print("opened")
"""


@pytest.mark.skipif(
    not GPU_BUILD, reason="EDGEDISTILL_ORT_GPU names no folder with onnxruntime-gpu installed"
)
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("provider", "reason"),
    [("cuda", "CUDAExecutionProvider did not start"), ("tensorrt", "Provider failed: .*TensorRT")],
)
def test_gpu_build_without_a_gpu(world, tmp_path, provider, reason):
    """The build lists its providers, cannot start them, and by itself runs all on the CPU.

    A model that is constant has no node that could fall back; it is refused too.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [],
        "constant",
        [],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(np.ones((1, 2), np.float32), "logits")],
    )
    constant = tmp_path / "constant.onnx"
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), constant)
    roots = [Path(package.__file__).parents[1] for package in (edgedistill, edgedistill_kernels)]

    ran = subprocess.run(
        [sys.executable, "-c", GPU_SCRIPT, world.folder / "student.onnx", constant, provider],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [GPU_BUILD, *roots]))},
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    assert all(re.search(rf"{reason}.*--provider cpu", line) for line in lines), lines


def _identity(path, kind, shape):
    tensor = [helper.make_tensor_value_info(name, kind, shape) for name in ("series", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["series"], ["logits"])], "g", tensor[:1], tensor[1:]
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path
