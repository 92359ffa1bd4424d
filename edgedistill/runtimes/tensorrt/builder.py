"""From an ONNX file to a serialized TensorRT engine, on the machine that runs it.

Networks are strongly typed: the file fixes the precision, as TensorRT 11 demands and
TensorRT 10 allows, so one code path serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgedistill.errors import ModelError, UsageError
from edgedistill.io import files
from edgedistill.runtimes.tensorrt.bindings import Library, make_builder
from edgedistill.runtimes.tensorrt.dla import adjust_parser, use_dla

if TYPE_CHECKING:
    import tensorrt

FREE: Final = -1  # TensorRT's sign for an axis of no fixed length
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How an engine is built.

    Raises:
        UsageError: a value that TensorRT does not support.
    """

    max_batch: int = 64  # series in one call; of a file whose batch is free
    level: int = 3  # of the builder's search, 0 to 5: higher builds longer
    workspace_mib: int = 1024  # scratch memory; a Jetson's, at least 4 GB, is the CPU's too
    dla_core: int | None = None  # of Jetson's accelerator; None runs on the GPU
    version_compatible: bool = False  # later releases of the same major version may run it
    refit: bool = False  # weights may be replaced later

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("batch size", self.max_batch, 1, 4096),
            ("optimization level", self.level, 0, 5),
            ("workspace in MiB", self.workspace_mib, 1, 1 << 20),
            ("DLA core", self.dla_core, 0, 15),
        ):
            if value is not None and not low <= value <= high:
                raise UsageError(f"The {name} is {value}; give {low} to {high}.")

    @property
    def batches(self) -> tuple[int, int, int]:
        """Return the smallest, best and largest batch; a DLA takes one only."""
        return (1, 1, 1) if self.dla_core is not None else (1, 1, self.max_batch)


@dataclass(frozen=True, slots=True)
class EngineBuild:
    """Result of the builder."""

    plan: bytes
    gpu_fallback: tuple[str, ...]  # layers that the DLA core leaves to the GPU
    warnings: tuple[str, ...] = ()  # of the parser and the builder


def serialize(
    library: Library,
    model: Path,
    options: BuildOptions,
    *,
    timing: Path,
    compute_capability: str | None = None,
) -> EngineBuild:
    """Build an engine for the GPU that is here.

    Args:
        library: loaded TensorRT.
        model: path of an ONNX file from float32 (N, C, T) to float32 (N, K); N fixed or free.
        options: options of the builder.
        timing: path of the kernel timings, read and written; TensorRT-RTX takes none.
        compute_capability: compute capability of a GPU elsewhere, such as "8.6"; TensorRT-RTX only.

    Raises:
        ModelError: the parser, the builder or a DLA refuses the file; every message is passed on.
        MachineError: TensorRT cannot use the GPU, or there is no such DLA core.
        UsageError: TensorRT-RTX does not support the compute capability.
    """
    trt = library.trt
    builder: tensorrt.Builder = make_builder(library)
    network = _network(library, builder, model, options)
    config = builder.create_builder_config()
    _configure(trt, config, options)
    _add_profile(builder, network, config, options)
    core = options.dla_core
    fallback = () if core is None else use_dla(trt, builder, network, config, core)
    if compute_capability is not None:
        _target_rtx(trt, config, compute_capability)
    if not library.is_rtx:
        _read_timings(config, timing)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _build_error(library, model)
    if not library.is_rtx:
        _write_timings(config, timing)
    return EngineBuild(bytes(plan), fallback, library.drain_warnings())


def _network(
    library: Library, builder: tensorrt.Builder, model: Path, options: BuildOptions
) -> tensorrt.INetworkDefinition:
    """Return the strongly typed network of an ONNX file."""
    trt = library.trt
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    _parse(library, network, model, for_dla=options.dla_core is not None)
    _check_interface(trt, network, model)
    return network


def _build_error(library: Library, model: Path) -> ModelError:
    return ModelError(
        f"{library.name} {library.version} cannot build {model.name}: "
        f"{library.drain_messages() or 'no reason given'}. If memory is short, limit the "
        "workspace or the batch; else export the model again."
    )


def _parse(
    library: Library, network: tensorrt.INetworkDefinition, model: Path, *, for_dla: bool
) -> None:
    trt = library.trt
    parser = trt.OnnxParser(network, library.log)
    if for_dla:
        adjust_parser(trt, parser)
    if not parser.parse_from_file(str(model)):
        problems = [_problem(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ModelError(
            f"The parser of {library.name} {library.version} refuses {model.name}: "
            f"{'; '.join(problems) or library.drain_messages()}. Choose a model that was made "
            "for TensorRT: INT8 for ONNX Runtime is none."
        )


def _check_interface(trt: Any, network: tensorrt.INetworkDefinition, model: Path) -> None:
    takes = [network.get_input(index) for index in range(network.num_inputs)]
    gives = [network.get_output(index) for index in range(network.num_outputs)]
    floats = all(tensor.dtype == trt.DataType.FLOAT for tensor in [*takes, *gives])
    series, logits = ([tuple(tensor.shape) for tensor in tensors] for tensors in (takes, gives))
    ranks = [len(shape) for shape in series], [len(shape) for shape in logits]
    if not floats or ranks != ([3], [2]) or FREE in series[0][1:]:
        raise ModelError(
            f"{model.name} goes from {series} to {logits}{'' if floats else ', not all float32'}; "
            f"one float32 (N, C, T) and one float32 (N, K) are needed, where only N may be free "
            f"({FREE}). Export the model with edgedistill."
        )


def _problem(error: tensorrt.ParserError) -> str:
    name = error.node_name()
    node = repr(name) if name else f"number {error.node()}"
    said = " ".join(error.desc().split())  # it may have several lines
    return f"node {node} ({error.node_operator() or 'no operator'}): {said}"


def _configure(trt: Any, config: tensorrt.IBuilderConfig, options: BuildOptions) -> None:
    # On by default, and it would round the factors of a float32 model to 10 bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    # Without it the inspector has names only, neither formats nor ONNX nodes.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.builder_optimization_level = options.level
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)


def _add_profile(
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    options: BuildOptions,
) -> None:
    """Set the batch sizes of a file with a free batch; a fixed batch needs none."""
    series = network.get_input(0)
    batch, *rest = tuple(series.shape)
    if batch == FREE:
        profile = builder.create_optimization_profile()
        low, best, high = ((size, *rest) for size in options.batches)
        profile.set_shape(series.name, low, best, high)
        config.add_optimization_profile(profile)


def _target_rtx(trt: Any, config: tensorrt.IBuilderConfig, compute_capability: str) -> None:
    """Build for a GPU that need not be here."""
    wanted = "SM" + compute_capability.replace(".", "")
    target = getattr(trt.ComputeCapability, wanted, None)
    if target is None:
        known = (name for name in dir(trt.ComputeCapability) if name.startswith("SM"))
        raise UsageError(
            f"TensorRT-RTX {trt.__version__} does not build for compute capability "
            f"{compute_capability!r}; it knows {', '.join(known)}, where SM86 is 8.6."
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _read_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    """Start from the timings of earlier builds; those of another machine are not taken."""
    known = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if known is None or not config.set_timing_cache(known, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _write_timings(config: tensorrt.IBuilderConfig, path: Path) -> None:
    timings = config.get_timing_cache()
    with files.whole_file(path) as partial:
        partial.write_bytes(bytes(timings.serialize()))
