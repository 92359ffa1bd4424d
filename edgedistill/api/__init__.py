"""The Python surface: arrays and objects in, runs and bundles out.

`edgedistill` itself has these names. They write the same recipes, run the same stages and leave
the same folders as the command line.
"""

from edgedistill import public_name

__all__ = [
    "BundleFile",
    "Dataset",
    "Run",
    "Student",
    "Teacher",
    "compress",
    "deploy",
    "distill",
    "load",
    "progress_bars",
    "teacher",
    "train",
]
_HOMES = {
    "bundles": ("BundleFile", "deploy"),
    "datasets": ("Dataset", "load"),
    "display": ("progress_bars",),
    "networks": ("Teacher", "teacher"),
    "runs": ("Run", "Student", "compress", "distill", "train"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
