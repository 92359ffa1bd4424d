"""What a map holds in memory, however long the series and however many its windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="looks for the peak of a process in /proc"
    ),
]

BOUND_MIB = 48
# The bound is on tensors; the peak of a process also holds what the allocator keeps of freed ones.
PROCESS_MIB = 2 * BOUND_MIB
_SCRIPT = """
import sys
from pathlib import Path
import torch
from edgedistill.attribution.incremental.propagation import IncrementalModel
from edgedistill.models import ModelSpec, build

family, width, method, length, bound_mib = sys.argv[1:]
length = int(length)
torch.set_num_threads(1)
torch.set_grad_enabled(False)
spec = ModelSpec(family=family, width=int(width))
model = build(spec, channels=1, classes=5, length=length).eval()
series, starts = torch.randn(16, 1, length), torch.arange(length)[None]
patches = torch.zeros(16, 1, 1, 1).expand(16, length, 1, 1)

def run(windows):
    recorded = IncrementalModel(model, series, method=method, memory_bytes=int(bound_mib) * 2**20)
    recorded.changes(starts[:, :windows], patches[:, :windows])
    # Not getrusage: a child's ru_maxrss begins with the peak of the process that started it.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

some = run(128)  # libraries are loaded, and compiled loops
print((run(length) - some) / 1024)
"""


def _grown_mib(family: str, width: int, method: str, length: int, bound_mib: int) -> float:
    """Return by how much the peak grows from some windows to one at every step."""
    command = [sys.executable, "-c", _SCRIPT, family, str(width), method]
    run = subprocess.run(
        [*command, str(length), str(bound_mib)], capture_output=True, text=True, check=True
    )
    return float(run.stdout)


@pytest.mark.parametrize("length", [192, 640])
@pytest.mark.parametrize(
    ("family", "width", "method"),
    [
        ("fcn", 40, "incremental"),
        ("fcn", 8, "incremental"),  # through the compiled loop
        ("lstm", 32, "incremental"),
        ("lstm", 32, "full"),
        ("fcn", 8, "full"),
    ],
)
def test_memory_is_bounded(family, width, method, length):
    """All copies at once would take hundreds of MiB, or gigabytes."""
    grown = _grown_mib(family, width, method, length, BOUND_MIB)

    assert grown <= PROCESS_MIB


def test_without_a_bound_more_is_held():
    """So the measurement above can see what it must."""
    assert _grown_mib("lstm", 32, "full", 320, 1 << 20) > PROCESS_MIB
