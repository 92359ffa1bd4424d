"""The classification sets that the installed aeon package brings.

They are found as files, not through aeon's loaders: those would download a name they lack.
"""

from __future__ import annotations

import difflib
from importlib.util import find_spec
from pathlib import Path

from edgedistill.data.ts_files import is_classification
from edgedistill.errors import DataError, MachineError

_TRAIN = "_TRAIN.ts"


def bundled_file(name: str) -> Path:
    """Return the training file of a bundled set; its test file lies beside it.

    Raises:
        DataError: no such set; the message lists what there is.
        MachineError: aeon is not installed.
    """
    files = {p.name.removesuffix(_TRAIN): p for p in _folder().glob(f"*/*{_TRAIN}")}
    if name in files:
        return files[name]
    usable = {n.lower(): n for n, p in sorted(files.items()) if is_classification(p)}
    near = difflib.get_close_matches(name.lower(), usable, n=1)
    hint = f"Did you mean {usable[near[0]]!r}? " if near else ""
    raise DataError(
        f"{name!r} is neither a file, a folder, nor a bundled data set. {hint}"
        f"Bundled are {', '.join(usable.values())}. Check the path or take one of these."
    )


def _folder() -> Path:
    spec = find_spec("aeon")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError(
            "The bundled data sets come with aeon, which is not installed here. "
            "Run: pip install aeon"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
