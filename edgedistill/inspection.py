"""Contents of a file: an ONNX model, a file of safetensors, or a bundle.

Facts are read without running a model; a bundle is verified while it is opened.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.bundle.location import locate
from edgedistill.bundle.manifest import MANIFEST
from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.errors import ModelError, UsageError

if TYPE_CHECKING:
    import onnx

_SUFFIXES = (".onnx", ".safetensors", ".zip")
_NAMES = {"float": "float32", "double": "float64"}  # ONNX's names for what NumPy names better
_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
_STORED = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}  # names in safetensors
_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


def is_model(path: Path) -> bool:
    """Whether `describe` is for a path: a model's file by its name, a bundle, or a run.

    Raises:
        ContractError: a run without a bundle, because its contract is broken.
        UsageError: a run without a bundle, because it is not complete.
    """
    place = locate(path)
    return place.suffix.lower() in _SUFFIXES or (place / MANIFEST).is_file()


def describe(path: Path) -> dict[str, Any]:
    """Describe a file by JSON values; the kind of file determines the keys. A run is its bundle.

    - `onnx`: `size_bytes`, `parameters`, `precision`, `inputs` and `outputs` (`name`, `dtype`,
      `shape`; a free axis is a name, an unknown one None), `operators` (name to count), `opsets`
      (domain to version), `ir_version`, `producer`;
    - `safetensors`: `size_bytes`, `parameters`, `precision`, `tensors` (`name`, `dtype`, `shape`);
    - `bundle`: `size_bytes`, the facts of its manifest, and each of its models.

    Raises:
        UsageError: a file of another suffix.
        ModelError: there is no such file, or it is damaged.
        IntegrityError: a bundle that cannot be trusted.
    """
    readers = dict(zip(_SUFFIXES, (_onnx, _safetensors, _bundle), strict=True))
    path = locate(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise ModelError(f"There is no {path}. Check the path.")
    if not path.is_dir() and suffix not in readers:
        raise UsageError(
            f"{path} is nothing that can be inspected. Name an .onnx file, a .safetensors file, "
            "a bundle (a folder or a .zip), or the folder of a run."
        )
    read = _bundle if path.is_dir() else readers[suffix]
    return {"path": str(path), **read(path)}


def external_data(path: Path) -> list[Path]:
    """Return the files in which an ONNX file keeps tensors, sorted; other files have none.

    Raises:
        ModelError: the file is no ONNX model.
    """
    if path.suffix.lower() != ".onnx":
        return []
    tensors = _tensors(_load(path).graph)
    names = {e.value for each in tensors for e in each.external_data if e.key == "location"}
    return sorted(path.parent / name for name in names)


def size_with_external_data(path: Path) -> int:
    """Return the bytes of a model file and of the files that it keeps tensors in.

    Raises:
        ModelError: an ONNX file cannot be read.
    """
    return sum(_size(each) for each in (path, *external_data(path)))


def _bundle(path: Path) -> dict[str, Any]:
    with open_bundle(path) as bundle:
        facts = bundle.manifest
        return {
            "kind": "bundle",
            "size_bytes": _size(path),
            "format": facts["format"],
            "name": bundle.name,
            "created": facts["created"],
            "class_names": list(bundle.class_names),
            "preprocessing": facts["preprocessing"],
            "contract": facts["contract"],
            "chosen": bundle.chosen,
            "models": _models(bundle),
            "golden_series": len(bundle.golden().series),
            "provenance": facts["provenance"],
        }


def _models(bundle: Bundle) -> list[dict[str, Any]]:
    """Facts of the manifest about each model, and the contents of the model's file."""
    models = []
    for model, entry in zip(bundle.models, bundle.manifest["models"], strict=True):
        is_onnx = model.path.suffix.lower() == ".onnx"
        models.append({**entry, "contents": _onnx(model.path) if is_onnx else None})
    return models


def _onnx(path: Path) -> dict[str, Any]:
    model = _load(path)
    try:
        return _facts(model, path)
    except (TypeError, ValueError) as error:  # a name that is no text, a type that does not exist
        raise ModelError(f"{path} is damaged: {error}. Copy or export the file again.") from error


def _facts(model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    graph = model.graph
    nodes = list(_nodes(graph))
    weights = [i for i in graph.initializer if i.name not in _scales(nodes)]
    stored: Counter[str] = Counter()
    for weight in weights:
        stored[_dtype(weight.data_type)] += math.prod(weight.dims)
    return {
        "kind": "onnx",
        "size_bytes": size_with_external_data(path),
        "parameters": sum(n for dtype, n in stored.items() if dtype not in {"int64", "bool"}),
        "precision": _precision(nodes, graph, stored),
        "inputs": [_value(value) for value in graph.input],
        "outputs": [_value(value) for value in graph.output],
        "operators": dict(Counter(_text(node.op_type) for node in nodes).most_common()),
        "opsets": {opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
    }


def _load(path: Path) -> onnx.ModelProto:
    import onnx  # here and below: data are inspected without
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ModelError(f"Cannot read {path}: {error}. Copy or export the file again.") from error
    if not model.graph.node:
        raise ModelError(f"{path} holds no ONNX graph. Copy or export the file again.")
    return model


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield every node, also those inside branches and loops."""
    from onnx import AttributeProto

    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every constant of a graph, also those inside branches and loops."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _scales(nodes: list[onnx.NodeProto]) -> set[str]:
    """Names of scales and zero points, which are no parameters of the network."""
    return {name for node in nodes if node.op_type in _QUANTIZERS for name in node.input[1:]}


def _precision(nodes: list[onnx.NodeProto], graph: onnx.GraphProto, stored: Counter[str]) -> str:
    """Types of the weights, the most frequent first; quantized ones with their format."""
    if any(_text(node.op_type).startswith("QLinear") for node in nodes):
        return "int8 (QOperator)"
    if any(node.op_type in _QUANTIZERS for node in nodes):
        read = {n.input[0] for n in nodes if n.op_type == "DequantizeLinear"} | _scales(nodes)
        types = {_dtype(i.data_type) for i in graph.initializer if i.name in read}
        # A bias is int32 whatever the precision of the weights, and scales are floats. Without a
        # zero point ONNX takes uint8.
        narrow = sorted(t for t in types if "int" in t and t != "int32")
        return f"{' + '.join(narrow) or 'uint8'} (QDQ)"
    floats = [_SHORT[dtype] for dtype, _ in stored.most_common() if dtype in _SHORT]
    return " + ".join(floats) or "none"


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape: list[int | str | None] = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    ]
    return {"name": _text(value.name), "dtype": _dtype(tensor.elem_type), "shape": shape}


def _text(name: str | bytes) -> str:
    """Return a name, which Protocol Buffers leaves as bytes if it is no UTF-8."""
    if isinstance(name, bytes):
        raise TypeError(f"the name {name!r} is no text")
    return name


def _dtype(number: int) -> str:
    from onnx import TensorProto

    name = str(TensorProto.DataType.Name(number)).lower()
    return _NAMES.get(name, name)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stored:
            slices = {name: stored.get_slice(name) for name in stored.keys()}  # noqa: SIM118 no mapping
            tensors = [
                {"name": name, "dtype": piece.get_dtype(), "shape": list(piece.get_shape())}
                for name, piece in slices.items()
            ]
    except (SafetensorError, OSError) as error:
        raise ModelError(f"Cannot read {path}: {error}. Copy or save the file again.") from error
    counts: Counter[str] = Counter()
    for tensor in tensors:
        if tensor["dtype"] in _STORED:
            counts[_STORED[tensor["dtype"]]] += math.prod(tensor["shape"])
    return {
        "kind": "safetensors",
        "size_bytes": path.stat().st_size,
        "parameters": counts.total(),
        "precision": " + ".join(dtype for dtype, _ in counts.most_common()) or "none",
        "tensors": tensors,
    }


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    members = path.rglob("*") if path.is_dir() else [path]
    return sum(member.stat().st_size for member in members if member.is_file())
