"""What of a command's output is frozen, and how it is held against what a command says now.

What depends on the machine, the day or the last bits of floats becomes a placeholder of its
type, so that its key stays frozen; every other value is compared, floats within a tolerance.

Training amplifies what CPUs round differently: Adam makes whole steps of gradients that are only
rounding. What a fresh training led to is compared as closely as everything else where it was
frozen, and coarsely on a machine of another kind.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

RELATIVE, ABSOLUTE = 1e-2, 2e-3  # of floats, which CPUs round differently
SIZES = 0.05  # relative, of sizes in bytes, which versions of libraries change
COARSE = 0.05  # absolute, of statistics of ranks and signs, which jump where two values are near
TRAINED = 0.15  # relative and absolute, of what was trained on a machine of another kind

_MACHINE = re.compile(
    r"latency|_ms$|seconds|per_s$|_mib$|cold|free_bytes|best_batch|^telemetry$|^cpu$|^cores$"
    r"|^created$|^installed$|^producer$|^instructions$|^timed$"
)
_VERSIONS = {"environment", "versions"}  # values are the machine's; packages may lack
_ALWAYS = {"edgedistill", "python", "numpy", "onnxruntime", "system", "machine", "torch", "onnx"}
_COARSE = re.compile(r"spearman|topk|top_sign|p10|ece|auc|unseen")
_CHOSEN = re.compile(r"/(examples|history|curves|ceiling)/|ceiling_|_p$|mean_ranks|/(wins|losses)$")
_STRINGS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?Z?"), "<date>"),
    (re.compile(r"events\.out\.tfevents\.[\w.-]+"), "<events>"),
    (re.compile(r"\b[0-9a-f]{12,}-[0-9a-f]{6}\b"), "<hash>-<manner>"),  # of a second release
    (re.compile(r"(?<!\d\.)\b[0-9a-f]{12,}\b"), "<hash>"),  # a fraction is none
    (re.compile(r"\b\d+\.\d+\.\d+([.+-]\w+)*"), "<version>"),
    (re.compile(r"\b(faster|slower) than the teacher"), "<speed> than the teacher"),
    (re.compile(r"speed on [^,]+, with [^.]+\."), "speed on <instructions>."),
    (re.compile(r"Bundled are [\w, ]+\."), "Bundled are <sets>."),  # of this version of aeon
    # What click says itself, in the words of this version.
    (re.compile(r"Try '(.+) -h' for help"), r"Try '\1 --help' for help"),
    (re.compile(r"(No such (?:command|option)):? '?([\w-]+).*"), r"\1 \2"),
)
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?%?")
_TIME = re.compile(r"(?<=# )(ms|µs|s)\b")
_RULES = re.compile(r"[─-]{4,}")
_PROGRESS = "━"
_VERSION_TIMES = range(2000_00_00_00_00_00, 3000_00_00_00_00_00)  # of bundles that were signed


def normalize(value: Any, replaced: dict[str, str], key: str = "", machine: bool = False) -> Any:
    """Return a JSON value with placeholders; `replaced` are strings of this machine."""
    machine = machine or bool(_MACHINE.search(key))
    if isinstance(value, dict):
        if key in _VERSIONS:
            return {name: f"<{key}>" for name in value if name in _ALWAYS}
        return {
            normalize(name, replaced): normalize(each, replaced, name, machine)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [normalize(each, replaced, "", machine) for each in value]
    if isinstance(value, str):
        for seen, placeholder in replaced.items():
            value = value.replace(seen, placeholder)
        for pattern, placeholder in _STRINGS:
            value = pattern.sub(placeholder, value)
        return f"<{key}>" if machine else value
    if isinstance(value, int) and value in _VERSION_TIMES:
        return "<date>"
    if machine and isinstance(value, int | float) and not isinstance(value, bool):
        return "<number>"
    return value


def words(text: str, replaced: dict[str, str]) -> list[str]:
    """Return the lines of a text without numbers, units of time, rules and widths."""
    found = []
    for line in normalize(text, replaced).splitlines():
        plain = _TIME.sub("<time>", _NUMBER.sub("#", _RULES.sub("", line)))
        if plain.strip() and _PROGRESS not in line:
            found.append(" ".join(plain.split()))
    return found


def differences(frozen: Any, now: Any, path: str = "", *, elsewhere: bool = False) -> Iterator[str]:
    """Yield a line for each place where a value differs from the frozen one.

    Args:
        frozen: value that was kept.
        now: value of today.
        path: of keys down to it.
        elsewhere: whether it was trained on a machine of another kind.
    """
    if isinstance(frozen, dict) and isinstance(now, dict):
        for key in sorted(frozen.keys() | now.keys()):
            inner = f"{path}/{key}"
            if key not in now:
                yield f"{inner}: is gone"
            elif key not in frozen:
                yield f"{inner}: is new"
            else:
                yield from differences(frozen[key], now[key], inner, elsewhere=elsewhere)
        if list(frozen) != list(now) and frozen.keys() == now.keys():
            yield f"{path}: keys are in another order"
    elif isinstance(frozen, list) and isinstance(now, list):
        if len(frozen) != len(now):
            yield f"{path}: has {len(now)} items, not {len(frozen)}: {now} instead of {frozen}"
            return
        for index, (one, other) in enumerate(zip(frozen, now, strict=True)):
            yield from differences(one, other, f"{path}/{index}", elsewhere=elsewhere)
    elif type(frozen) is not type(now) or not _equal(frozen, now, path, elsewhere):
        yield f"{path}: is {now!r}, not {frozen!r}"


def _equal(frozen: Any, now: Any, path: str, elsewhere: bool) -> bool:
    """Say whether two values of one type are equal as far as that can be asked."""
    if elsewhere and _CHOSEN.search(path):
        return True
    if not isinstance(frozen, int | float) or isinstance(frozen, bool):
        return bool(frozen == now)
    if path.endswith("bytes"):
        return math.isclose(frozen, now, rel_tol=SIZES)
    if isinstance(frozen, float):
        absolute = COARSE if _COARSE.search(path) else ABSOLUTE
        return math.isclose(
            frozen,
            now,
            rel_tol=TRAINED if elsewhere else RELATIVE,
            abs_tol=TRAINED if elsewhere else absolute,
        )
    return bool(frozen == now)


def plain_schema(schema: dict[str, Any]) -> Any:
    """Return a JSON schema without names of classes and prose: what it takes, and by default."""
    definitions = schema.get("$defs", {})

    def inline(value: Any, inside: str) -> Any:
        if isinstance(value, list):
            return [inline(each, "") for each in value]
        if not isinstance(value, dict):
            # A limit of 1 is written as 1.0 by some versions of pydantic.
            return int(value) if isinstance(value, float) and value.is_integer() else value
        if "$ref" in value:
            others = {key: each for key, each in value.items() if key != "$ref"}
            value = {**definitions[value["$ref"].rpartition("/")[2]], **others}
        if inside == "mapping":  # of a discriminator, to names of classes
            return sorted(value)
        return {
            key: inline(each, key if inside != "properties" else "")
            for key, each in value.items()
            if inside == "properties" or key not in {"title", "description", "$defs"}
        }

    return inline(schema, "")
