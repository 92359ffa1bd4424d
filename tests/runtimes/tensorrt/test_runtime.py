"""Engines found, built, refused and run; running is done by a stand-in, see fake_gpu.py."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgedistill.errors import IntegrityError, MachineError, ModelError, ShapeError
from edgedistill.io import files
from edgedistill.runtimes.tensorrt import bindings, cuda_driver
from edgedistill.runtimes.tensorrt.builder import BuildOptions
from edgedistill.runtimes.tensorrt.engine_cache import Engine, Engines, EngineTarget
from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime, prepare

pytestmark = pytest.mark.slow

HERE = EngineTarget("tensorrt", "10.3.0", "Orin", "8.7", 8)
SHAPE, CLASSES = (2, 5), 3


def _answer(series):
    """Logits that tell the series apart, (N, C, T) -> (N, K)."""
    return series.sum(axis=(1, 2))[:, None] * np.arange(1, CLASSES + 1, dtype=np.float32)


@pytest.fixture
def engine(tmp_path):
    """An engine of this place, as it lies in a cache."""
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"a plan")
    return Engine(
        plan=plan,
        sha256=files.sha256(plan),
        model="student.onnx",
        model_sha256="0" * 64,
        place=HERE,
        options=BuildOptions(max_batch=4),
        gpu_fallback=(),
    )


@pytest.mark.parametrize(
    ("batches", "count", "calls"),
    [
        ((1, 4), 10, [4, 4, 2]),
        ((1, 4), 1, [1]),
        ((1, 4), 0, []),
        ((4, 4), 6, [4, 4]),
        ((1, 1), 3, [1, 1, 1]),
    ],
    ids=["three calls", "one series", "none", "fixed batch", "one at a time"],
)
def test_logits_for_any_number_of_series(fake_tensorrt, engine, rng, batches, count, calls):
    """Calls hold what the engine can take, short ones are filled up, and no answer is lost."""
    fake = fake_tensorrt(_answer, batches=batches, shape=SHAPE, classes=CLASSES)
    series = rng.normal(size=(count, *SHAPE)).astype(np.float32)

    logits = TensorRtRuntime(engine).logits(series)

    np.testing.assert_array_equal(logits, _answer(series))
    assert logits.dtype == np.float32
    assert fake.calls == calls


def test_a_gpu_that_shares_its_memory_computes_in_place(fake_cuda, fake_tensorrt, engine, rng):
    """The engine gets the GPU's addresses of the memory that the CPU wrote, as on a Jetson."""
    fake_cuda.reset(shares_memory=True)
    fake = fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    series = rng.normal(size=(6, *SHAPE)).astype(np.float32)

    logits = TensorRtRuntime(engine).logits(series)

    np.testing.assert_array_equal(logits, _answer(series))
    assert fake.calls == [4, 2]
    assert not [name for name in fake_cuda.calls if "Memcpy" in name]


def test_takes_series_that_are_no_plain_memory(fake_tensorrt, engine, rng):
    """A transposed float64 view is made contiguous before its address is used."""
    fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    series = rng.normal(size=(4, *reversed(SHAPE))).transpose(0, 2, 1)

    logits = TensorRtRuntime(engine).logits(series)

    np.testing.assert_allclose(logits, _answer(series.astype("f4")), rtol=1e-5, atol=1e-5)


def test_describes_version_and_gpu(fake_tensorrt, engine):
    """A report says which TensorRT and which GPU it was."""
    fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)

    assert TensorRtRuntime(engine).describe() == {
        "runtime": "tensorrt 10.3.0",
        "library": "tensorrt",
        "gpu": "Orin, compute capability 8.7",
        "engine": "GPU, level 3, batch 1 to 4",
    }


def test_layers_with_and_without_times(fake_tensorrt, engine, rng):
    """The inspector gives precisions, and the profiler the mean time of a call."""
    fake = fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    runtime = TensorRtRuntime(engine)

    (untimed,) = runtime.layers()
    (measured,) = runtime.layers(rng.normal(size=(1, *SHAPE)).astype(np.float32))

    assert (untimed.name, untimed.precision, untimed.ms) == ("conv", "int8", None)
    assert measured.ms == pytest.approx(0.25)
    assert len(fake.calls) == 100  # half of them to warm up


def test_dla_and_version_compatible_engines_are_loaded_as_such(fake_tensorrt, engine):
    """The runtime is told the core, and to trust the code in a version-compatible plan."""
    fake_tensorrt(_answer, batches=(1, 1), shape=SHAPE, classes=CLASSES)
    options = BuildOptions(dla_core=1, version_compatible=True)
    runtime = TensorRtRuntime(dataclasses.replace(engine, options=options))
    (made,) = bindings.load_tensorrt().trt.Runtime.made

    assert (made.DLA_core, made.engine_host_code_allowed) == (1, True)
    assert runtime.describe()["engine"] == (
        "DLA core 1 for 0 of 1 layers, GPU for the others, level 3, batch 1 to 1"
    )


def test_the_inspector_counts_what_runs_on_a_dla(fake_tensorrt, engine):
    """What could run there need not: the builder may have left it all to the GPU."""
    fake = fake_tensorrt(_answer, batches=(1, 1), shape=SHAPE, classes=CLASSES)
    fake.kind = "DLA"
    runtime = TensorRtRuntime(dataclasses.replace(engine, options=BuildOptions(dla_core=1)))

    assert runtime.describe()["engine"].startswith("DLA core 1 for 1 of 1 layers")


@pytest.mark.parametrize("shape", [(3, 2, 6), (3, 1, 5), (2, 5)], ids=str)
def test_wrong_series_are_a_shape_error(fake_tensorrt, engine, shape):
    """The message names both shapes."""
    fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    runtime = TensorRtRuntime(engine)

    with pytest.raises(ShapeError, match=r"Got series of shape .* takes \(N, 2, 5\)"):
        runtime.logits(np.zeros(shape, dtype=np.float32))


def test_failing_call_is_a_model_error(fake_tensorrt, engine):
    """TensorRT's own words are passed on."""
    fake = fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    runtime = TensorRtRuntime(engine)
    fake.fails = True
    bindings.load_tensorrt().log.log(1, "out of scratch memory")

    with pytest.raises(ModelError, match=r"cannot run student.onnx: out of scratch memory"):
        runtime.logits(np.zeros((1, *SHAPE), dtype=np.float32))


@pytest.mark.parametrize(
    ("refuses", "what"),
    [
        ("create_execution_context", "makes no context for student.onnx"),
        ("set_input_shape", "takes no 1 series in a call for student.onnx"),
        ("set_tensor_address", "takes no 1 series in a call for student.onnx"),
    ],
)
def test_too_little_memory_is_a_machine_error(fake_tensorrt, engine, refuses, what):
    """TensorRT gives None or False; the message has what is needed, what is free, and a remedy."""
    fake = fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    fake.refuses = refuses
    bindings.load_tensorrt().log.log(1, "out of memory")

    with pytest.raises(MachineError, match=r"needs 3\.0 MiB of scratch memory") as raised:
        TensorRtRuntime(engine).logits(np.zeros((1, *SHAPE), dtype=np.float32))

    assert what in str(raised.value)
    assert "1024 MiB are free: lower --max-batch, now 4" in str(raised.value)


def test_layers_are_timed_without_a_second_context(fake_tensorrt, engine, rng):
    """The stand-in allows one at a time; afterwards nothing is profiled any more."""
    fake = fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    runtime = TensorRtRuntime(engine)
    series = rng.normal(size=(1, *SHAPE)).astype(np.float32)

    runtime.layers(series)
    runtime.logits(series)

    assert fake.contexts == 1
    assert runtime._context.profiler is None


def test_what_the_loader_warns_of_is_kept(fake_tensorrt, engine):
    """TensorRT says it once, in a log that nobody reads."""
    fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)

    runtime = TensorRtRuntime(engine)

    assert runtime.warnings == ("Using an engine plan file across different models of devices",)
    assert runtime.memory_bytes == 3 << 20


def test_engine_that_cannot_be_loaded_is_a_model_error(fake_tensorrt, engine):
    """TensorRT gives no engine and no exception; that does not pass for one."""
    fake_tensorrt(None)

    with pytest.raises(ModelError, match=r"cannot load .*GPU fit: Using an.*memory is short"):
        TensorRtRuntime(engine)


def test_engine_of_another_version_is_never_loaded(fake_tensorrt, engine):
    """It is refused before TensorRT sees it, with both versions."""
    fake_tensorrt(_answer, batches=(1, 4), shape=SHAPE, classes=CLASSES)
    place = dataclasses.replace(HERE, version="10.13.0")

    with pytest.raises(IntegrityError, match=r"built by tensorrt 10.13.0 on GPU Orin.*this is te"):
        TensorRtRuntime(dataclasses.replace(engine, place=place))

    assert bindings.load_tensorrt().trt.Runtime.made == []


def test_builds_once(world, tmp_path, rtx):
    """The second time the engine is found, with the same bytes."""
    model, engines = world.folder / "student.onnx", Engines(cache=tmp_path)

    first = prepare(model, engines, compute_capability="8.6")
    second = prepare(model, engines, compute_capability="8.6")

    assert first.how == "built: there was none in the cache with these options"
    assert second.how == "found in the cache"
    assert second.engine == first.engine


def test_engine_for_another_target_is_rebuilt(world, tmp_path, rtx):
    """An engine for another GPU is not taken, and the report says whose it is."""
    model, engines = world.folder / "student.onnx", Engines(cache=tmp_path)
    prepare(model, engines, compute_capability="8.6")

    found = prepare(model, engines, compute_capability="8.9")

    assert "the cache has one of tensorrt_rtx" in found.how
    assert "capability 8.6; this is tensorrt_rtx" in found.how
    assert found.engine.place.compute_capability == "8.9"


def test_damaged_engine_is_rebuilt(world, tmp_path, rtx):
    """A cache can always be made again, so damage in it stops nobody."""
    model, engines = world.folder / "student.onnx", Engines(cache=tmp_path)
    engine = prepare(model, engines, compute_capability="8.6").engine
    whole = engine.plan.read_bytes()
    engine.plan.write_bytes(whole[:-1])

    found = prepare(model, engines, compute_capability="8.6")

    assert "is not the plan that engine.json beside it describes" in found.how
    assert found.engine.plan.stat().st_size == len(whole)


def test_no_gpu_is_a_machine_error(world, tmp_path, rtx, monkeypatch):
    """Without a GPU nothing is built for one."""
    monkeypatch.setattr(cuda_driver, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    cuda_driver.load_driver.cache_clear()

    with pytest.raises(MachineError, match="NVIDIA's driver cannot be loaded"):
        prepare(world.folder / "student.onnx", Engines(cache=tmp_path))

    assert list(tmp_path.iterdir()) == []
