"""Is what a board must have installed there, and of a version that fits?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from edgedistill.deployment.doctor import install_commands as installing
from edgedistill.deployment.doctor.finding import Facts, Finding, version
from edgedistill.targets import SystemRelease, Target

_CLOCK_S: Final = 300  # by which a board's clock may differ: signatures and logs get confused
_SHOWN: Final = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT", "numpy": "NumPy"}


def findings(
    facts: Facts,
    target: Target,
    release: SystemRelease | None,
    *,
    runtime: str | None,
    signed: bool,
    now_s: float,
) -> Iterator[Finding]:
    """Yield what is to say of the board's software.

    Args:
        facts: what the board tells.
        target: its family.
        release: the release of the vendor's system that it has, where that is known.
        runtime: the one that must be there; None: one of the family's is enough.
        signed: whether bundles come signed.
        now_s: the time, in seconds since 1970.
    """
    yield _python(facts, target)
    yield _package(facts, target, "numpy", target.requires.numpy)
    yield from _runtimes(facts, target, release, runtime)
    yield from _system(facts, target, release)
    yield _ssh_keygen(facts, signed)
    yield _clock(facts, now_s)


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
    """Yield a finding for each runtime; where another stands in for it, it is only a warning."""
    names = target.requires.runtimes if runtime is None else (runtime,)
    found = [tuple(_runtime(facts, target, release, name)) for name in names]
    enough = any(all(each.outcome == "ok" for each in parts) for parts in found)
    for each in chain.from_iterable(found):
        spare = each.outcome == "missing" and enough
        needed = f"{each.needed}, but another runtime is there"
        yield replace(each, outcome="warn", needed=needed) if spare else each


def _runtime(
    facts: Facts, target: Target, release: SystemRelease | None, name: str
) -> Iterator[Finding]:
    if name == "onnxruntime":
        yield _package(facts, target, name, target.requires.onnxruntime)
        return
    bounds = target.requires.tensorrt or ">=10.3"
    yield _package(facts, target, "tensorrt", bounds, release)
    cuda = release.cuda_bindings if release else ">=12.8"
    yield _package(facts, target, "cuda-bindings", cuda, release)


def _package(
    facts: Facts, target: Target, name: str, bounds: str, release: SystemRelease | None = None
) -> Finding:
    """Return whether a package is there, works, and is of a version that is known to do."""
    found, shown = facts["packages"][name], _SHOWN.get(name, name)
    there = version(found["version"] or "")
    fits = there is not None and SpecifierSet(bounds, prereleases=True).contains(there)
    if found["works"] and fits:
        return Finding(what=shown, outcome="ok", seen=found["version"], needed=bounds)
    seen = ", ".join(filter(None, (found["version"] or "none", found["error"])))
    return Finding(
        what=shown,
        outcome="missing",
        seen=seen,
        needed=bounds,
        commands=installing.package(facts, target, name, bounds),
        advice=installing.advice(facts, name, release),
    )


def _system(facts: Facts, target: Target, release: SystemRelease | None) -> Iterator[Finding]:
    """Yield what is to say of the vendor's system, where the family has one."""
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
