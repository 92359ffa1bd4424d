"""CUDA's driver is called in order, and its errors are ours; the driver is a stand-in.

`libcuda.c` refuses what the driver refuses; test_bindings.py holds it and our prototypes against
the vendor's header. What the calls do on a GPU, only a GPU can show.
"""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from edgedistill.errors import MachineError
from edgedistill.runtimes.tensorrt import cuda_driver
from edgedistill.runtimes.tensorrt.cuda_driver import (
    Gpu,
    cuda_version,
    find_gpu,
    free_mib,
    load_driver,
    primary_context,
)
from edgedistill.runtimes.tensorrt.cuda_memory import DeviceMemory

pytestmark = pytest.mark.slow

NOTHING = {"device_buffers": 0, "host_buffers": 0, "streams": 0, "depth": 0}
MEMORY_CALLS = (
    *("cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"),
    *("cuDeviceTotalMem_v2", "cuDevicePrimaryCtxRetain", "cuCtxGetCurrent"),
    *("cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuStreamCreate", "cuMemHostAlloc"),
    "cuStreamSynchronize",
)
COPIES = ("cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2")
MAPPING = ("cuMemHostGetDevicePointer_v2",)


@pytest.fixture(params=[False, True], ids=["own memory", "shared memory"])
def shares(request, fake_cuda):
    """A GPU with memory of its own, and one of a Jetson."""
    fake_cuda.reset(shares_memory=request.param)
    return request.param


def _round_trip(sent):
    memory = DeviceMemory()
    buffer = memory.allocate(sent.size)
    memory.upload(buffer, sent)
    return memory.download(buffer, sent.shape)


def test_names_the_gpu(fake_cuda, shares):
    """All that an engine's key needs."""
    assert find_gpu() == Gpu("Orin", "8.7", 8, 8192, shares)
    assert cuda_version() == "12.6"
    assert free_mib() == 1024


def test_carries_arrays_there_and_back(shares, rng):
    """What was uploaded is what comes back; nothing is left current on the thread."""
    sent = rng.normal(size=(3, 4)).astype("f4")

    np.testing.assert_array_equal(_round_trip(sent), sent)


def test_shared_memory_is_not_copied(fake_cuda, shares, rng):
    """A Jetson's GPU reads where the CPU wrote."""
    _round_trip(rng.normal(size=(3, 4)).astype("f4"))

    copies = [name for name in fake_cuda.calls if "Memcpy" in name or name == "cuMemAlloc_v2"]
    assert bool(copies) is not shares


def test_a_result_outlives_its_memory(shares, rng):
    """Buffers are reused and freed; results are copies."""
    sent = rng.normal(size=(3, 4)).astype("f4")
    received = _round_trip(sent)
    gc.collect()

    np.testing.assert_array_equal(received, sent)


def test_everything_is_freed(fake_cuda, shares):
    """Buffers and stream go when the memory does; the context of others is left as it was."""
    memory = DeviceMemory()
    memory.allocate(16)
    memory.allocate(8)
    assert fake_cuda.held["host_buffers"] == 2
    assert fake_cuda.held["device_buffers"] == (0 if shares else 2)

    del memory
    gc.collect()

    assert fake_cuda.held == NOTHING


def test_one_context_for_the_process(fake_cuda):
    """It is retained once, as torch and Numba do, and works on every thread."""
    memory = DeviceMemory()
    buffer = memory.allocate(4)
    received = []

    def work():
        memory.upload(buffer, np.ones(4, "f4"))
        received.append(memory.download(buffer, (4,)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    DeviceMemory()

    np.testing.assert_array_equal(received, [np.ones(4)])
    assert fake_cuda.calls.count("cuDevicePrimaryCtxRetain") == 1


def test_the_device_of_the_present_context_is_taken(fake_cuda):
    """Whoever chose a GPU for this thread, as torch does, has chosen ours."""
    with load_driver().current(primary_context()):
        before = len(fake_cuda.calls)
        find_gpu()

    assert "cuCtxGetDevice" in fake_cuda.calls[before:]
    assert "cuDeviceGet" not in fake_cuda.calls[before:]


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        *((name, shared) for name in MEMORY_CALLS for shared in (False, True)),
        *((name, False) for name in COPIES),
        *((name, True) for name in MAPPING),
    ],
)
def test_every_failing_call_is_a_machine_error(fake_cuda, name, shared, rng):
    """In the driver's words, and the thread's context is left as it was."""
    fake_cuda.reset(shares_memory=shared)
    fake_cuda.fail(name, 201)

    with pytest.raises(MachineError, match=rf"CUDA's {name} fails: invalid device context \(CUDA_"):
        _round_trip(rng.normal(size=4).astype("f4"))

    gc.collect()
    assert fake_cuda.held["depth"] == (name == "cuCtxPopCurrent_v2")


def test_errors_that_this_driver_cannot_name_have_a_number(fake_cuda):
    """A newer library under an older driver."""
    fake_cuda.fail("cuInit", 987)

    with pytest.raises(MachineError, match=r"CUDA's cuInit fails: error 987\."):
        load_driver()


def test_too_little_memory_is_a_machine_error(fake_cuda, shares):
    """The message has what lowers the need."""
    fake_cuda.reset(shares_memory=shares, memory=1000)

    with pytest.raises(MachineError, match=r"out of memory \(CUDA_ERROR_OUT.*Lower --max-batch"):
        DeviceMemory().allocate(1000)


def test_what_can_be_freed_is_freed_when_the_driver_is_gone(fake_cuda):
    """At the end of Python the driver may have shut down: no error, and no crash."""
    memory = DeviceMemory()
    memory.allocate(4)
    fake_cuda.fail("cuCtxPushCurrent_v2", 4)

    del memory
    gc.collect()

    assert "cuMemFree_v2" not in fake_cuda.calls


def test_no_device_is_a_machine_error(fake_cuda):
    """A driver without a GPU."""
    fake_cuda.reset(devices=0)

    with pytest.raises(MachineError, match="no CUDA-capable device is detected"):
        find_gpu()


@pytest.mark.parametrize(
    ("jetson", "advice"), [(True, "groups video and render"), (False, "nvidia-smi shows")]
)
def test_no_driver_is_a_machine_error(monkeypatch, tmp_path, jetson, advice):
    """The advice is the board's: a Jetson has no use for nvidia-smi."""
    release = tmp_path / "nv_tegra_release"
    if jetson:
        release.touch()
    monkeypatch.setattr(cuda_driver, "_JETSON", release)
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    load_driver.cache_clear()

    with pytest.raises(MachineError, match=rf"driver cannot be loaded .*libcuda.so.1.*{advice}"):
        find_gpu()


def test_a_driver_without_one_of_the_functions_is_a_machine_error(fake_cuda, monkeypatch):
    """An old driver is named as such before anything is called."""
    monkeypatch.setitem(cuda_driver.PROTOTYPES, "cuTomorrow", ())

    with pytest.raises(MachineError, match=r"driver cannot be loaded .*cuTomorrow"):
        load_driver()
