"""Sessions: settings that arrive, and providers that do not lie."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import edgedistill_kernels
import numpy as np
import onnxruntime
import pytest

import edgedistill
from edgedistill.errors import MachineError, ModelError
from edgedistill.runtimes import sessions
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings

AZURE = "AzureExecutionProvider"  # calls remote models: it runs no node of a local one
GPU_BUILD = os.environ.get("EDGEDISTILL_ORT_GPU", "")


def test_every_setting_arrives():
    """Each is read back from the options that ONNX Runtime gets."""
    settings = SessionSettings(
        threads=2, spinning=False, optimization="basic", execution="parallel", memory_arena=False
    )

    options = sessions.session_options(onnxruntime, settings)

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.inter_op.allow_spinning") == "0"
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.graph_optimization_level == level
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena


def test_the_defaults_are_onnxruntimes_own_on_one_thread():
    """What is not tuned runs as it always did."""
    options = sessions.session_options(onnxruntime, SessionSettings())

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
def test_settings_do_not_change_the_answers(world, settings):
    """A real session under each gives the same logits."""
    path = world.folder / "student.onnx"

    actual = OrtRuntime(path, settings=settings).logits(world.series)

    np.testing.assert_allclose(actual, OrtRuntime(path).logits(world.series), atol=1e-5)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "NoSuchExecutionProvider", ""])
def test_a_provider_that_this_build_lacks(world, provider):
    """Short names and others alike; the message has what there is."""
    name = sessions.PROVIDERS.get(provider, provider)
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

    def test_onnxruntime_itself_says_nothing(self, world):
        """Why the guard is there: the session opens, and the CPU computes."""
        session = onnxruntime.InferenceSession(world.folder / "student.onnx", providers=[AZURE])

        assert session.get_providers()[0] == AZURE

    def test_here_it_is_an_error_that_names_the_nodes(self, world):
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

    assert sessions._left_to_cpu(Old()) == ""


GPU_SCRIPT = """
import sys
from pathlib import Path
import onnxruntime
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.sessions import open_session
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
