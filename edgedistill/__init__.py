"""Put a small time-series classifier on the edge that reasons like its big teacher, and prove it."""

__version__ = "0.1.0"
