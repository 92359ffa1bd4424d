"""The compilation by Numba of the kernels for NVIDIA GPUs, and the check for a GPU.

The only module that imports `numba.cuda`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import config, cuda, float64

from edgedistill_kernels.checks import Shape

__all__ = ["cuda", "float64"]  # for the rest of this backend: this module alone imports them
Device = Any  # an array on the device: Numba has no types to name it by
Empty = Callable[[Shape], Device]
_F = TypeVar("_F", bound=Callable[..., object])
THREADS = 2 if config.ENABLE_CUDASIM else 128  # a power of two; simulated ones are slow
BLOCKS = 2 if config.ENABLE_CUDASIM else 64  # that share a sum over a whole batch


def missing() -> str:
    """Return the reason why no GPU can be used, empty if one can."""
    if cuda.is_available():
        return ""
    reason = (
        str(cuda.cuda_error() or "the CUDA compiler NVVM is missing")
        .strip()
        .splitlines()[0]
        .rstrip(".")
    )
    return (
        f"Numba finds no usable GPU ({reason}). `pip install 'numba-cuda[cu12]'` brings the rest."
    )


def compiled(function: Callable[..., object]) -> Any:
    """Compile a kernel; its machine code is kept on disk where a folder can be written."""
    try:
        return cuda.jit(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return cuda.jit(function)


def inlined(function: _F) -> _F:
    """Compile a part of a kernel."""
    part: _F = cuda.jit(device=True)(function)
    return part


def on(stream: int) -> Any:
    """Return Numba's view of a stream, 0 being the default one."""
    return cuda.external_stream(stream) if stream else 0
