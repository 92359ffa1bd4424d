"""The GPU that is here, and memory on it: a stream and the buffers of one model.

cuda-python's runtime bindings do the work; they are imported when a GPU is used.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import MachineError
from edgedistill.io.arrays import Floats

if TYPE_CHECKING:
    from cuda.bindings import runtime


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
