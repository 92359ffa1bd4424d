"""Is the board of its family, and is there enough of it?"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from packaging.version import Version

from edgedistill.deployment.doctor.finding import Facts, Finding, Outcome, version
from edgedistill.targets import Target


def findings(facts: Facts, target: Target) -> Iterator[Finding]:
    """Yield what is to say of the board itself."""
    yield _machine(facts, target)
    yield _memory(facts, target)
    yield _disk(facts, target)
    yield from _gpu(facts, target)
    yield from _power(facts, target)


def _machine(facts: Facts, target: Target) -> Finding:
    seen = " ".join(
        text for text in (facts["machine"], facts["board"], facts["distribution"]) if text
    )
    needed = f"{target.board.machine}, glibc {target.limits.glibc} or newer"
    glibc = version(facts["glibc"])
    if facts["machine"] != target.board.machine:
        advice = f"{target.name} is another family. Leave --target out, or name the board's own."
        return Finding(what="machine", outcome="missing", seen=seen, needed=needed, advice=advice)
    if glibc is None or glibc < Version(target.limits.glibc):
        seen = f"{seen}, glibc {facts['glibc'] or 'absent'}"
        advice = "Wheels need a newer GNU C library, so a newer distribution."
        return Finding(what="machine", outcome="missing", seen=seen, needed=needed, advice=advice)
    if facts["emulated"]:
        advice = "What is measured there says nothing about speed."
        seen = f"{seen}, emulated"
        return Finding(what="machine", outcome="warn", seen=seen, needed=needed, advice=advice)
    return Finding(what="machine", outcome="ok", seen=f"{seen}, glibc {facts['glibc']}")


def _gpu(facts: Facts, target: Target) -> Iterator[Finding]:
    """Yield what is to say of the GPU, where the family has one."""
    wanted, gpu = target.hardware.compute_capability, facts["gpu"]
    if wanted is None:
        return
    if gpu is None:
        yield Finding(
            what="GPU",
            outcome="warn",
            seen="CUDA does not answer",
            needed=f"compute capability {wanted}",
            commands=("sudo usermod -aG video,render $USER",),
            advice="Log in again afterwards. ONNX Runtime's CPU needs no GPU.",
        )
        return
    seen = f"{gpu['name']}, compute capability {gpu['compute_capability']}, CUDA {gpu['cuda']}"
    fits = gpu["compute_capability"] == wanted
    advice = "" if fits else "Name the board's own family with --target."
    outcome: Outcome = "ok" if fits else "warn"
    needed = f"compute capability {wanted}"
    yield Finding(what="GPU", outcome=outcome, seen=seen, needed=needed, advice=advice)


def _memory(facts: Facts, target: Target) -> Finding:
    total, limit = facts["memory_mib"]["total"], facts["cgroup"]["memory_mib"]
    sizes = [size for size in (total, limit) if size is not None]
    seen = f"{min(sizes)} MiB" if sizes else "unknown"
    if limit is not None and limit == min(sizes):
        seen = f"{seen}, the container's limit"
    enough = not sizes or min(sizes) >= target.limits.memory_mib
    return Finding(
        what="memory",
        outcome="ok" if enough else "warn",
        seen=seen,
        needed=f"{target.limits.memory_mib} MiB",
        advice="" if enough else "Take a smaller student, or give the board more.",
    )


def _disk(facts: Facts, target: Target) -> Finding:
    disk, needed = facts["disk"], f"{target.limits.disk_mib} MiB free, writable"
    folder = shlex.quote(disk["folder"])
    seen = f"{disk['free_mib']} MiB free at {disk['folder']}"
    if not disk["writable"]:
        make = f"sudo mkdir -p {folder} && sudo chown $USER {folder}"
        seen = f"{seen}, not writable"
        return Finding(what="disk", outcome="missing", seen=seen, needed=needed, commands=(make,))
    if disk["free_mib"] < target.limits.disk_mib:
        look = f"du -xh --max-depth=1 {folder} | sort -h"
        advice = "Free some space; `edgedistill-device releases prune --keep 2` drops old releases."
        return Finding(
            what="disk",
            outcome="warn",  # what a bundle really takes, deployment knows
            seen=seen,
            needed=needed,
            commands=(look,),
            advice=advice,
        )
    return Finding(what="disk", outcome="ok", seen=seen, needed=needed)


def _power(facts: Facts, target: Target) -> Iterator[Finding]:
    """Yield the power mode, which decides how fast the board is and is a person's choice."""
    modes = facts["power_modes"] or target.hardware.power_modes
    if facts["power_mode"]:
        seen = f"{facts['power_mode']}; there are {', '.join(modes)}"
        yield Finding(what="power mode", outcome="ok", seen=seen)
    elif target.hardware.power_modes:
        needed = f"one of {', '.join(modes)}"
        ask = ("sudo nvpmodel -q",)
        yield Finding(
            what="power mode", outcome="warn", seen="unknown", needed=needed, commands=ask
        )
