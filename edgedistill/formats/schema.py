"""What the files of a data set hold: the role of every column, and how rows become series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["values", "label", "id", "time", "group", "index", "ignored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRole:
    """A column, or a run of value columns such as `t0 to t23`, and what it was taken for."""

    name: str  # as in the header; without one its number, from 1
    role: Role
    why: str  # what tells the role, such as "usual name" or "data.label"
