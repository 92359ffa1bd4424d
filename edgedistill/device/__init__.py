"""What runs on the board: validate a bundle and time its model, on NumPy and a runtime alone."""

from edgedistill import public_name

__all__ = [
    "COMMANDS",
    "PROGRAM",
    "REPORT",
    "Latency",
    "Runtime",
    "Sensors",
    "TelemetrySampler",
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
    "start",
    "tune",
    "validate",
]
_HOMES = {
    "benchmark": ("Latency", "measure", "measure_interleaved", "quantile"),
    "cli": ("COMMANDS",),
    "releases.layout": ("PROGRAM", "REPORT"),
    "releases.lock": ("describe_holder",),
    "runtime": ("Runtime", "int8_arithmetic", "is_exact", "start"),
    "sensors": ("Sensors",),
    "telemetry": ("cores", "environment"),
    "telemetry_sampler": ("TelemetrySampler",),
    "tuning": ("tune",),
    "validate": ("validate",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
