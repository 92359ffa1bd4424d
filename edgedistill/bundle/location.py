"""Location of a bundle: the path itself, or the bundle in the folder of a run.

A person names the folder of a run wherever a bundle is read, also on a board. Only the bundle in it
is used. NumPy only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from edgedistill.bundle.manifest import MANIFEST, MAX_BYTES
from edgedistill.errors import ContractError, DataError, UsageError
from edgedistill.io import files

RECIPE: Final = "recipe.yaml"  # of a run
RESULT: Final = "result"  # folder of a run with report and bundle
BUNDLE, SIGNED, REPORT_JSON = "bundle.zip", "signed.zip", "report.json"


def locate(path: Path) -> Path:
    """Return the path of a bundle: `path`, or, if it is the folder of a run, the bundle in it.

    The folder that `bundle` wrote counts as a run. The signed copy is taken if it has the same
    contents.

    Raises:
        ContractError: the run has no bundle, because its contract is broken.
        UsageError: the run has no bundle, because it is not complete.
    """
    result = path / RESULT if (path / RECIPE).is_file() or (path / RESULT).is_dir() else path
    is_run = result != path or (result / REPORT_JSON).is_file() or (result / BUNDLE).is_file()
    if not is_run or (path / MANIFEST).is_file():
        return path
    bundle, signed = result / BUNDLE, path / SIGNED
    if not bundle.is_file():
        raise _no_bundle(path, result)
    contents = _contents(signed) if signed.is_file() else None
    if contents is not None and contents == _contents(bundle):
        return signed
    return bundle


def _no_bundle(path: Path, result: Path) -> UsageError | ContractError:
    """Return the error of a run without a bundle, with the reasons that its report has."""
    try:
        report = files.read_json(result / REPORT_JSON)
        is_broken, (reason, *others) = report["verdict"] == "broken", report["reasons"]
    except (DataError, TypeError, KeyError, ValueError):
        is_broken = False
    if is_broken:
        return ContractError(
            f"{path} has no bundle, because its contract is broken. {reason} For "
            f"{f'{len(others)} more reasons and ' if others else ''}what would help: edgedistill "
            f"report {path}"
        )
    return UsageError(
        f"{path} is a run without a bundle: it is not complete. Go on with: edgedistill compress "
        f"{path / RECIPE} --out {path}"
    )


def _contents(path: Path) -> dict[str, Any] | None:
    """Return the manifest in a zip, without the version that signing sets; None if damaged."""
    import zipfile  # a board opens folders, and starts faster without it

    from edgedistill.io import archives

    try:
        with zipfile.ZipFile(path) as archive, archive.open(MANIFEST) as stream:
            facts = json.loads(stream.read(MAX_BYTES))
    except (*archives.DAMAGE, OSError, KeyError, ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    return {name: facts[name] for name in facts if name != "version"}
