"""The choice of a kernel's backend, and the conversion of its arguments.

`reference` is always there. `cpu` needs Numba, `cuda` a GPU beside it; neither is imported
before it is chosen, by name or by arrays for which it pays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from edgedistill_kernels.checks import Shape
from edgedistill_kernels.reference import Floats, Ints

Array = Floats | Ints
_Device = Any  # an array on the device: Numba has no types to name it by
ALL_BACKENDS = ("reference", "cpu", "cuda")
_COMPILED = (np.dtype(np.float32), np.dtype(np.float64))
_MAPS = ("timestep_map", "pearson", "spearman", "top_sign_agreement")  # of the `*_maps` modules


def available() -> tuple[str, ...]:
    """Return the backends that run on this machine, the reference first."""
    return tuple(
        name for name in ALL_BACKENDS if name == "reference" or not unavailable_reason(name)
    )


def choose(backend: str, pays: bool, *arrays: Array) -> str:
    """Return the backend to run, one of `ALL_BACKENDS`.

    Args:
        backend: its name, or "auto".
        pays: whether there is enough to do for compiled code.
        arrays: arguments of the kernel.

    Raises:
        ValueError: no backend has that name.
        TypeError: it computes with other types.
        RuntimeError: it cannot run here; the message gives the reason.
    """
    if backend == "auto":
        return _automatic(pays, arrays)
    if backend not in ALL_BACKENDS:
        raise ValueError(f"No backend {backend!r}. There are: auto, {', '.join(ALL_BACKENDS)}.")
    if backend != "reference":
        if reason := unavailable_reason(backend):
            raise RuntimeError(f"The backend {backend!r} cannot run here: {reason}")
        if not _is_compiled_for(arrays):
            kinds = ", ".join(str(array.dtype) for array in arrays)
            raise TypeError(
                f"The backend {backend!r} computes in float32 or float64, got {kinds}. "
                "Convert the arrays or use the reference."
            )
    return backend


def run(
    backend: str,
    kernel: str,
    inputs: Sequence[Array],
    numbers: Sequence[float],
    outs: Sequence[Shape | Floats],
    dtype: np.dtype[np.generic],
) -> list[Floats]:
    """Run a compiled kernel on checked inputs.

    Args:
        backend: "cpu" or "cuda".
        kernel: name of the kernel in the backend's module.
        inputs: arrays that it takes first; whole numbers are starts of windows.
        numbers: numbers that follow them.
        outs: results: a shape to make a new array, or the array to write.
        dtype: type of the arrays it computes with.

    Returns:
        An array for each of `outs`; on the GPU if the first input is there.
    """
    home = import_module(f"edgedistill_kernels.{backend}{'_maps' if kernel in _MAPS else ''}")
    function = getattr(home, kernel)
    if backend == "cuda":
        return _run_on_gpu(function, inputs, numbers, outs, dtype)
    written = [np.empty(out, dtype) if isinstance(out, tuple) else out for out in outs]
    function(*(as_compiled(array, dtype) for array in inputs), *numbers, *written)
    return written


def as_compiled(array: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return the array as compiled code takes it: whole, aligned, of one type; itself if it is."""
    wanted = np.int64 if array.dtype.kind in "iu" else dtype
    return np.require(array, wanted, ["C", "A", "W"])


def unavailable_reason(backend: str) -> str:
    """Return the reason why a backend cannot run here, empty if it can."""
    return _missing_cuda() if backend == "cuda" else _missing_numba(os.getpid())


def is_on_gpu(array: object) -> bool:
    """Return whether the array lives on a GPU, or on a simulated one."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def _run_on_gpu(
    function: Callable[..., None],
    inputs: Sequence[Array],
    numbers: Sequence[float],
    outs: Sequence[Shape | Floats],
    dtype: np.dtype[np.generic],
) -> list[Floats]:
    """Run a kernel on the GPU's default stream; arrays of the host go there and back."""
    driver = import_module("edgedistill_kernels.cuda_compiling").cuda
    arrays = [
        _on_gpu(driver, array if is_on_gpu(array) else as_compiled(array, dtype))
        for array in inputs
    ]
    written = [_to_write(driver, out, dtype) for out in outs]
    function(*arrays, *numbers, *written)
    return [
        _back(array, out, stays=is_on_gpu(inputs[0]))
        for array, out in zip(written, outs, strict=True)
    ]


def _on_gpu(driver: ModuleType, array: Array) -> _Device:
    if hasattr(array, "__cuda_ndarray__"):
        return array
    return driver.as_cuda_array(array) if is_on_gpu(array) else driver.to_device(array)


def _to_write(driver: ModuleType, out: Shape | Floats, dtype: np.dtype[np.generic]) -> _Device:
    if isinstance(out, tuple):
        return driver.device_array(out, dtype)
    return _on_gpu(driver, out) if is_on_gpu(out) else driver.device_array(out.shape, dtype)


def _back(array: _Device, out: Shape | Floats, *, stays: bool) -> Floats:
    """Return a result in its place: the given buffer, the GPU, or a new array."""
    if isinstance(out, np.ndarray):
        array.copy_to_host(out)
        return out
    result: Floats = array if stays or not isinstance(out, tuple) else array.copy_to_host()
    return result


@lru_cache(maxsize=1)
def _missing_numba(process: int) -> str:
    try:
        compiling = import_module("edgedistill_kernels.compiling")
    except ImportError as error:
        return f"Numba does not import ({error}). `pip install numba` brings it."
    if process != compiling.PROCESS:
        return "this process was forked from one that uses Numba's threads. Spawn it instead."
    return ""


@lru_cache(maxsize=1)
def _missing_cuda() -> str:
    try:
        cuda = import_module("edgedistill_kernels.cuda_compiling")
    except ImportError as error:
        return f"Numba does not import ({error}). `pip install numba-cuda` brings it."
    reason: str = cuda.missing()
    return reason


def _automatic(pays: bool, arrays: Sequence[Array]) -> str:
    if any(is_on_gpu(array) for array in arrays):
        return choose("cuda", pays, *arrays)
    return (
        "cpu"
        if pays and _is_compiled_for(arrays) and not unavailable_reason("cpu")
        else "reference"
    )


def _is_compiled_for(arrays: Sequence[Array]) -> bool:
    return all(array.dtype in _COMPILED for array in arrays)
