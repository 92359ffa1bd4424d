"""Files and archives that are written whole or not at all. NumPy only."""

from edgedistill import public_name

__all__ = [
    "AnyArray",
    "AnyFloats",
    "AnyInts",
    "Bools",
    "Doubles",
    "Floats",
    "Ints",
    "ProgressCallback",
    "archives",
    "files",
    "fingerprint",
    "ignore_progress",
    "npz",
    "read_json",
    "read_npy",
    "read_npz",
    "sha256",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]
_HOMES = {
    "arrays": ("AnyArray", "AnyFloats", "AnyInts", "Bools", "Doubles", "Floats", "Ints"),
    "files": (
        "fingerprint",
        "read_json",
        "sha256",
        "whole_file",
        "whole_folder",
        "write_json",
        "write_text",
    ),
    "npz": ("read_npy", "read_npz"),
    "progress": ("ProgressCallback", "ignore_progress"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
