"""CUDA's driver API through ctypes: the library that every machine with a usable GPU has.

No package of PyPI is needed, whose CUDA need not be the board's: JetPack has a CUDA of its own.
Standard library only, so that `doctor` can use the same calls where NumPy is missing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from edgedistill.errors import MachineError

LIBRARY: Final = "libcuda.so.1"
OUT_OF_MEMORY: Final = 2
_JETSON: Final = Path("/etc/nv_tegra_release")
_NAME_BYTES: Final = 256
_MIB: Final = 1 << 20
# CUdevice_attribute
_MULTIPROCESSORS: Final = 16
_INTEGRATED: Final = 18
_CAN_MAP_HOST_MEMORY: Final = 19
_CAPABILITY_MAJOR: Final = 75
_CAPABILITY_MINOR: Final = 76
# Arguments by function, each of which returns a CUresult. Without them ctypes passes an address as
# an int of 32 bits. A name with _v2 is what cuda.h makes of the plain one.
PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxGetCurrent": (POINTER(c_void_p),),
    "cuCtxGetDevice": (POINTER(c_int),),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (POINTER(c_void_p),),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemHostGetDevicePointer_v2": (POINTER(c_uint64), c_void_p, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU that an engine depends on."""

    name: str  # such as "Orin", which all modules of that family share
    compute_capability: str  # such as "8.7"
    multiprocessors: int  # those in use: a Jetson's power mode switches some off
    memory_mib: int
    shares_memory: bool  # with the CPU, which then needs no copies


class Driver:
    """The driver's library, initialized.

    Raises:
        MachineError: it is missing or too old, or finds no device that it can use.
    """

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
            for name, arguments in PROTOTYPES.items():
                getattr(library, name).argtypes = arguments
        except (OSError, AttributeError) as error:  # absent, or without one of the functions
            raise MachineError(
                f"NVIDIA's driver cannot be loaded on this machine ({error}). {_advice(None)}"
            ) from error
        self._library = library
        self.call("cuInit", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of `PROTOTYPES`.

        Raises:
            MachineError: it does not succeed; in the driver's words.
        """
        code = self.status(name, *arguments)
        if code:
            raise MachineError(f"CUDA's {name} fails: {self._explain(code)}. {_advice(code)}")

    def status(self, name: str, *arguments: Any) -> int:
        """Call a function and return its CUresult, 0 for success."""
        return int(getattr(self._library, name)(*arguments))

    def value(self, name: str, *arguments: Any) -> int:
        """Call a function that writes one number where its first argument points; return it.

        Raises:
            MachineError: it does not succeed.
        """
        result = PROTOTYPES[name][0]._type_()
        self.call(name, ctypes.byref(result), *arguments)
        return int(result.value or 0)

    @contextmanager
    def current(self, context: int) -> Iterator[None]:
        """Make a context that of the calling thread, and then the earlier one again.

        Raises:
            MachineError: the driver refuses the context.
        """
        self.call("cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            self.value("cuCtxPopCurrent_v2")

    def _explain(self, code: int) -> str:
        name, text = c_char_p(), c_char_p()
        self.status("cuGetErrorName", code, ctypes.byref(name))
        self.status("cuGetErrorString", code, ctypes.byref(text))
        if name.value is None or text.value is None:  # newer than this driver
            return f"error {code}"
        return f"{text.value.decode()} ({name.value.decode()}, {code})"


@cache
def load_driver() -> Driver:
    """Return the driver, loaded once for a process.

    Raises:
        MachineError: it is missing or too old, or finds no device that it can use.
    """
    return Driver()


def find_gpu() -> Gpu:
    """Return the GPU that is used here.

    Raises:
        MachineError: there is none, or no driver.
    """
    driver = load_driver()
    device = _device(driver)

    def attribute(which: int) -> int:
        return driver.value("cuDeviceGetAttribute", which, device)

    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver.call("cuDeviceGetName", name, _NAME_BYTES, device)
    return Gpu(
        name=name.value.decode(errors="replace").strip(),
        compute_capability=f"{attribute(_CAPABILITY_MAJOR)}.{attribute(_CAPABILITY_MINOR)}",
        multiprocessors=attribute(_MULTIPROCESSORS),
        memory_mib=driver.value("cuDeviceTotalMem_v2", device) // _MIB,
        shares_memory=bool(attribute(_INTEGRATED) and attribute(_CAN_MAP_HOST_MEMORY)),
    )


@cache
def primary_context() -> int:
    """Return the primary context of the GPU, the one that TensorRT, torch and Numba use too.

    It is kept for the life of the process, as CUDA's runtime does: engines live in it.

    Raises:
        MachineError: it cannot be made.
    """
    driver = load_driver()
    return driver.value("cuDevicePrimaryCtxRetain", _device(driver))


def cuda_version() -> str:
    """Return the newest CUDA that the driver runs, such as "12.6".

    Raises:
        MachineError: there is no driver.
    """
    number = load_driver().value("cuDriverGetVersion")
    return f"{number // 1000}.{number % 1000 // 10}"


def free_mib() -> int:
    """Return the free memory of the GPU in MiB; a Jetson's is what the CPU leaves.

    Raises:
        MachineError: there is no GPU.
    """
    driver, free, total = load_driver(), c_size_t(), c_size_t()
    with driver.current(primary_context()):
        driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return free.value // _MIB


def _device(driver: Driver) -> int:
    """Return the device of the calling thread's context, else the first, as CUDA's runtime does."""
    if driver.value("cuCtxGetCurrent"):
        return driver.value("cuCtxGetDevice")
    if not driver.value("cuDeviceGetCount"):
        raise MachineError(f"NVIDIA's driver finds no GPU. {_advice(None)}")
    return driver.value("cuDeviceGet", 0)


def _advice(code: int | None) -> str:
    """Return the next step after an error, on a Jetson or elsewhere."""
    if code == OUT_OF_MEMORY:
        return "Lower --max-batch, or free memory: on a Jetson, GPU and CPU share it."
    if _JETSON.exists():
        return (
            "On a Jetson, JetPack brings the driver: the user must be in the groups video and "
            "render (id shows them), and a container started with --runtime nvidia."
        )
    return "nvidia-smi shows whether there is a driver that sees a GPU."
