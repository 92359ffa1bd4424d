"""NVIDIA's Python bindings: TensorRT's module with its log, and CUDA's memory.

TensorRT and TensorRT-RTX have the same classes, so everything above works with either; only a
function whose name ends in `_rtx` may use what TensorRT-RTX alone has. Nothing is imported before
`load_tensorrt`, cuda-python's runtime bindings when a GPU is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import MachineError
from edgedistill.io.arrays import Floats

if TYPE_CHECKING:
    import tensorrt
    from cuda.bindings import runtime

_MODULES: Final = ("tensorrt", "tensorrt_rtx")  # best first


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded module and the one log that it may have.

    TensorRT keeps the first log and ignores all later ones, so a process
    has one `Library`.
    """

    name: str  # "tensorrt" or "tensorrt_rtx"
    trt: Any  # the module
    log: Any  # logger of each builder, parser and runtime
    _messages: list[str]

    @property
    def version(self) -> str:
        """Return the version, such as "10.3.0"."""
        return str(self.trt.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which has no timing cache and no DLA."""
        return self.name == "tensorrt_rtx"

    def drain_messages(self) -> str:
        """Return the warnings and errors since the last call, and forget them."""
        text = "; ".join(dict.fromkeys(self._messages))
        self._messages.clear()
        return text


@cache
def load_tensorrt() -> Library:
    """Import TensorRT, or TensorRT-RTX if TensorRT is not installed.

    Raises:
        MachineError: neither is installed, or the one that is cannot be loaded.
    """
    for name in _MODULES:
        try:
            trt = import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
            raise _unloadable(name, error) from error
        except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
            raise _unloadable(name, error) from error
        said: list[str] = []
        return Library(name, trt, _logger(trt, said.append), said)
    raise MachineError(
        "TensorRT is not installed for this Python. On a Jetson it comes with JetPack: install "
        "python3-libnvinfer and make the environment with --system-site-packages. Elsewhere: "
        "python -m pip install tensorrt"
    )


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that an engine depends on."""

    name: str  # such as "Orin"
    compute_capability: str  # such as "8.7"


def find_gpu() -> Gpu:
    """Return the GPU that CUDA works with here.

    Raises:
        MachineError: there is none, or its driver or cuda-python is missing.
    """
    cudart = _cuda_runtime()
    device = _done(cudart, cudart.cudaGetDevice())
    properties: runtime.cudaDeviceProp = _done(cudart, cudart.cudaGetDeviceProperties(device))
    name = properties.name.decode().strip("\0 ")
    return Gpu(name, f"{properties.major}.{properties.minor}")


class DeviceMemory:
    """A stream, and buffers on the device that live as long as this does.

    Raises:
        MachineError: CUDA fails, for want of memory or otherwise. So do all its methods.
    """

    def __init__(self) -> None:
        self._cudart = _cuda_runtime()
        self.stream = int(_done(self._cudart, self._cudart.cudaStreamCreate()))
        self._buffers: list[int] = []
        weakref.finalize(self, _release, self._cudart, self.stream, self._buffers)

    def allocate(self, nbytes: int) -> int:
        """Return the address of a new buffer."""
        address = int(_done(self._cudart, self._cudart.cudaMalloc(nbytes)))
        self._buffers.append(address)
        return address

    def upload(self, address: int, array: Floats) -> None:
        """Copy an array, contiguous in memory, to the device; returns before it is done."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array, kind)

    def download(self, array: Floats, address: int) -> None:
        """Fill an array, contiguous in memory, from the device; wait until all is done."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array, kind)
        _done(self._cudart, self._cudart.cudaStreamSynchronize(self.stream))

    def _copy(self, to: int, source: int, array: NDArray[np.float32], kind: Any) -> None:
        copied = self._cudart.cudaMemcpyAsync(to, source, array.nbytes, kind, self.stream)
        _done(self._cudart, copied)


def _unloadable(name: str, error: Exception) -> MachineError:
    return MachineError(
        f"{name} is installed but cannot be loaded: {error}. Install the TensorRT libraries of the "
        "same version as its Python module."
    )


def _logger(trt: Any, keep: Callable[[str], None]) -> tensorrt.ILogger:
    """Return a log that keeps warnings and errors; TensorRT writes thousands of other lines."""
    severities = trt.ILogger.Severity
    kept = {severities.INTERNAL_ERROR, severities.ERROR, severities.WARNING}

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is loaded at run time
        def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
            if severity in kept:
                keep(msg.strip())

    return Log()


def _cuda_runtime() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise MachineError(
            f"cuda-python cannot be loaded on this machine ({error}). Install it with: python -m "
            "pip install 'cuda-bindings>=12.8,<13' for CUDA 12, as JetPack 6 has, or "
            "'cuda-bindings>=13' for CUDA 13."
        ) from error


def _done(cudart: Any, result: tuple[Any, ...]) -> Any:
    """Return the value of a call if it succeeded; every call returns its status first."""
    status, *values = result
    if status != cudart.cudaError_t.cudaSuccess:
        _, text = cudart.cudaGetErrorString(status)
        raise MachineError(
            f"CUDA fails on this machine: {text.decode()}. Check with nvidia-smi that there is a "
            "GPU with free memory, and that the driver's CUDA has the major version of "
            "cuda-bindings: JetPack 6 needs 'cuda-bindings<13'."
        )
    return values[0] if values else None


def _release(cudart: Any, stream: int, buffers: list[int]) -> None:
    for address in buffers:
        cudart.cudaFree(address)
    cudart.cudaStreamDestroy(stream)
