"""The bundle's manifest: read it, and check it and the files it lists.

`schema.json` is the same for other programs. The checks are written by hand,
because a board has no schema library and a person needs a sentence.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from edgedistill import __version__
from edgedistill.errors import DataError, IntegrityError
from edgedistill.io import files

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.sig"  # of the manifest, so it cannot stand in it
FAMILY: Final = "edgedistill.bundle"
VERSION: Final = 1
FORMAT: Final = f"{FAMILY}/{VERSION}"
MAX_BYTES = 16 * 1024**2  # a manifest has a few kilobytes
_SHA256 = re.compile(r"[0-9a-f]{64}")

_Kinds = Mapping[str, type]
_TOP: _Kinds = {
    "format": str,
    "name": str,
    "created": str,
    "class_names": list,
    "preprocessing": dict,
    "plan": dict,
    "contract": dict,
    "chosen": str,
    "models": list,
    "golden": str,
    "provenance": dict,
    "files": dict,
}
_TOP_OPTIONAL: _Kinds = {
    "reference": dict,  # absent where too few series were held out
    "version": int,  # set when it is signed; absent before, and from earlier versions
    "input": dict,  # absent for sounds, and from bundles of earlier versions
}
_REFERENCE: _Kinds = {"file": str, "limits": dict}
_MODEL: _Kinds = {
    "name": str,
    "file": str,
    "runtime": str,
    "precision": str,
    "size_bytes": int,
    "parameters": int,
}
_MODEL_OPTIONAL: _Kinds = {"session": dict}  # absent from a model that was not tuned
_PROVENANCE: _Kinds = {"recipe": dict, "versions": dict, "seeds": dict, "data": str}
_FILE: _Kinds = {"sha256": str, "size_bytes": int}
_JSON_NAMES = {str: "a string", int: "a whole number", list: "an array", dict: "an object"}


def read(path: Path) -> dict[str, Any]:
    """Return a manifest whose parts are there, of the right type, and fit together.

    The preprocessing, the plan and the contract check themselves when they are built.

    Raises:
        IntegrityError: it is no manifest, of another version, or contradicts itself.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise IntegrityError(f"{path} is larger than {MAX_BYTES} bytes, so no manifest.")
        found = files.read_json(path)
    except (DataError, RecursionError) as error:
        raise IntegrityError(f"The manifest cannot be read: {error}") from error
    _check_version(found)
    facts = _object(found, _TOP, "manifest", optional=_TOP_OPTIONAL)
    for index, model in enumerate(facts["models"]):
        _object(model, _MODEL, f"models[{index}]", optional=_MODEL_OPTIONAL)
    for name, entry in facts["files"].items():
        _object(entry, _FILE, f"files[{name!r}]")
        _check_file(name, entry)
    _object(facts["provenance"], _PROVENANCE, "provenance")
    if "reference" in facts:
        _object(facts["reference"], _REFERENCE, "reference")
    if facts.get("version", 1) < 1:
        raise IntegrityError(f"version is {facts['version']}; 1 is the lowest. Sign it again.")
    _check_classes(facts["class_names"])
    _check_models(facts)
    return facts


def set_version(root: Path) -> None:
    """Set the version of an unpacked bundle, if it has none: the time that it was made.

    A later bundle has a higher one, equal bundles have equal ones.

    Raises:
        IntegrityError: the manifest is none, or `created` is no time.

    >>> _version("2026-07-01T12:30:00Z")
    20260701123000
    """
    facts = read(root / MANIFEST)
    if "version" not in facts:
        version = _version(facts["created"])
        files.write_json(root / MANIFEST, {**facts, "version": version})


def _version(created: str) -> int:
    try:
        time = datetime.fromisoformat(created.replace("Z", "+00:00"))  # Python 3.10 knows no Z
    except ValueError as error:
        raise IntegrityError(
            f"created is {created!r}, which is no time in ISO 8601. Make the bundle anew."
        ) from error
    return int(time.strftime("%Y%m%d%H%M%S"))


def check_files(root: Path, path: Path, listed: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a folder that does not hold exactly the listed files beside manifest and signature.

    Args:
        root: the folder.
        path: where it came from, for messages.
        listed: SHA-256 and size of every file, by its path below `root`.

    Raises:
        IntegrityError: a file is missing, not listed, or another.
    """
    found = contents(root, path) - {MANIFEST, SIGNATURE}
    missing, extra = sorted(listed.keys() - found), sorted(found - listed.keys())
    if missing or extra:
        raise IntegrityError(
            f"{path} does not hold what its manifest lists: missing {', '.join(missing) or 'none'}"
            f", unlisted {', '.join(extra) or 'none'}. Copy the bundle again."
        )
    for name, expected in listed.items():
        seen = _fingerprint(root / name)
        if seen != expected:
            raise IntegrityError(
                f"{name} in {path} was changed: it has SHA-256 {seen['sha256'][:12]}… and "
                f"{seen['size_bytes']} bytes, the manifest says {expected['sha256'][:12]}… and "
                f"{expected['size_bytes']}. Copy the bundle again, from where you trust it."
            )


def fingerprints(root: Path) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of every file below a folder, by its path."""
    return {name: _fingerprint(root / name) for name in sorted(contents(root, root))}


def contents(root: Path, path: Path) -> set[str]:
    """Return the relative path of every file below `root`, which came from `path`.

    Raises:
        IntegrityError: there is a link, or anything else that is no plain file.
    """
    found: set[str] = set()
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            member = Path(folder) / name
            mode = member.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise IntegrityError(
                    f"{path} holds {member.relative_to(root)}, which is a link or no plain file. "
                    "A bundle has none; do not trust it."
                )
            if stat.S_ISREG(mode):
                found.add(member.relative_to(root).as_posix())
    return found


def _fingerprint(path: Path) -> dict[str, Any]:
    return {"sha256": files.sha256(path), "size_bytes": path.stat().st_size}


def _check_version(manifest_format: object) -> None:
    seen = manifest_format.get("format") if isinstance(manifest_format, dict) else None
    if seen == FORMAT:
        return
    if isinstance(seen, str) and seen.startswith(f"{FAMILY}/"):
        raise IntegrityError(
            f"The bundle has format {seen}; edgedistill {__version__} reads {FORMAT}. Install the "
            "edgedistill that made it, or make the bundle anew with this one."
        )
    raise IntegrityError(
        f"The manifest's format is {seen!r}, not {FORMAT!r}. This is no bundle of ours."
    )


def _object(
    value: object, kinds: _Kinds, where: str, *, optional: _Kinds = MappingProxyType({})
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise IntegrityError(f"{where} is {value!r}, not an object. Make the bundle anew.")
    known = {**kinds, **optional}
    missing, unknown = sorted(kinds.keys() - value), sorted(value.keys() - known)
    if missing or unknown:
        raise IntegrityError(
            f"{where} lacks {', '.join(missing) or 'nothing'} and has unknown "
            f"{', '.join(unknown) or 'nothing'}. Make the bundle anew."
        )
    for key in value:
        kind = known[key]
        if type(value[key]) is not kind:  # isinstance would take true for a whole number
            raise IntegrityError(
                f"{where}: {key} is {value[key]!r}, not {_JSON_NAMES[kind]}. Make the bundle anew."
            )
    return value


def _check_file(name: str, entry: Mapping[str, Any]) -> None:
    path = PurePosixPath(name)
    strange = "\\" in name or ":" in name or "\0" in name
    if strange or path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise IntegrityError(f"files lists {name!r}, which leaves the bundle. Do not trust it.")
    if not _SHA256.fullmatch(entry["sha256"]) or entry["size_bytes"] < 0:
        raise IntegrityError(
            f"files[{name!r}] has SHA-256 {entry['sha256']!r} and {entry['size_bytes']} bytes; "
            "64 hex digits and a size are needed. Make the bundle anew."
        )


def _check_classes(names: Sequence[object]) -> None:
    texts = {name for name in names if isinstance(name, str)}
    if len(names) < 2 or len(texts) != len(names):
        raise IntegrityError(
            f"class_names is {names}; two or more strings that differ are needed. Make the bundle "
            "anew."
        )


def _check_models(facts: Mapping[str, Any]) -> None:
    names = [model["name"] for model in facts["models"]]
    if facts["chosen"] not in names or len(set(names)) != len(names):
        raise IntegrityError(
            f"models are named {', '.join(names) or 'not at all'} and {facts['chosen']!r} was "
            "chosen; names must differ and hold the chosen one. Make the bundle anew."
        )
    listed = facts["files"]
    for model in facts["models"]:
        if listed.get(model["file"], {}).get("size_bytes") != model["size_bytes"]:
            raise IntegrityError(
                f"models lists {model['file']!r} with {model['size_bytes']} bytes, files does not. "
                "Make the bundle anew."
            )
    named = {"golden": facts["golden"], "reference": facts.get("reference", {}).get("file")}
    for role, file in named.items():
        if file is not None and file not in listed:
            raise IntegrityError(
                f"{role} is {file!r}, which files does not list. Make the bundle anew."
            )
