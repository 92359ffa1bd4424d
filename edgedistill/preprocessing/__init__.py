"""Preprocessing of series, the same on workstation and board. NumPy only."""

from edgedistill import public_name

__all__ = [
    "Features",
    "Normalization",
    "Preprocessing",
    "Sizing",
    "check_series",
    "fit",
    "transforms",
]
_HOMES = {
    "transforms": ("Features", "Normalization", "Preprocessing", "Sizing", "check_series", "fit"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
