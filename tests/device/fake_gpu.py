"""A GPU and a TensorRT runtime in NumPy, to run the code that needs both.

They hold our side to the order of things: buffers before use, shapes before a call, results
only after the stream was waited for. That the real modules have these calls is checked in
test_bindings.py.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace

import numpy as np


class Status(Enum):
    """What each call of CUDA returns first."""

    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2


class FakeCuda:
    """cuda.bindings.runtime with memory of the host; copies happen when the stream is awaited."""

    cudaError_t = Status
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def __init__(self) -> None:
        self.buffers: dict[int, ctypes.Array] = {}
        self.streams: set[int] = set()
        self.streams_used: set[int] = set()
        self.pending: list[Callable[[], object]] = []
        self.fails = False

    def _status(self) -> Status:
        return Status.cudaErrorMemoryAllocation if self.fails else Status.cudaSuccess

    def cudaGetErrorString(self, status):
        assert status is not Status.cudaSuccess
        return Status.cudaSuccess, b"out of memory"

    def cudaGetDevice(self):
        return self._status(), 0

    def cudaGetDeviceProperties(self, device):
        assert device == 0
        return self._status(), SimpleNamespace(name=b"Orin\0\0", major=8, minor=7)

    def cudaStreamCreate(self):
        self.streams.add(7)
        return self._status(), 7

    def cudaStreamDestroy(self, stream):
        self.streams.remove(stream)
        return (self._status(),)

    def cudaMalloc(self, nbytes):
        if self.fails:
            return self._status(), None
        buffer = (ctypes.c_char * nbytes)()
        self.buffers[ctypes.addressof(buffer)] = buffer
        return self._status(), ctypes.addressof(buffer)

    def cudaFree(self, address):
        del self.buffers[address]
        return (self._status(),)

    def cudaMemcpyAsync(self, to, source, nbytes, kind, stream):
        on_device = to if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else source
        assert nbytes <= len(self.buffers[on_device])
        self.streams_used.add(stream)
        self.pending.append(lambda: ctypes.memmove(to, source, nbytes))
        return (self._status(),)

    def cudaStreamSynchronize(self, stream):
        self.streams_used.add(stream)
        for step in self.pending:
            step()
        self.pending.clear()
        return (self._status(),)


class FakeContext:
    """An execution context that asks a NumPy function."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.profiler = None
        self.shape: tuple[int, ...] = ()
        self.at: dict[str, int] = {}

    def set_input_shape(self, name, shape):
        low, high = self.engine.batches
        assert name == "series"
        assert low <= shape[0] <= high
        self.shape = tuple(shape)
        return True

    def set_tensor_address(self, name, address):
        self.at[name] = address
        return True

    def execute_async_v3(self, stream):
        engine, shape, at = self.engine, self.shape, dict(self.at)
        assert stream in engine.cuda.streams
        if engine.fails:
            return False

        def compute():
            series = _array(at["series"], shape)
            engine.calls.append(shape[0])
            _array(at["logits"], (shape[0], engine.classes))[:] = engine.answer(series)
            if self.profiler is not None:
                self.profiler.report_layer_time("conv", 0.25)

        engine.cuda.pending.append(compute)
        return True


class FakeEngine:
    """An engine of a function (N, C, T) -> (N, K)."""

    num_io_tensors = 2

    def __init__(self, cuda: FakeCuda, answer, *, batches, shape, classes) -> None:
        self.cuda, self.answer, self.batches = cuda, answer, batches
        self.shape, self.classes = shape, classes
        self.calls: list[int] = []
        self.fails = False

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
        return FakeContext(self)

    def create_engine_inspector(self):
        tensor = [{"Name": "x", "Datatype": "Int8", "Format": "Row major linear"}]
        layer = {"Name": "conv", "LayerType": "conv", "Inputs": tensor, "Outputs": tensor}
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


def _array(address: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
