"""CUDA's driver and a TensorRT runtime without a GPU, to run the code that needs both.

They hold our side to the order of things: a context and buffers before use, shapes before a call,
results only after the stream was waited for. That the real modules and the real header have these
calls is checked in test_bindings.py.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

KERNEL = ctypes.CFUNCTYPE(None)


def compile_libcuda(folder: Path) -> Path:
    """Compile the stand-in for the driver's library."""
    library = folder / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


class FakeCuda:
    """The stand-in `libcuda.c`: what it was asked, what it still holds, and its kernels."""

    def __init__(self, library: Path) -> None:
        self.path = library
        self._library = ctypes.CDLL(str(library))
        self._library.standin_reset.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_size_t)
        self._library.standin_call.restype = ctypes.c_char_p
        self._library.standin_resolve.argtypes = (ctypes.c_uint64, ctypes.c_size_t)
        self._library.standin_resolve.restype = ctypes.c_void_p
        self._library.standin_launch.argtypes = (ctypes.c_void_p, KERNEL)
        self._kernels: list[object] = []  # as long as they may be called
        self.reset()

    def reset(self, *, devices: int = 1, shares_memory: bool = False, memory: int = 1 << 30):
        """Begin again, as another machine."""
        self._library.standin_reset(devices, shares_memory, memory)

    def fail(self, name: str, code: int = 2) -> None:
        """Let a function fail from now on."""
        self._library.standin_fail(name.encode(), code)

    @property
    def calls(self) -> list[str]:
        """Names of the functions that were called, in order."""
        count = self._library.standin_call_count()
        return [self._library.standin_call(index).decode() for index in range(count)]

    @property
    def held(self) -> dict[str, int]:
        """What was made and not given back yet."""
        names = ("device_buffers", "host_buffers", "streams", "depth")
        return {name: getattr(self._library, f"standin_{name}")() for name in names}

    def launch(self, stream: int, kernel: Callable[[], object]) -> bool:
        """Queue a kernel, as TensorRT does; False without a context or a stream of its own."""
        self._kernels.append(KERNEL(kernel))
        return self._library.standin_launch(stream, self._kernels[-1]) == 0

    def array(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        """Return what a kernel sees at an address."""
        count = int(np.prod(shape))
        at = self._library.standin_resolve(address, 4 * count)
        assert at is not None, "the address is none of the device's"
        return np.ctypeslib.as_array((ctypes.c_float * count).from_address(at)).reshape(shape)


class FakeContext:
    """An execution context that asks a NumPy function."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.profiler = None
        self.shape: tuple[int, ...] = ()
        self.at: dict[str, int] = {}
        engine.contexts += 1
        assert engine.contexts == 1, "each context has scratch memory of its own"

    def __del__(self) -> None:
        self.engine.contexts -= 1

    def set_input_shape(self, name, shape):
        low, high = self.engine.batches
        assert name == "series"
        assert low <= shape[0] <= high
        self.shape = tuple(shape)
        return self.engine.refuses != "set_input_shape"

    def set_tensor_address(self, name, address):
        self.at[name] = address
        return self.engine.refuses != "set_tensor_address"

    def execute_async_v3(self, stream):
        engine, shape, at, profiler = self.engine, self.shape, dict(self.at), self.profiler
        if engine.fails:
            return False

        def compute():
            series = engine.cuda.array(at["series"], shape)
            engine.calls.append(shape[0])
            engine.cuda.array(at["logits"], (shape[0], engine.classes))[:] = engine.answer(series)
            if profiler is not None:
                profiler.report_layer_time("conv", 0.25)

        return engine.cuda.launch(stream, compute)


class FakeEngine:
    """An engine of a function (N, C, T) -> (N, K)."""

    num_io_tensors = 2
    device_memory_size_v2 = 3 << 20
    kind = "conv"  # of its only layer

    def __init__(self, cuda: FakeCuda, answer, *, batches, shape, classes) -> None:
        self.cuda, self.answer, self.batches = cuda, answer, batches
        self.shape, self.classes = shape, classes
        self.calls: list[int] = []
        self.fails = False
        self.refuses = ""  # the call that gives None or False, as without memory
        self.contexts = 0  # alive

    def _free(self) -> int:
        return self.batches[0] if self.batches[0] == self.batches[1] else -1

    def get_tensor_name(self, index):
        return ("logits", "series")[index]

    def get_tensor_mode(self, name):
        return {"series": "in", "logits": "out"}[name]

    def get_tensor_shape(self, name):
        rest = self.shape if name == "series" else (self.classes,)
        return (self._free(), *rest)

    def get_tensor_profile_shape(self, name, profile):
        assert (name, profile) == ("series", 0)
        low, high = self.batches
        return [(low, *self.shape), (low, *self.shape), (high, *self.shape)]

    def create_execution_context(self):
        return None if self.refuses == "create_execution_context" else FakeContext(self)

    def create_engine_inspector(self):
        tensor = [{"Name": "x", "Datatype": "Int8", "Format": "Row major linear"}]
        layer = {"Name": "conv", "LayerType": self.kind, "Inputs": tensor, "Outputs": tensor}
        return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": [layer]}))


class FakeRuntime:
    """Deserializes every plan to the engine that the test made."""

    engine: FakeEngine | None = None
    made: list[FakeRuntime]

    def __init__(self, log) -> None:
        self.log = log
        self.engine_host_code_allowed = False
        self.DLA_core = -1
        self.made.append(self)

    def deserialize_cuda_engine(self, plan):
        assert plan == b"a plan"
        self.log.log(2, "Using an engine plan file across different models of devices")
        return self.engine


def module(engine: FakeEngine | None) -> SimpleNamespace:
    """Return what stands for the module tensorrt."""
    runtime = type("Runtime", (FakeRuntime,), {"engine": engine, "made": []})
    severities = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
    return SimpleNamespace(
        __version__="10.3.0",
        ILogger=type("ILogger", (), {"Severity": severities}),
        Runtime=runtime,
        IProfiler=type("IProfiler", (), {}),
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
    )
