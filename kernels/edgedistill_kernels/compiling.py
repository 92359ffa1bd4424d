"""The compilation by Numba of the kernels for the CPU, and their number of threads.

Numba keeps machine code by the file of the kernel: whatever a kernel inlines stands in its own
file, or a change there would go unseen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numba

PROCESS = os.getpid()  # Numba's threads do not survive a fork
_F = TypeVar("_F", bound=Callable[..., object])
_WORK_A_THREAD = 32_768  # elements of 4 ns; with less, a second thread costs more than it saves
# Sums may be reordered and multiplied with an addition at once; NaN and infinity stay themselves.
_SAFE = {"reassoc", "contract", "nsz"}


def compiled(function: _F) -> _F:
    """Compile in parallel; the machine code is kept on disk where a folder can be written."""
    return _cached(function, parallel=True, fastmath=_SAFE)


def sequential(function: _F) -> _F:
    """Compile to what runs beside Python's other threads, in the one that calls it.

    Sums keep their order and NaN stays NaN; only products and sums are fused, as in any BLAS.
    """
    return _cached(function, nogil=True, fastmath={"contract", "nsz"})


def _cached(function: _F, **settings: Any) -> _F:
    options = {"error_model": "numpy", **settings}
    try:
        cached: _F = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        cached = numba.njit(**options)(function)
    return cached


def inlined(function: _F) -> _F:
    """Compile a part of a kernel: what it allocates is each thread's own."""
    part: _F = numba.njit(fastmath=_SAFE, error_model="numpy")(function)
    return part


def rounded(function: _F) -> _F:
    """Compile a part of a kernel whose operations stay as they are written.

    It must be explicit: Numba passes a caller's `fastmath` down to functions without their own.
    """
    part: _F = numba.njit(fastmath=False, error_model="numpy")(function)
    return part


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Use as many threads as the work is worth, in elements, at most those that the user allows."""
    allowed = numba.get_num_threads()
    numba.set_num_threads(max(1, min(allowed, int(work / _WORK_A_THREAD))))
    try:
        yield
    finally:
        numba.set_num_threads(allowed)
