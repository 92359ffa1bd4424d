"""Checks of a board's facts against its target, a finding each: hardware and software."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from edgedistill.deployment.doctor import install_commands as installing
from edgedistill.targets import SystemRelease, Target

Facts = Mapping[str, Any]  # output of `doctor --json` of the device side
Outcome = Literal["ok", "warn", "missing"]
_CLOCK_S: Final = 300  # by which a board's clock may differ: signatures and logs get confused
_GPU_GROUPS: Final = ("video", "render")  # whose members may use a Jetson's GPU
_SHOWN: Final = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "numpy": "NumPy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that deployment depends on."""

    what: str
    outcome: Outcome  # missing: deployment fails without it
    seen: str
    needed: str = ""
    commands: tuple[str, ...] = ()  # to type on the board
    advice: str = ""  # in words, where no command does it


def version(text: str) -> Version | None:
    """Parse a version that a board reports; None if it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def hardware_findings(facts: Facts, target: Target) -> Iterator[Finding]:
    """Yield the findings of the board's hardware."""
    yield _machine(facts, target)
    yield _memory(facts, target)
    yield _disk(facts, target)
    yield from _gpu(facts, target)
    yield from _power(facts, target)


def software_findings(
    facts: Facts,
    target: Target,
    release: SystemRelease | None,
    *,
    runtime: str | None,
    signed: bool,
    now_s: float,
) -> Iterator[Finding]:
    """Yield the findings of the board's software.

    Args:
        facts: facts of the board.
        target: target of the board.
        release: release of the vendor's system on the board, where that is known.
        runtime: required runtime; None: one of the target's is enough.
        signed: whether bundles are signed.
        now_s: present time, in seconds since 1970.
    """
    yield _python(facts, target)
    yield _package(facts, target, "numpy", target.requires.numpy)
    yield from _runtimes(facts, target, release, runtime)
    yield from _system(facts, target, release)
    yield _ssh_keygen(facts, signed)
    yield _clock(facts, now_s)


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
    """Yield the finding of the GPU, where the target has one."""
    wanted, gpu = target.hardware.compute_capability, facts["gpu"]
    if wanted is None:
        return
    if gpu is None:
        outside = [name for name in _GPU_GROUPS if name not in facts["groups"]]
        join = f"sudo usermod -aG {','.join(outside)} $USER"
        yield Finding(
            what="GPU",
            outcome="warn",
            seen=facts["gpu_error"],
            needed=f"compute capability {wanted}",
            commands=(join,) if outside else (),
            advice=f"{'Log in again afterwards. ' if outside else ''}ONNX Runtime's CPU needs no "
            "GPU.",
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
            outcome="warn",  # the deployment checks the bundle's own need
            seen=seen,
            needed=needed,
            commands=(look,),
            advice=advice,
        )
    return Finding(what="disk", outcome="ok", seen=seen, needed=needed)


def _power(facts: Facts, target: Target) -> Iterator[Finding]:
    """Yield power mode and clocks, which decide how fast the board is: a person's choice."""
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
    clocks = [f"CPU governor {facts['governor']}"] if facts["governor"] else []
    if facts["gpu_clock_mhz"] is not None:
        low, high = facts["gpu_clock_mhz"]
        locked = f"locked at {high:g} MHz (jetson_clocks)"
        free = f"{low:g} to {high:g} MHz, free; sudo jetson_clocks locks it for measuring"
        clocks.append(f"GPU {locked if low == high else free}")
    if clocks:
        yield Finding(what="clocks", outcome="ok", seen="; ".join(clocks))


def _python(facts: Facts, target: Target) -> Finding:
    python, bounds = facts["python"], target.requires.python
    fits = SpecifierSet(bounds, prereleases=True).contains(python["version"])
    return Finding(
        what="Python",
        outcome="ok" if fits else "missing",
        seen=f"{python['version']}, {python['executable']}",
        needed=bounds,
        advice="" if fits else "Install a newer Python there and name it with --python.",
    )


def _runtimes(
    facts: Facts, target: Target, release: SystemRelease | None, runtime: str | None
) -> Iterator[Finding]:
    """Yield a finding for each runtime: a warning only where another runtime can replace it."""
    bounds = {
        "onnxruntime": target.requires.onnxruntime,
        "tensorrt": target.requires.tensorrt or ">=10.3",
    }
    names = target.requires.runtimes if runtime is None else (runtime,)
    found = [_package(facts, target, name, bounds[name], release) for name in names]
    enough = any(each.outcome == "ok" for each in found)
    for each in found:
        spare = each.outcome == "missing" and enough
        needed = f"{each.needed}, but another runtime is there"
        yield replace(each, outcome="warn", needed=needed) if spare else each


def _package(
    facts: Facts, target: Target, name: str, bounds: str, release: SystemRelease | None = None
) -> Finding:
    """Return the finding of a package: present, working, and of a supported version."""
    found, shown = facts["packages"][name], _SHOWN.get(name, name)
    there = version(found["version"] or "")
    fits = there is not None and SpecifierSet(bounds, prereleases=True).contains(there)
    if found["works"] and fits:
        return Finding(what=shown, outcome="ok", seen=found["version"], needed=bounds)
    seen = ", ".join(filter(None, (found["version"] or "none", found["error"])))
    if fits and name == "tensorrt" and facts["gpu"] is None:
        advice = "TensorRT is there and needs the GPU: mend that first."
        return Finding(what=shown, outcome="missing", seen=seen, needed=bounds, advice=advice)
    return Finding(
        what=shown,
        outcome="missing",
        seen=seen,
        needed=bounds,
        commands=installing.package(facts, target, name, bounds),
        advice=installing.advice(facts, name, release),
    )


def _system(facts: Facts, target: Target, release: SystemRelease | None) -> Iterator[Finding]:
    """Yield the finding of the vendor's system, where the target has one."""
    if not target.releases:
        return
    newest, seen = target.releases[-1], facts["jetson_linux"]
    known = f"JetPack {target.releases[0].version} to {newest.version}"
    if release is None:
        yield Finding(
            what="JetPack",
            outcome="warn",
            seen=f"Jetson Linux {seen}" if seen else "no /etc/nv_tegra_release",
            needed=known,
            advice=f"Bring the board to JetPack {newest.version} with NVIDIA's SDK Manager. In a "
            "container, start one that NVIDIA's runtime serves.",
        )
        return
    exact = version(seen) == Version(release.linux)
    text = f"{release.version}{'' if exact else ' or newer'} (Jetson Linux {seen})"
    brings = f"{text}: TensorRT {release.tensorrt}, CUDA {release.cuda}, Python {release.python}"
    if target.hardware.dla_cores and not release.dla:
        brings = f"{brings}; its TensorRT has no DLA"
    yield Finding(what="JetPack", outcome="ok", seen=brings, needed=known)


def _ssh_keygen(facts: Facts, signed: bool) -> Finding:
    if facts["ssh_keygen"]:
        return Finding(what="ssh-keygen", outcome="ok", seen=facts["ssh_keygen"])
    return Finding(
        what="ssh-keygen",
        outcome="missing" if signed else "warn",
        seen="none",
        needed="to verify signatures of bundles",
        commands=installing.system("openssh-client"),
        advice="Unsigned bundles do not need it.",
    )


def _clock(facts: Facts, now_s: float) -> Finding:
    seconds, kept = facts["clock"]["seconds"], facts["clock"]["synchronized"]
    off = seconds - now_s
    seen = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    if abs(off) <= _CLOCK_S and kept is not False:
        return Finding(what="clock", outcome="ok", seen=seen)
    if abs(off) > _CLOCK_S:
        seen = f"{seen}, {abs(off):.0f} s {'fast' if off > 0 else 'slow'}"
    return Finding(
        what="clock",
        outcome="warn",
        seen=seen if kept is not False else f"{seen}, nothing keeps it right",
        needed=f"right within {_CLOCK_S} s, and kept so",
        commands=("sudo timedatectl set-ntp true",),
    )
