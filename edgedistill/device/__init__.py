"""What runs on the board: validate a bundle and time its model, on NumPy and a runtime alone."""

from edgedistill import public_name

__all__ = [
    "ALLOWED_SIGNERS",
    "COMMANDS",
    "DIGEST_SUFFIX",
    "PROGRAM",
    "REPORT",
    "Latency",
    "Predictor",
    "Runtime",
    "Sensors",
    "TelemetrySampler",
    "Validation",
    "benchmark",
    "cores",
    "describe_holder",
    "doctor",
    "environment",
    "int8_arithmetic",
    "is_exact",
    "measure",
    "measure_interleaved",
    "quantile",
    "series_items",
    "start",
    "tune",
    "validate",
]
_HOMES = {
    "benchmark": ("Latency", "measure", "measure_interleaved", "quantile"),
    "cli": ("COMMANDS",),
    "predict.predictor": ("Predictor",),
    "predict.readers": ("series_items",),
    "releases.layout": ("ALLOWED_SIGNERS", "DIGEST_SUFFIX", "PROGRAM", "REPORT"),
    "releases.lock": ("describe_holder",),
    "runtime": ("Runtime", "int8_arithmetic", "is_exact", "start"),
    "sensors": ("Sensors",),
    "telemetry": ("cores", "environment"),
    "telemetry_sampler": ("TelemetrySampler",),
    "tuning": ("tune",),
    "validate": ("Validation", "validate"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
