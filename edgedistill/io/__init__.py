"""Files and archives, written whole or not at all; printable text; what boards tell. NumPy only."""

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
    "brief_printable",
    "echo",
    "files",
    "fingerprint",
    "ignore_progress",
    "npz",
    "power_mode",
    "printable",
    "printable_lines",
    "read_json",
    "read_npy",
    "read_npz",
    "read_text",
    "sha256",
    "tool_output",
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
    "terminal": ("brief_printable", "echo", "printable", "printable_lines"),
    "vendor_tools": ("power_mode", "read_text", "tool_output"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
