"""Put a small time-series classifier on the edge that reasons like its teacher, and prove it."""

import os

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
