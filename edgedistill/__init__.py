"""Put a small time-series classifier on the edge that reasons like its teacher, and prove it."""

import os

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime keeps a device id and sends names and hashes of models to its maker;
# only this variable, set before it is loaded, stops all of it. Set it to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
