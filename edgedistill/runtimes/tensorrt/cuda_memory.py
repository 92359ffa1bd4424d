"""Memory that the CPU and a GPU exchange, and the stream in which that happens."""

from __future__ import annotations

import weakref
from contextlib import AbstractContextManager
from ctypes import byref, c_float, c_void_p
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgedistill.io.arrays import Floats
from edgedistill.runtimes.tensorrt.cuda_driver import Driver, find_gpu, load_driver, primary_context

_FLOAT_BYTES: Final = 4
_DEVICE_MAP: Final = 2  # CU_MEMHOSTALLOC_DEVICEMAP: the GPU may use it in place


@dataclass(frozen=True, slots=True)
class Buffer:
    """Numbers that the CPU and the GPU exchange."""

    host: Floats  # (values,), page-locked, so that copies need not wait for the CPU
    address: int  # the GPU's
    is_shared: bool  # one memory for both: nothing is copied


class DeviceMemory:
    """A stream, and buffers that live as long as this does.

    Raises:
        MachineError: CUDA fails, for want of memory or otherwise. So do all its methods.
    """

    def __init__(self) -> None:
        self._driver = load_driver()
        self._is_shared = find_gpu().shares_memory
        self._context = primary_context()
        with self.current():
            self.stream = self._driver.value("cuStreamCreate", 0)
        self._on_host: list[int] = []
        self._on_device: list[int] = []
        weakref.finalize(
            self,
            _release,
            *(self._driver, self._context, self.stream, self._on_host, self._on_device),
        )

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU's context that of the calling thread; TensorRT needs it too."""
        return self._driver.current(self._context)

    def allocate(self, values: int) -> Buffer:
        """Return a new buffer of float32 values."""
        nbytes = values * _FLOAT_BYTES
        with self.current():
            flags = _DEVICE_MAP if self._is_shared else 0
            at = self._driver.value("cuMemHostAlloc", nbytes, flags)
            self._on_host.append(at)
            if self._is_shared:
                address = self._driver.value("cuMemHostGetDevicePointer_v2", at, 0)
            else:
                address = self._driver.value("cuMemAlloc_v2", nbytes)
                self._on_device.append(address)
        host: Floats = np.ctypeslib.as_array((c_float * values).from_address(at))
        return Buffer(host, address, self._is_shared)

    def upload(self, buffer: Buffer, array: Floats) -> None:
        """Fill the front of a buffer for what runs in the stream later; return before it is there.

        Args:
            buffer: buffer that nothing in the stream uses any more.
            array: no more values than the buffer has.
        """
        buffer.host[: array.size] = array.reshape(-1)
        if not buffer.is_shared:
            self._copy("cuMemcpyHtoDAsync_v2", buffer.address, buffer.host.ctypes.data, array.size)

    def download(self, buffer: Buffer, shape: tuple[int, ...]) -> Floats:
        """Wait for the stream and return the front of a buffer, of this shape."""
        values = int(np.prod(shape))
        if not buffer.is_shared:
            self._copy("cuMemcpyDtoHAsync_v2", buffer.host.ctypes.data, buffer.address, values)
        with self.current():
            self._driver.call("cuStreamSynchronize", self.stream)
        return np.array(buffer.host[:values].reshape(shape))

    def _copy(self, function: str, to: int, source: int, values: int) -> None:
        with self.current():
            self._driver.call(function, to, source, values * _FLOAT_BYTES, self.stream)


def _release(
    driver: Driver, context: int, stream: int, on_host: list[int], on_device: list[int]
) -> None:
    """Free everything; a driver that has shut down already, at the end of Python, freed it."""
    if driver.status("cuCtxPushCurrent_v2", context):
        return
    driver.status("cuStreamSynchronize", stream)  # a copy of a failed call may still be on its way
    for address in on_device:
        driver.status("cuMemFree_v2", address)
    for at in on_host:
        driver.status("cuMemFreeHost", at)
    driver.status("cuStreamDestroy_v2", stream)
    driver.status("cuCtxPopCurrent_v2", byref(c_void_p()))
