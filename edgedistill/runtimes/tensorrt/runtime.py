"""TensorRT: the runtime of boards with an NVIDIA GPU.

The engine comes from the cache of `engines`, or is built when it is first needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from edgedistill.errors import DataError, IntegrityError, MachineError, ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.runtimes.onnx_file import check_alone
from edgedistill.runtimes.tensorrt.bindings import Library, load_tensorrt, make_runtime
from edgedistill.runtimes.tensorrt.builder import FREE
from edgedistill.runtimes.tensorrt.cuda_driver import free_mib
from edgedistill.runtimes.tensorrt.cuda_memory import DeviceMemory
from edgedistill.runtimes.tensorrt.engine_cache import (
    Engine,
    Engines,
    EngineTarget,
    PreparedEngine,
    engine_target,
)
from edgedistill.runtimes.tensorrt.layers import (
    EngineReport,
    Layer,
    profiler,
    read_layers,
    with_times,
)

if TYPE_CHECKING:
    import tensorrt

_MIB: Final = 1 << 20
_PROFILED: Final = 50  # calls that a layer's time is the mean of


def prepare(
    model: Path, engines: Engines, *, compute_capability: str | None = None
) -> PreparedEngine:
    """Return the engine of an ONNX file, built if it is not there yet.

    Args:
        model: the ONNX file.
        engines: how and where.
        compute_capability: compute capability of a GPU elsewhere; TensorRT-RTX only.

    Raises:
        MachineError: TensorRT, the driver, a GPU or a DLA core is missing.
        ModelError: TensorRT refuses the file, or it keeps a part of the model in other files.
        UsageError: TensorRT cannot build for that compute capability.
    """
    check_alone(model)
    library = load_tensorrt()
    here = engine_target(library, compute_capability=compute_capability)
    try:
        found = engines.find(model, here)
        why = _why_absent(engines, model, here)
    except (DataError, IntegrityError) as error:  # the cache can be made anew, so go on
        found, why = None, str(error)
    if found is not None:
        return PreparedEngine(found, "found in the cache")
    built = engines.build(model, library, here)
    return PreparedEngine(built, f"built: {why}")


def report(
    model: Path, series: Floats, engines: Engines, *, compute_capability: str | None = None
) -> EngineReport:
    """Build or find the engine of a model and time its layers.

    Args:
        model: the ONNX file.
        series: what a call is timed on, (N, C, T).
        engines: how engines are built and where they are kept.
        compute_capability: compute capability of a GPU elsewhere, whose layers stay unknown.

    Raises:
        MachineError: TensorRT, the driver, a GPU or a DLA core is missing.
        ModelError: TensorRT refuses the file, or cannot run the engine.
        ShapeError: the series are not what the model takes.
        UsageError: TensorRT cannot build for that compute capability.
    """
    prepared = prepare(model, engines, compute_capability=compute_capability)
    if compute_capability is not None:
        return EngineReport(prepared, None)
    runtime = TensorRtRuntime(prepared.engine)
    layers = runtime.layers(series)
    return EngineReport(prepared, layers, runtime.memory_bytes, runtime.warnings)


class TensorRtRuntime:
    """An engine, ready to run.

    Args:
        engine: from `prepare` or `engines.read`; takes one float32 (N, C, T) and gives (N, K).

    Raises:
        MachineError: TensorRT, the driver or a GPU is missing, or memory is short.
        IntegrityError: the engine was built by another version or for another GPU, or is damaged.
        ModelError: TensorRT cannot load it all the same.
    """

    name: ClassVar[str] = "tensorrt"
    can_explain: ClassVar[bool] = True
    changes: ClassVar[None] = None

    def __init__(self, engine: Engine) -> None:
        self._library = load_tensorrt()
        engine.check(engine_target(self._library))
        self._source = engine
        self._memory = DeviceMemory()
        with self._memory.current():
            self._engine: tensorrt.ICudaEngine = _deserialize(self._library, engine)
            self.warnings = self._library.drain_warnings()
            self.memory_bytes = int(self._engine.device_memory_size_v2)  # scratch memory of a call
            self._context: tensorrt.IExecutionContext = self._new_context()
        self._input, self._output = _tensor_names(self._library, self._engine)
        self._series = tuple(self._engine.get_tensor_shape(self._input))[1:]  # (C, T)
        self.classes = int(tuple(self._engine.get_tensor_shape(self._output))[1])
        self._low, self._high = _batches(self._engine, self._input)
        self._series_in = self._memory.allocate(self._high * int(np.prod(self._series)))
        self._logits_out = self._memory.allocate(self._high * self.classes)

    def logits(self, series: Floats) -> Floats:
        """Return the logits of a batch, (N, C, T) -> (N, K), in calls that the engine can take.

        Raises:
            MachineError: memory is short.
            ModelError: TensorRT fails while it runs the engine.
            ShapeError: the series are not what the model takes.
        """
        return self._run(series)

    def describe(self) -> dict[str, str]:
        """Return version, GPU and how the engine was built, as text."""
        options, place = self._source.options, self._source.place
        on = "GPU" if options.dla_core is None else self._share_of_dla(options.dla_core)
        return {
            "runtime": f"{self.name} {self._library.version}",
            "library": place.library,
            "gpu": f"{place.gpu}, compute capability {place.compute_capability}",
            "engine": f"{on}, level {options.level}, batch {self._low} to {self._high}",
        }

    def _share_of_dla(self, core: int) -> str:
        """Return what runs on a DLA core by the inspector: what could run there need not."""
        layers = self.layers()
        count = sum(layer.on_dla for layer in layers)
        return f"DLA core {core} for {count} of {len(layers)} layers, GPU for the others"

    def layers(self, series: Floats | None = None) -> tuple[Layer, ...]:
        """Return the layers of the engine.

        Args:
            series: time the layers on these, (N, C, T); None leaves the times out.

        Raises:
            ModelError: TensorRT fails while it runs the engine, or describes it in unknown words.
            ShapeError: the series are not what the model takes.
        """
        inspector = self._engine.create_engine_inspector()
        trt = self._library.trt
        found = read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        return found if series is None else with_times(found, self._layer_times(series))

    def _layer_times(self, series: Floats) -> dict[str, float]:
        """Time each layer; the context is made anew, because a profiler slows it down."""
        sums_ms: dict[str, float] = {}
        self._context.profiler = profiler(self._library.trt, sums_ms)
        for run in range(2 * _PROFILED):
            if run == _PROFILED:  # the first half warmed up
                sums_ms.clear()
            self._run(series)
        with self._memory.current():
            del self._context  # one at a time: each has scratch memory of its own
            self._context = self._new_context()
        return {name: total / _PROFILED for name, total in sums_ms.items()}

    def _new_context(self) -> tensorrt.IExecutionContext:
        context = self._engine.create_execution_context()
        if context is None:
            raise self._short_of_memory("makes no context")
        return context

    def _short_of_memory(self, what: str) -> MachineError:
        return MachineError(
            f"{self._library.name} {self._library.version} {what} for {self._source.model}: "
            f"{self._library.drain_messages() or 'no reason given'}. A call needs "
            f"{self.memory_bytes / _MIB:.1f} MiB of scratch memory, and {free_mib()} MiB are free: "
            f"lower --max-batch, now {self._source.options.max_batch}, or free memory."
        )

    def _run(self, series: Floats) -> Floats:
        if series.ndim != 3 or series.shape[1:] != self._series:
            raise ShapeError(
                f"Got series of shape {series.shape} for {self._source.model}, which takes (N, "
                f"{', '.join(map(str, self._series))}). Preprocess them with the bundle's "
                "preprocessing."
            )
        logits = np.empty((len(series), self.classes), dtype=np.float32)
        for begin, end in _chunks(len(series), self._high):
            logits[begin:end] = self._call(series[begin:end])
        return logits

    def _call(self, series: Floats) -> Floats:
        """Run one batch that the engine can take, filled up with zeros if it is too small."""
        count = max(len(series), self._low)
        batch = np.zeros((count, *self._series), dtype=np.float32)
        batch[: len(series)] = series
        self._memory.upload(self._series_in, batch)
        context = self._context
        with self._memory.current():
            ready = (
                context.set_input_shape(self._input, batch.shape)
                and context.set_tensor_address(self._input, self._series_in.address)
                and context.set_tensor_address(self._output, self._logits_out.address)
            )
            if not ready:
                raise self._short_of_memory(f"takes no {count} series in a call")
            done = context.execute_async_v3(self._memory.stream)
        if not done:
            raise ModelError(
                f"{self._library.name} {self._library.version} cannot run {self._source.model}: "
                f"{self._library.drain_messages() or 'no reason given'}. Build the engine again."
            )
        return self._memory.download(self._logits_out, (count, self.classes))[: len(series)]


def _why_absent(engines: Engines, model: Path, here: EngineTarget) -> str:
    places = {str(engine.place) for engine in engines.others(model) if engine.place != here}
    if places:
        return f"the cache has one of {', and of '.join(sorted(places))}; this is {here}"
    return "there was none in the cache with these options"


def _deserialize(library: Library, engine: Engine) -> tensorrt.ICudaEngine:
    runtime: tensorrt.Runtime = make_runtime(library)
    # A version-compatible plan carries a runtime of its own, which is code.
    runtime.engine_host_code_allowed = engine.options.version_compatible
    if engine.options.dla_core is not None:
        runtime.DLA_core = engine.options.dla_core
    loaded = runtime.deserialize_cuda_engine(engine.plan.read_bytes())
    if loaded is None:
        raise ModelError(
            f"{library.name} {library.version} cannot load {engine.plan}, though version and GPU "
            f"fit: {library.drain_messages() or 'no reason given'}. If memory is short, free some "
            "or lower --max-batch; else remove its folder and build again."
        )
    return loaded


def _tensor_names(library: Library, engine: tensorrt.ICudaEngine) -> tuple[str, str]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    reads = library.trt.TensorIOMode.INPUT
    (source,) = (name for name in names if engine.get_tensor_mode(name) == reads)
    (result,) = (name for name in names if engine.get_tensor_mode(name) != reads)
    return source, result


def _batches(engine: tensorrt.ICudaEngine, name: str) -> tuple[int, int]:
    """Return the smallest and the largest batch of a call."""
    fixed, *_ = engine.get_tensor_shape(name)
    if fixed != FREE:
        return fixed, fixed
    low, _, high = (int(shape[0]) for shape in engine.get_tensor_profile_shape(name, 0))
    return low, high


def _chunks(count: int, most: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, count, most):
        yield begin, min(begin + most, count)
