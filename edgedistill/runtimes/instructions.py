"""The instructions of a processor that multiply 8-bit numbers: how fast INT8 is, and how exact.

ONNX Runtime picks its INT8 kernels by them. On x86 without VNNI the fast ones add pairs of products
in 16 bits, which saturate; VNNI and Arm cores add in 32 bits. Standard library only.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_CPUINFO: Final = Path("/proc/cpuinfo")
_X86: Final = frozenset({"x86_64", "amd64", "i386", "i686", "x86"})
_ARM: Final = frozenset({"aarch64", "arm64", "armv7l", "armv8l"})
_VNNI: Final = (("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX-VNNI"))  # flag, name
_WITHOUT_VNNI: Final = (
    ("avx512bw", "AVX-512 without VNNI"),
    ("avx2", "AVX2 without VNNI"),
    ("sse4_1", "SSE4.1 without VNNI"),
)
_DOT_PRODUCTS: Final = (("i8mm", "Arm i8mm"), ("asimddp", "Arm dot product"))


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """Instructions for sums of 8-bit products."""

    name: str  # for people, such as "AVX2 without VNNI"
    saturates: bool  # ONNX Runtime's fast INT8 kernels add in 16 bits


def instruction_set(*, cpuinfo: Path = _CPUINFO, machine: str | None = None) -> InstructionSet:
    """Return the instruction set of this processor.

    An x86 processor whose flags cannot be read counts as one that saturates: exact sums are slower
    there at worst.

    Args:
        cpuinfo: file in which Linux lists the processor's flags.
        machine: machine type, as of `platform.machine()`; None is this machine's.
    """
    kind = (machine or platform.machine()).lower()
    flags = _flags(cpuinfo)
    if kind in _X86:
        if name := _first(_VNNI, flags):
            return InstructionSet(name, saturates=False)
        fallback = "x86 without VNNI" if flags else "x86, VNNI unknown"
        return InstructionSet(_first(_WITHOUT_VNNI, flags) or fallback, saturates=True)
    if kind in _ARM:
        fallback = "Arm without dot product" if flags else "Arm, dot product unknown"
        return InstructionSet(_first(_DOT_PRODUCTS, flags) or fallback, saturates=False)
    return InstructionSet(kind, saturates=False)


def _flags(cpuinfo: Path) -> frozenset[str]:
    """Return the flags of the first processor; empty where the system does not list them."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, values = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            return frozenset(values.split())
    return frozenset()


def _first(names: tuple[tuple[str, str], ...], flags: frozenset[str]) -> str:
    """Return the name of the first flag that is set; empty without any."""
    return next((name for flag, name in names if flag in flags), "")
