"""Put a small time-series classifier on the edge that reasons like its teacher, and prove it."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedistill.api.bundles import BundleFile, deploy
    from edgedistill.api.datasets import Dataset, load
    from edgedistill.api.networks import Teacher, teacher
    from edgedistill.api.runs import Run, Student, compress, distill, train
    from edgedistill.evaluation.contract import Contract

__all__ = [
    "BundleFile",
    "Contract",
    "Dataset",
    "Run",
    "Student",
    "Teacher",
    "compress",
    "deploy",
    "distill",
    "load",
    "set_library_defaults",
    "teacher",
    "train",
]
_HOMES = {
    "api.bundles": ("BundleFile", "deploy"),
    "api.datasets": ("Dataset", "load"),
    "api.networks": ("Teacher", "teacher"),
    "api.runs": ("Run", "Student", "compress", "distill", "train"),
    "evaluation.contract": ("Contract",),
}

__version__ = "0.1.0"

LIBRARY_DEFAULTS = {
    # From 1.29 on, ONNX Runtime keeps a device id and sends names and hashes of models to its
    # maker; only this variable, set before it is loaded, stops all of it. 0 allows it.
    "ORT_DISABLE_TELEMETRY": "1",
    # By default threads of OpenMP wait in a loop. Where other work wants the cores too, each
    # parallel step of Numba or torch then waits for a thread that was put aside: training takes
    # several times as long. It must be set before either is loaded.
    "OMP_WAIT_POLICY": "passive",
}


def set_library_defaults() -> None:
    """Set the variables that the libraries below read when they load; what is set already stays.

    Every command does so, and `fit`. A program of your own calls it before its other imports.
    """
    for name, value in LIBRARY_DEFAULTS.items():
        os.environ.setdefault(name, value)


def public_name(room: str, homes: Mapping[str, Sequence[str]], name: str) -> object:
    """Load a public name of a room from its module when it is first used (PEP 562).

    Args:
        room: dotted name of the package.
        homes: modules of the room, each with the public names that it defines.
        name: name that was looked up.

    Raises:
        AttributeError: the room has no such public name.
    """
    for module, names in homes.items():
        if name in names:
            return getattr(import_module(f"{room}.{module}"), name)
    raise AttributeError(f"module {room!r} has no attribute {name!r}")


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
