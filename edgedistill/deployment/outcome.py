"""Events of a deployment, its outcome on each board, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

Step = Literal[
    "connect",
    "preflight",
    "program",
    "upload",
    "install",
    "build",
    "validate",
    "switch",
    "report",
    "prune",
]
State = Literal["begun", "progress", "note", "skipped", "done", "failed"]
# The most important first: untrusted, contract broken, unusable.
_PRECEDENCE: Final = (6, 4, 3, 2, 5, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a deployment to one board."""

    host: str
    step: Step
    state: State
    text: str = ""
    done: int = 0  # bytes of an upload
    total: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Outcome or state of a deployment to one board."""

    host: str
    step: Step = "connect"  # the last that was begun
    code: int = 0  # exit code: 0, or that of the error
    message: str = ""
    release: str | None = None  # name it has there
    current: str | None = None  # release that runs there, as far as known
    verdict: str | None = None  # of the validation there: "kept" or "broken"
    report: dict[str, Any] | None = None  # of the validation there
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the report, which is a file of its own."""
        return {
            "host": self.host,
            "code": self.code,
            "step": self.step,
            "message": self.message,
            "release": self.release,
            "current": self.current,
            "verdict": self.verdict,
            "warnings": self.warnings,
        }


EventCallback = Callable[[Event], None]


class _HasCode(Protocol):
    @property
    def code(self) -> int: ...


def exit_code(outcomes: Sequence[_HasCode]) -> int:
    """Return 0 if all boards are well, else the most important of their codes.

    >>> exit_code([Outcome(host="a"), Outcome(host="b", code=5), Outcome(host="c", code=4)])
    4
    """
    codes = {outcome.code for outcome in outcomes} - {0}
    ranked = (*_PRECEDENCE, *sorted(codes))
    return next((code for code in ranked if code in codes), 0)
