"""Zips and NPZ files made by hand, so that every one of their fields may lie."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fuzzing.mutations import TEXTS, damaged

_NAMES = (
    *TEXTS,
    *("a", "a/b", "a/b/c", "a/", "./a", "a/.", "a/..", "a/./b", "/a", "//a", "~/a", "..\\a"),
    *("A", "é.onnx", "x" * 300, "d/" * 300 + "x", "nul", "a:b", "-rf", "a\n", "release.json"),
)
_METHODS = (0, 0, 0, 8, 8, 8, 9, 12, 14, 93, 95, 97, 98, 99, 0xFFFF)  # 0 stored, 8 deflated
_FLAGS = (0, 0, 0, 0x800, 0x1, 0x8, 0x20, 0x40, 0x2000, 0xFFFF)
_KINDS = (0, 0o100644, 0o100644, 0o100755, 0o120777, 0o010644, 0o020666, 0o060666, 0o140644)
_SIZES = (0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1)
_DTYPES = (
    *("<f4", "<f4", "<f4", "<i8", "<i8", ">f4", ">i8", "<f8", "<f2", "<c8", "|b1", "|u1", "|S4"),
    *("<U4", "|O", "O", "<M8[D]", "<m8", "|V0", "|V8", "f4,f4", "x", "", "<f4" * 100, "(2,3)<f4"),
)
_SHAPES: tuple[Any, ...] = (
    *((), (0,), (1,), (2, 1, 24), (1 << 20,), (1 << 31,), (10**12,), (1 << 62, 4), (1 << 64,)),
    *((-1,), (-1, 1 << 40), (1,) * 33, (1,) * 65, (1,) * 2000, (True,), (1.5,), ("a",), ((1,),)),
    *((0, 1 << 62), 7, None, "(1,)", [1], {}),
)
_HEADERS = (
    *(b"", b"{", b"{}", b"[]", b"None", b"1", b"\xff\xfe", b"{'descr': '<f4'}", b"(" * 3000),
    *(b"[" * 90 + b"]" * 90, b"-" * 5000 + b"1", b"'" + b"x" * 9000, b"lambda: 0", b"1" * 5000),
    b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (1,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
)


@dataclass
class Member:
    """A member of a zip, and what its headers claim of it."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int = 0
    mode: int = 0o100644
    lies: dict[str, int] = field(default_factory=dict)  # crc, packed, size, offset
    local_name: bytes | None = None  # where it differs from the directory's
    extra: bytes = b""


def zipped(
    members: list[Member], *, before: bytes = b"", lies: dict[str, int] | None = None
) -> bytes:
    """Return a zip as the members claim it, with lies in the end record: count, size, offset."""
    body, directory = bytearray(before), bytearray()
    for member in members:
        packed = _packed(member)
        facts = {"crc": zlib.crc32(member.data), "packed": len(packed), "size": len(member.data)}
        facts |= {"offset": len(body)} | member.lies
        middle = struct.pack("<HHHHHIII", 20, member.flags, member.method, 0, 33, *_sizes(facts))
        local = member.name if member.local_name is None else member.local_name
        lengths = struct.pack("<HH", len(local), len(member.extra))
        body += b"PK\3\4" + middle + lengths + local + member.extra + packed
        lengths = struct.pack("<HHHHH", len(member.name), len(member.extra), 0, 0, 0)
        place = struct.pack("<II", member.mode << 16, facts["offset"] % (1 << 32))
        directory += b"PK\1\2\x14\3" + middle + lengths + place + member.name + member.extra
    facts = {"count": len(members), "size": len(directory), "offset": len(body)} | (lies or {})
    end = struct.pack(
        "<HHHHIIH", 0, 0, facts["count"], facts["count"], facts["size"], facts["offset"], 0
    )
    return bytes(body + directory + b"PK\5\6" + end)


def _sizes(facts: dict[str, int]) -> tuple[int, int, int]:
    return facts["crc"], facts["packed"], facts["size"]


def _packed(member: Member) -> bytes:
    if member.method != 8:
        return member.data
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(member.data) + squeeze.flush()


def strange_zip(sound: list[Member], random: Random) -> bytes:
    """Return a zip of sound members among which strange ones stand, or which lie."""
    members = [_strange(random) for _ in range(random.randint(1, 3))]
    members += random.sample(sound, random.randint(0, len(sound)))
    if random.random() < 0.1:
        members += [Member(members[0].name, b"again")]
    if random.random() < 0.05:
        inner = zipped(members)
        members = [Member(b"inner.zip", inner), Member(b"deep", bytes(1 << 22), method=8)]
    if random.random() < 0.02:
        members += [Member(b"%d" % number, b"") for number in range(1_100)]
    random.shuffle(members)
    lies = {}
    if random.random() < 0.1:
        lies = {random.choice(("count", "size", "offset")): random.choice((0, 1, 7, 0xFFFF))}
    data = zipped(members, before=random.randbytes(random.choice((0, 0, 0, 9))), lies=lies)
    return damaged(data, random) if random.random() < 0.1 else data


def _strange(random: Random) -> Member:
    name = random.choice(_NAMES).encode("utf-8", "surrogatepass")
    data = random.choice((b"", b"x", b"../../outside/kept.txt", b"{}", bytes(1 << 16)))
    member = Member(name, data, random.choice(_METHODS), random.choice(_FLAGS))
    member.mode = random.choice(_KINDS)
    if random.random() < 0.3:
        fact = random.choice(("crc", "packed", "size", "offset"))
        member.lies[fact] = random.choice(_SIZES)
    if random.random() < 0.1:
        member.local_name = random.choice(_NAMES).encode("utf-8", "surrogatepass")
    if random.random() < 0.1:  # zip64: the true sizes stand in the extra field
        values = [random.choice((0, 5, 1 << 32, 1 << 40, (1 << 64) - 1)) for _ in range(3)]
        member.extra = struct.pack("<HHQQQ", 1, random.choice((24, 16, 8, 0, 99)), *values)
        member.lies |= dict.fromkeys(("packed", "size"), (1 << 32) - 1)
    return member


def npy(descr: Any, shape: Any, data: bytes, *, fortran: Any = False) -> bytes:
    """Return an array file with any header."""
    return _npy(repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode(), data)


def _npy(
    header: bytes, data: bytes, *, version: bytes = b"\2\0", claims: int | None = None
) -> bytes:
    size = struct.pack("<I" if version[0] > 1 else "<H", len(header) if claims is None else claims)
    return b"\x93NUMPY" + version + size + header + data


def strange_npz(sound: dict[str, bytes], random: Random) -> bytes:
    """Return an NPZ of sound array files, of which some are replaced, missing, or twice."""
    arrays = dict(sound)
    for name in random.sample(sorted(arrays), random.randint(1, min(3, len(arrays)))):
        match random.randrange(8):
            case 0:
                del arrays[name]
            case 1:
                arrays[f"{name}x"] = arrays.pop(name)
            case 2:
                arrays[name] = damaged(arrays[name], random)
            case _:
                arrays[name] = _strange_npy(arrays[name], random)
    method = random.choice((0, 0, 8))
    members = [Member(f"{name}.npy".encode(), data, method) for name, data in arrays.items()]
    if random.random() < 0.05:
        members += [_strange(random)]
    if random.random() < 0.05 and members:
        members += [Member(members[0].name.removesuffix(b".npy"), members[0].data)]
    return zipped(members)


def _strange_npy(sound: bytes, random: Random) -> bytes:
    data = sound[-random.randint(1, len(sound)) :]
    if random.random() < 0.2:
        version = random.choice((b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"))
        claims = random.choice((None, None, 0, 9, 0xFFFF))
        return _npy(random.choice(_HEADERS), data, version=version, claims=claims)
    descr: Any = random.choice(_DTYPES)
    match random.randrange(12):
        case 0:
            descr = [("a", "<f4"), ("b", random.choice(_DTYPES))]
        case 1:
            descr = random.choice((None, 4, {}, ("<f4", (3,)), [("a", "<f4", (1 << 40,))]))
        case 2:
            return npy("|O", (1,), pickle.dumps(_Call()))
    shape = random.choice(_SHAPES)
    data = random.choice((data, b"", bytes(1 << 20)))
    return npy(descr, shape, data, fortran=random.choice((False, False, True, 1, "x", None)))


class _Call:
    """What runs a function of its own when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return json.loads, ('"unpickled"',)
