"""CUDA's calls in order, with a stand-in for cuda-python that keeps its memory in NumPy.

Whether the calls exist is the matter of test_bindings.py; what they do, only a GPU can show.
"""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from edgedistill.errors import MachineError
from edgedistill.runtimes.tensorrt.bindings import DeviceMemory, Gpu, find_gpu

pytestmark = pytest.mark.slow


def test_names_the_gpu(fake_cuda):
    """Name and compute capability, as an engine's key needs them."""
    assert find_gpu() == Gpu("Orin", "8.7")


def test_carries_arrays_there_and_back(fake_cuda, rng):
    """What was uploaded is what comes back, through the stream of the memory."""
    sent, received = rng.normal(size=(3, 4)).astype("f4"), np.empty((3, 4), "f4")
    memory = DeviceMemory()

    address = memory.allocate(sent.nbytes)
    memory.upload(address, sent)
    memory.download(received, address)

    np.testing.assert_array_equal(received, sent)
    assert fake_cuda.streams_used == {memory.stream}


def test_memory_and_stream_are_freed(fake_cuda):
    """Buffers and stream go when the memory does."""
    memory = DeviceMemory()
    memory.allocate(64)
    memory.allocate(32)
    assert len(fake_cuda.buffers) == 2

    del memory
    gc.collect()

    assert fake_cuda.buffers == {}
    assert fake_cuda.streams == set()


def test_failing_calls_are_machine_errors(fake_cuda):
    """CUDA's own words are passed on."""
    memory = DeviceMemory()
    fake_cuda.fails = True

    with pytest.raises(MachineError, match="CUDA fails on this machine: out of memory"):
        memory.allocate(1 << 40)


def test_missing_cuda_python_is_a_machine_error(monkeypatch):
    """The message has the command for both majors of CUDA."""
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)

    with pytest.raises(MachineError, match=r"cuda-bindings>=12.8,<13.*cuda-bindings>=13"):
        find_gpu()
