"""Put a small time-series classifier on the edge that reasons like its teacher, and prove it."""

import os

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime keeps a device id and sends names and hashes of models to its maker;
# only this variable, set before it is loaded, stops all of it. Set it to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# By default threads of OpenMP wait in a loop. Where other work wants the cores too, each parallel
# step of Numba or torch then waits for a thread that was put aside: training takes several times as
# long. It must be set before either is loaded; what is set already stays.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
