"""Commands that install packages on a board, for its system and its Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from packaging.specifiers import SpecifierSet

from edgedistill.targets import EMULATED, SystemRelease, Target

_DEBIAN: Final = {"tensorrt": ("tensorrt", "python3-libnvinfer")}  # of JetPack's own index
_WITH_TENSORRT: Final = "x86_64"  # the only machine that PyPI has wheels of it for


def system(*packages: str) -> tuple[str, ...]:
    """Return the commands that install packages of the distribution, Debian or Ubuntu."""
    return (f"sudo apt-get update && sudo apt-get install --yes {' '.join(packages)}",)


def package(facts: Mapping[str, Any], target: Target, name: str, bounds: str) -> tuple[str, ...]:
    """Return the commands that install a package for the board's Python; none if there is none.

    Args:
        facts: facts of the board.
        target: target of the board, with pinned versions where the newest one does not fit.
        name: name of the package at PyPI, or in JetPack.
        bounds: bounds of its version.
    """
    if name in _DEBIAN and target.releases:
        return system(*_DEBIAN[name])
    if name in _DEBIAN and facts["machine"] != _WITH_TENSORRT:
        return ()
    exact = _pinned(facts, target, name)
    if exact is not None and exact in SpecifierSet(bounds):
        return _pip(facts, f"{name}=={exact}")
    return _pip(facts, f"{name}{bounds}")


def advice(facts: Mapping[str, Any], name: str, release: SystemRelease | None) -> str:
    """Return advice in words about a missing package."""
    if name == "tensorrt" and release is not None:
        return (
            f"JetPack {release.version} brings its bindings for Python {release.python} alone: "
            "deploy with that one."
        )
    if name == "tensorrt" and facts["machine"] != _WITH_TENSORRT:
        return (
            f"PyPI has no TensorRT for {facts['machine']}, JetPack alone has: elsewhere take a "
            "model for ONNX Runtime."
        )
    if facts["python"]["managed"] and name not in _DEBIAN:
        return f"Then deploy with --python {_environment(facts)}/bin/python."
    return ""


def _pinned(facts: Mapping[str, Any], target: Target, name: str) -> str | None:
    releases = target.install.get(name, {})
    python = ".".join(facts["python"]["version"].split(".")[:2])
    return releases.get(python) or (releases.get(EMULATED) if facts["emulated"] else None)


def _pip(facts: Mapping[str, Any], requirement: str) -> tuple[str, ...]:
    """Return the commands for a requirement; a Python of the system gets an environment."""
    python = facts["python"]
    wanted = shlex.quote(requirement)
    if python["managed"]:
        place = _environment(facts)
        first = () if python["venv"] else system("python3-venv")
        return (
            *first,
            # --system-site-packages: TensorRT's bindings are the distribution's
            f"{shlex.quote(python['executable'])} -m venv --system-site-packages {place}",
            f"{place}/bin/python -m pip install {wanted}",
        )
    first = () if python["pip"] else system("python3-pip")
    return (*first, f"{shlex.quote(python['executable'])} -m pip install {wanted}")


def _environment(facts: Mapping[str, Any]) -> str:
    return shlex.quote(f"{facts['disk']['folder']}/venv")
