"""The layers of a built engine: precision and time of each, and the report of `build` with them.

They show why INT8 can be slower than FP16: a layer that TensorRT left in a higher precision,
or the reformatting layers that it put in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from edgedistill.errors import ModelError
from edgedistill.runtimes.tensorrt.engine_cache import PreparedEngine

if TYPE_CHECKING:
    import tensorrt

_MIB: Final = 1 << 20
REFORMAT: Final = "reformat"
DLA: Final = "DLA"  # the inspector's kind of a layer on a DLA core
_TYPES: Final = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
    "int4": "int4",
    "fp4": "fp4",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "uint8": "uint8",
}
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an engine."""

    name: str
    kind: str  # TensorRT's name of it, such as "CaskConvolution"
    reads: tuple[str, ...]  # precisions of its inputs, each once
    writes: tuple[str, ...]  # and of its outputs
    nodes: tuple[str, ...]  # ONNX nodes that went into it
    ms: float | None = None  # mean time of a call, if it was measured

    @property
    def precision(self) -> str:
        """Return the precision, that of its input; "reformat" if it only copies."""
        if "reformat" in f"{self.kind} {self.name}".lower():
            return REFORMAT
        return "+".join(self.reads) or "+".join(self.writes) or "none"

    @property
    def on_dla(self) -> bool:
        """Whether a DLA core runs it: a part of the network in one piece."""
        return self.kind == DLA


@dataclass(frozen=True, slots=True)
class Share:
    """All layers of one precision together."""

    precision: str
    layers: int
    ms: float | None


@dataclass(frozen=True, slots=True)
class EngineReport:
    """An engine and its layers."""

    prepared: PreparedEngine
    layers: tuple[Layer, ...] | None  # None: built for a GPU that is not here
    memory_bytes: int | None = None  # scratch memory of a call on the GPU
    warnings: tuple[str, ...] = ()  # of the loader; the builder's are the engine's

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
            "memory_bytes": self.memory_bytes,
            "warnings": [*engine.warnings, *self.warnings],
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
            on_dla = [layer for layer in self.layers or () if layer.on_dla]
            nodes = ", ".join(node for layer in on_dla for node in layer.nodes or (layer.name,))
            found.append(("runs on the DLA", nodes or "nothing"))
            left = ", ".join(engine.gpu_fallback) or "none"
            found.append(("layers that DLA leaves to the GPU", left))
        if self.layers is None:
            found.append(("layers", "unknown, because the GPU is not here"))
        if self.memory_bytes is not None:
            found.append(("scratch memory of a call", f"{self.memory_bytes / _MIB:.1f} MiB"))
        found += [("warning", text) for text in (*engine.warnings, *self.warnings)]
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


def read_layers(information: str) -> tuple[Layer, ...]:
    """Return the layers from the JSON of the engine inspector.

    Raises:
        ModelError: it is not the output of an inspector of TensorRT 10 or 11.
    """
    try:
        return tuple(_layer(entry) for entry in json.loads(information)["Layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"TensorRT's inspector describes the engine in a way that is not known here: {error!r}."
            " Build the engine anew; if that does not help, this TensorRT is too new."
        ) from error


def with_times(layers: Sequence[Layer], ms: Mapping[str, float]) -> tuple[Layer, ...]:
    """Return the layers with their profiled times, by name; None where there is none."""
    return tuple(replace(layer, ms=ms.get(layer.name)) for layer in layers)


def by_precision(layers: Sequence[Layer]) -> tuple[Share, ...]:
    """Return how many layers compute in which precision and for how long, most layers first."""
    shares = []
    for precision in dict.fromkeys(layer.precision for layer in layers):
        members = [layer for layer in layers if layer.precision == precision]
        times = [layer.ms for layer in members if layer.ms is not None]
        shares.append(Share(precision, len(members), sum(times) if times else None))
    return tuple(sorted(shares, key=lambda share: -share.layers))


def profiler(trt: Any, sums_ms: dict[str, float]) -> tensorrt.IProfiler:
    """Return a profiler that adds each layer's time to `sums_ms`."""

    class LayerTimes(trt.IProfiler):  # type: ignore[misc]  # the base is loaded at run time
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)  # the binding insists

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            sums_ms[layer_name] = sums_ms.get(layer_name, 0.0) + ms

    return LayerTimes()


def _layer(entry: Mapping[str, Any]) -> Layer:
    if isinstance(entry, str):  # built without details: the name is all there is
        return Layer(entry, "unknown", (), (), ())
    return Layer(
        name=entry["Name"],
        kind=entry["LayerType"],
        reads=_precisions(entry["Inputs"]),
        writes=_precisions(entry["Outputs"]),
        nodes=tuple(dict.fromkeys(_NODE.findall(entry.get("Metadata", "")))),
    )


def _precisions(tensors: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_precision(tensor) for tensor in tensors))


def _precision(tensor: Mapping[str, Any]) -> str:
    """Return the type from a format: "Half", or "Row major linear FP16 format" in words."""
    text = str(tensor.get("Datatype") or tensor["Format/Datatype"])
    for word in re.findall(r"[a-z]+[0-9]*", text.lower()):
        if word in _TYPES:
            return _TYPES[word]
    return text


def _time(ms: float | None) -> str:
    return "not timed" if ms is None else f"{ms:.4f} ms"
