"""Check that an ONNX file has no external tensor data.

A tensor may lie in another file, and ONNX Runtime 1.23 reads it wherever that is (1.31 stays in the
model's folder). But nothing outside of a bundle is to be read. Protocol Buffers' wire format is
read here without a library, because a board has none; weights are skipped, not read.

Sources: onnx.proto of ONNX 1.17 for the numbers; protobuf.dev, "Encoding".
"""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from edgedistill.errors import ModelError

# Of each message, the fields through which a tensor can be reached, and what they hold
MESSAGES: Final = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
EXTERNAL_DATA: Final = 13  # of a tensor: where else it lies
DATA_LOCATION: Final = 14  # of a tensor: 0 in this file
_VARINT, _8_BYTES, _BYTES, _4_BYTES = 0, 1, 2, 5  # kinds of fields
_DEEPEST = 100  # messages in messages, as in Protocol Buffers itself
_LARGEST_TAG = (1 << 32) - 1
_LONGEST_VARINT = 10  # bytes


def check_alone(path: Path) -> None:
    """Refuse an ONNX file that keeps tensors anywhere else.

    Raises:
        ModelError: it does, or it is no ONNX file.
    """
    try:
        with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
            alone = _alone(data, 0, len(data), "ModelProto", 0)
    except (OSError, ValueError, IndexError) as error:  # an empty file is a ValueError
        raise ModelError(
            f"{path.name} is no ONNX file that can be read: {error}. Copy or export the model "
            "again."
        ) from error
    if not alone:
        raise ModelError(
            f"{path.name} keeps tensors outside of the file, and a model that is run here may read "
            "nothing but itself. Save it with its weights inside."
        )


def _alone(data: mmap, at: int, end: int, message: str, depth: int) -> bool:
    """Return whether a message between two places refers to no file; ValueError if damaged."""
    if depth > _DEEPEST:
        raise ValueError("its messages lie too deep in each other")
    inner = MESSAGES[message]
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if tag > _LARGEST_TAG or kind not in {_VARINT, _8_BYTES, _BYTES, _4_BYTES}:
            raise ValueError(f"a field at byte {at} is of no known kind")
        size = {_8_BYTES: 8, _4_BYTES: 4}.get(kind, 0)
        value = 0
        if kind in {_VARINT, _BYTES}:
            value, at = _varint(data, at)
            size = value if kind == _BYTES else 0
        if at + size > end:
            raise ValueError(f"a field at byte {at} is cut off")
        if message == "TensorProto" and (
            number == EXTERNAL_DATA or (number == DATA_LOCATION and value)
        ):
            return False
        deeper = kind == _BYTES and number in inner
        if deeper and not _alone(data, at, at + size, inner[number], depth + 1):
            return False
        at += size
    return True


def _varint(data: mmap, at: int) -> tuple[int, int]:
    """Return a whole number and the place behind it."""
    value = 0
    for place in range(_LONGEST_VARINT):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise ValueError(f"a number at byte {at} is too long")
