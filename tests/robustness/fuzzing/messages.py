"""Damage to an ONNX model that stays readable as a message: fields of every kind, at any depth."""

from __future__ import annotations

from random import Random
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx.external_data_helper import _get_all_tensors

from fuzzing.corpus import Corpus
from fuzzing.mutations import TEXTS

_EDITS = (1, 1, 2, 3, 5)
_NUMBERS = (0, -1, 1, 2, 3, 7, 24, 255, 1 << 20, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63))
_REALS = (0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"))
_LOCATIONS = ("../outside/kept.txt", "/etc/passwd", "model.onnx", "*/_ORT_MEM_ADDR_/*", "", "..")
_OPERATORS = ("Conv", "LSTM", "Gemm", "Loop", "If", "Reshape", "Gather", "Tile", "Expand", "Pad")


def damaged_model(random: Random, corpus: Corpus) -> bytes:
    """Return a real model with a few fields changed, doubled or removed."""
    model = onnx.load_from_string(random.choice(corpus.onnx))
    for _ in range(random.choice(_EDITS)):
        _edit(model, random)
    if random.random() < 0.1:
        _move_out(model, random)
    return model.SerializeToString()


def keeps_outside(data: bytes) -> bool:
    """Return whether a model has a tensor in another file."""
    tensors = _get_all_tensors(onnx.load_from_string(data))
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)


def _move_out(model: onnx.ModelProto, random: Random) -> None:
    """Have a tensor lie in another file, or at an address of the memory."""
    tensors = list(_get_all_tensors(model))
    if not tensors:
        return
    tensor = random.choice(tensors)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    facts = {"location": random.choice(_LOCATIONS), "offset": random.choice(("0", "64", "-1"))}
    for key, value in {**facts, "length": str(random.choice((4, 32, 1 << 40)))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def _edit(message: Message, random: Random) -> None:
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    deeper = [value] if isinstance(value, Message) else []
    if field.is_repeated and field.message_type:
        deeper = list(value)
    if deeper and random.random() < 0.85:
        _edit(random.choice(deeper), random)
    elif random.random() < 0.1:
        message.ClearField(field.name)
    elif field.is_repeated:
        _edit_list(field, value, random)
    elif not isinstance(value, Message):
        setattr(message, field.name, _other(field, value, random))


def _edit_list(field: FieldDescriptor, values: Any, random: Random) -> None:
    of_messages = field.message_type is not None
    place = random.randrange(len(values))
    match random.randrange(3):
        case 0:
            del values[place]
        case 1 if of_messages:
            values.add().CopyFrom(random.choice(list(values)))
        case 1:
            values.append(values[random.randrange(len(values))])
        case _ if not of_messages:
            values[place] = _other(field, values[place], random)


def _other(field: FieldDescriptor, value: Any, random: Random) -> Any:
    """Return a value of the same kind, small enough for the field."""
    if isinstance(value, bytes):
        return value[: random.randrange(len(value) + 1)] + random.randbytes(random.choice((0, 4)))
    if isinstance(value, str):
        texts = (*TEXTS, *_OPERATORS, "series", "logits")
        return random.choice(texts).encode(errors="ignore").decode()
    if isinstance(value, float):
        return random.choice(_REALS)
    if field.enum_type is not None:
        return random.choice(field.enum_type.values).number
    number = random.choice(_NUMBERS)
    return number if field.type == field.TYPE_INT64 or abs(number) < 1 << 31 else number % 100
