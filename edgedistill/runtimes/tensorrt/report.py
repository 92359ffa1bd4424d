"""Report of `build`: an engine's place, its origin, its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.io.arrays import Floats
from edgedistill.runtimes.tensorrt.engine_cache import Engines
from edgedistill.runtimes.tensorrt.layers import Layer, by_precision
from edgedistill.runtimes.tensorrt.runtime import PreparedEngine, TensorRtRuntime, prepare


@dataclass(frozen=True, slots=True)
class EngineReport:
    """An engine and its layers."""

    prepared: PreparedEngine
    layers: tuple[Layer, ...] | None  # None: built for a GPU that is not here

    def values(self) -> dict[str, Any]:
        """Return everything, JSON-able; times in ms."""
        engine = self.prepared.engine
        layers = None
        if self.layers is not None:
            layers = [{**asdict(layer), "precision": layer.precision} for layer in self.layers]
        return {
            "model": engine.model,
            "plan": str(engine.plan),
            "size_bytes": engine.plan.stat().st_size,
            "how": self.prepared.how,
            "place": asdict(engine.place),
            "options": asdict(engine.options),
            "gpu_fallback": list(engine.gpu_fallback),
            "layers": layers,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return the main facts for people, name and text."""
        engine = self.prepared.engine
        found = [
            ("model", engine.model),
            ("engine", f"{engine.plan}, {engine.plan.stat().st_size} bytes"),
            ("came", self.prepared.how),
            ("valid for", str(engine.place)),
        ]
        if engine.options.dla_core is not None:
            left = ", ".join(engine.gpu_fallback) or "none"
            found.append(("layers that DLA leaves to the GPU", left))
        if self.layers is None:
            found.append(("layers", "unknown, because the GPU is not here"))
        shares = by_precision(self.layers or ())
        return found + [
            (f"layers in {share.precision}", f"{share.layers}, {_time(share.ms)}")
            for share in shares
        ]

    def table(self) -> Iterator[tuple[str, ...]]:
        """Yield a row a layer, after one with the headings."""
        yield ("layer", "kind", "reads", "writes", "time", "ONNX nodes")
        for layer in self.layers or ():
            reads, writes = "+".join(layer.reads) or "-", "+".join(layer.writes) or "-"
            nodes = ", ".join(layer.nodes)
            yield (layer.name, layer.kind, reads, writes, _time(layer.ms), nodes)


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
        MachineError: TensorRT, cuda-python, a GPU or a DLA core is missing.
        ModelError: TensorRT refuses the file, or cannot run the engine.
        ShapeError: the series are not what the model takes.
        UsageError: TensorRT cannot build for that compute capability.
    """
    prepared = prepare(model, engines, compute_capability=compute_capability)
    if compute_capability is not None:
        return EngineReport(prepared, None)
    return EngineReport(prepared, TensorRtRuntime(prepared.engine).layers(series))


def _time(ms: float | None) -> str:
    return "not timed" if ms is None else f"{ms:.4f} ms"
