"""Instructions for 8-bit products, and whether ONNX Runtime saturates with them."""

from __future__ import annotations

import numpy as np
import pytest

from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.onnxruntime import OrtRuntime


@pytest.mark.parametrize(
    ("machine", "flags", "name", "saturates"),
    [
        ("x86_64", "flags\t: sse4_1 avx2 avx512bw avx512_vnni", "AVX-512 VNNI", False),
        ("AMD64", "flags : avx2 avx_vnni", "AVX-VNNI", False),
        ("x86_64", "flags : avx2 avx512bw", "AVX-512 without VNNI", True),
        ("x86_64", "flags : sse4_1 avx2", "AVX2 without VNNI", True),
        ("x86_64", "flags : sse4_1", "SSE4.1 without VNNI", True),
        ("x86_64", "flags : sse2", "x86 without VNNI", True),
        ("x86_64", "", "x86, VNNI unknown", True),
        ("aarch64", "Features\t: fp asimd asimddp i8mm", "Arm i8mm", False),
        ("arm64", "Features : asimd asimddp", "Arm dot product", False),
        ("aarch64", "Features : fp asimd", "Arm without dot product", False),
        ("aarch64", "", "Arm, dot product unknown", False),
        ("riscv64", "isa : rv64imafdc", "riscv64", False),
    ],
)
def test_instructions_are_named_by_the_flags(tmp_path, machine, flags, name, saturates):
    """As Linux lists them; without a list, x86 counts as a processor that saturates."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\n{flags}\n\nprocessor : 1\n")

    found = instruction_set(cpuinfo=cpuinfo, machine=machine)

    assert (found.name, found.saturates) == (name, saturates)


def test_a_system_without_a_list_of_flags(tmp_path):
    found = instruction_set(cpuinfo=tmp_path / "none", machine="x86_64")

    assert found.saturates


def test_fast_sums_saturate_where_the_instructions_say_so(write_saturating, tmp_path, rng):
    """On this processor, whichever it is: a fast session against an exact one."""
    path = write_saturating(tmp_path / "int8.onnx", 24)
    series = rng.normal(0.5, 1, (20, 1, 24)).astype(np.float32)

    exact, fast = (OrtRuntime(path, exact_int8=mode).logits(series) for mode in (True, False))

    assert instruction_set().saturates == bool(np.abs(exact - fast).max() > 0.1)
