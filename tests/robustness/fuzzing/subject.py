"""Subjects of fuzzing: how inputs of one kind are made, and what reads them on a board."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.corpus import Corpus

Makes = Callable[[Random, Corpus], bytes]
Reads = Callable[[bytes, Path, Corpus], None]  # the input, a folder to put it in, real files


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One kind of input."""

    name: str
    inputs: int  # of the committed campaign
    makes: Makes
    reads: Reads
    sound: Callable[[Corpus], bytes]  # an input without damage, which must be read
    native: bool = False  # read by a library that may crash the process: counted, reported


def to_bytes(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()
