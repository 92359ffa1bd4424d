"""Damage: to bytes, to JSON values, to lines of text. Everything is drawn from one `Random`."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

_EDITS = (1, 1, 1, 2, 3)
_LONG = 5_000  # characters of a long text, levels of a deep array
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 62)
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 7, 255, 65536, 1 << 31, 1 << 40, 1 << 63, 1 << 64, -(1 << 63), 10**400),
    *(0.0, -0.0, 0.5, 1.5, 1e-320, 1e39, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", ".", "..", "/", "\0", "\n", "\ud800", "é", "‮", "0", "-1", "1e9", "NaN", "null"),
    *("../evil", "/edgedistill-escape/evil", "models/../../evil", "models//x", "C:\\evil", "a\0b"),
    *("manifest.json", "golden.npz", "models", "models/", "CON", "%s%n{0}", "$(touch evil)"),
    *("cpu", "all", "parallel", "mean", "train", "series", "log_mel", "fp32", "tensorrt"),
)


def damaged(data: bytes, random: Random) -> bytes:
    """Return bytes with a few edits: bits, numbers, ranges cut, doubled or moved."""
    found = bytearray(data)
    for _ in range(random.choice(_EDITS)):
        _edit_bytes(found, random)
    return bytes(found)


def _edit_bytes(data: bytearray, random: Random) -> None:
    start = random.randrange(len(data) + 1)
    stop = min(len(data), start + random.choice((1, 2, 4, 8, 64, 1024)))
    match random.randrange(8):
        case 0 if start < len(data):
            data[start] ^= 1 << random.randrange(8)
        case 1 if start < len(data):
            data[start] = random.randrange(256)
        case 2:
            size = random.choice((1, 2, 4, 8))
            value = random.choice(_EDGES) % (1 << 8 * size)
            data[start : start + size] = value.to_bytes(size, random.choice(("little", "big")))
        case 3:
            del data[start:stop]
        case 4:
            data[start:start] = random.randbytes(random.choice((1, 4, 64)))
        case 5:
            data[start:start] = data[start:stop]
        case 6:
            del data[start:]
        case _:
            place = random.randrange(len(data) + 1)
            data[place:place] = data[start:stop]


def damaged_json(value: Any, random: Random) -> bytes:
    """Return JSON of a value with a few edits: keys, types and values, at any depth."""
    found = copy.deepcopy(value)
    for _ in range(random.choice(_EDITS)):
        found = _edited(found, random)
    text = json.dumps(found)
    if random.random() < 0.05:
        text = _twice(text, random)
    if random.random() < 0.02:
        text = text.replace(",", "," + "[" * random.choice((1, 2_000, 100_000)), 1)
    data = text.encode("utf-8", "surrogatepass")
    return damaged(data, random) if random.random() < 0.05 else data


def _edited(value: Any, random: Random) -> Any:
    """Return the value with one edit at a random place of it."""
    if not isinstance(value, (dict, list)) or not value or random.random() < 0.1:
        return _other(value, random)
    places: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = random.choice(places)
    if isinstance(value[place], (dict, list)) and random.random() < 0.8:
        value[place] = _edited(value[place], random)
        return value
    match random.randrange(9):
        case 0:
            del value[place]
        case 1 if isinstance(value, dict):
            value[random.choice(TEXTS)] = value.pop(place)
        case 2 if isinstance(value, dict):
            value[random.choice(TEXTS)] = _other(None, random)
        case 3 if isinstance(value, list):
            value.insert(place, value[random.choice(places)])
        case 4:
            other = random.choice(places)
            value[place], value[other] = value[other], value[place]
        case _:
            value[place] = _other(value[place], random)
    return value


def _other(value: Any, random: Random) -> Any:
    """Return a value to stand in the place of another."""
    match random.randrange(9):
        case 0 | 1:
            return random.choice(NUMBERS)
        case 2 | 3:
            return random.choice(TEXTS)
        case 4:
            return random.choice((None, True, False, [], {}, [[]], [{}], {"": None}))
        case 5:
            return random.choice(TEXTS) * _LONG
        case 6:
            return str(value) if not isinstance(value, str) else [value]
        case 7 if type(value) in (int, float) and abs(value) < 1e9:
            return value + random.choice((-1, 1, 0.5, 1000))
        case 7 if isinstance(value, str) and value:
            return damaged(value.encode("utf-8", "surrogatepass"), random).decode(errors="replace")
        case _:
            return _deep(random.choice((3, 50, 300)))


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _twice(text: str, random: Random) -> str:
    """Return the text with one range of it doubled at a comma, so that keys stand twice."""
    commas = [place for place, sign in enumerate(text) if sign == ","]
    if len(commas) < 2:
        return text + text
    first, last = sorted(random.sample(commas, 2))
    return text[:last] + text[first:last] + text[last:]


def damaged_lines(lines: list[bytes], random: Random) -> bytes:
    """Return lines, some of which are damaged, doubled, joined, or of other kinds."""
    found = []
    for line in random.choices(lines, k=random.randint(1, 4)):
        match random.randrange(6):
            case 0:
                found.append(line)
            case 1:
                found.append(_damaged_line(line, random))
            case 2:
                found.append(json.dumps(_other(None, random)).encode("utf-8", "surrogatepass"))
            case 3:
                found.append(random.randbytes(random.randint(0, 40)))
            case 4:
                found.append(b"[" * random.choice((1, 100, 100_000)) + line)
            case _:
                found.append(damaged(line, random))
    return random.choice((b"\n", b"\n", b"\r\n", b"\r", b"\n\n")).join(found)


def _damaged_line(line: bytes, random: Random) -> bytes:
    try:
        return damaged_json(json.loads(line), random)
    except ValueError:
        return damaged(line, random)
