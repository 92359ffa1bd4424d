"""Facts to JSON and back, strictly: no guesses, no dropped keys.

The board checks reports without a schema library, so the types of the facts
are the schema here; `schema.json` is the same schema for other programs.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from importlib import resources
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from edgedistill.errors import DataError, IntegrityError
from edgedistill.report.facts import FORMAT, Report

_KEYS = {"passed": "pass"}  # a Python keyword cannot name a field
_ALWAYS = frozenset({"format", "chosen"})  # written whatever they hold; `chosen: null` means none


def schema() -> dict[str, Any]:
    """Load the JSON Schema (draft 2020-12) of `report.json`."""
    text = resources.files("edgedistill.report").joinpath("schema.json").read_text("utf-8")
    return cast("dict[str, Any]", json.loads(text))


def to_json(report: Report) -> dict[str, Any]:
    """Encode a report as JSON values; parts that were not measured are left out.

    Raises:
        DataError: a number is NaN or infinite, or a value is none that JSON has.
    """
    return {
        f.name: _encode(getattr(report, f.name), f"report.{f.name}")
        for f in fields(report)
        if f.name in _ALWAYS or getattr(report, f.name) != f.default
    }


def from_json(values: Mapping[str, Any]) -> Report:
    """Decode a report that `to_json` encoded.

    Raises:
        IntegrityError: another version of the format.
        DataError: a key is missing, unknown, or holds a value of another type.
    """
    if not isinstance(values, Mapping):
        raise DataError(f"report: expected an object, got {_brief(values)}. Make the report anew.")
    version = values.get("format")
    if version != FORMAT:
        raise IntegrityError(
            f"The report's format is {version!r}; this version reads {FORMAT!r}. Read it with the "
            "version of edgedistill that wrote it, or make it anew."
        )
    try:
        return cast(Report, _decode(values, Report, "report"))
    except RecursionError as error:
        raise DataError(f"report: {error}. Make the report anew.") from error


def _encode(value: Any, where: str) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Report):
        return to_json(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {
            _KEYS.get(f.name, f.name): _encode(getattr(value, f.name), f"{where}.{f.name}")
            for f in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _encode(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"{where} is {value}; a report holds finite numbers only. "
            "Use None for what was not measured."
        )
    if value is None or isinstance(value, str | int | float):
        return value
    raise DataError(f"{where} is a {type(value).__name__}, which JSON does not have. Convert it.")


def _decode(value: Any, kind: Any, where: str) -> Any:
    """Decode a value as one of the types that facts consist of."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _decode(value, next(k for k in inner if k is not type(None)), where)
    if origin is Literal:
        if value not in inner:
            raise _unexpected(where, " or ".join(repr(i) for i in inner), value)
        return value
    if origin in (list, tuple):
        if not isinstance(value, list):
            raise _unexpected(where, "a list", value)
        return origin(_decode(item, inner[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise _unexpected(where, "an object", value)
        if origin is dict:
            return {key: _decode(item, inner[1], f"{where}.{key}") for key, item in value.items()}
        return _decode_record(value, kind, where)
    return _decode_plain(value, kind, where)


def _decode_record(values: Mapping[str, Any], kind: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    keys = {_KEYS.get(name, name): name for name in (f.name for f in fields(kind))}
    unknown = sorted(set(values) - set(keys))
    if unknown:
        raise DataError(
            f"{where} has a key {unknown[0]!r} that is none of {', '.join(keys)}. Remove it."
        )
    missing = [k for k, name in keys.items() if k not in values and name in _required(kind)]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}. Make the report anew.")
    return kind(
        **{
            name: _decode(values[key], hints[name], f"{where}.{key}")
            for key, name in keys.items()
            if key in values
        }
    )


def _required(kind: Any) -> set[str]:
    return {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}


def _decode_plain(value: Any, kind: type, where: str) -> Any:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        names = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
        raise _unexpected(where, names[kind], value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _unexpected(where, "a finite number", value)
    return value


def _unexpected(where: str, expected: str, value: Any) -> DataError:
    return DataError(f"{where}: expected {expected}, got {_brief(value)}. Make the report anew.")


def _brief(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
