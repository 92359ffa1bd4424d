"""From files to series: what a file holds and what its columns are, on workstation and board.

NumPy and the standard library only.
"""

from edgedistill import public_name

__all__ = ["ColumnRole", "Role", "schema"]
_HOMES = {
    "schema": ("ColumnRole", "Role"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
