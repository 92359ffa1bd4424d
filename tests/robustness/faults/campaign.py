"""Runs of cases, in any order, and counts of their outcomes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from faults.board import LocalBoard, Ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Outcome of one case."""

    code: int  # exit code of the harmed command; -9 if it was killed
    message: str  # its last line
    unclear: str = ""  # what was wrong with the message; "": nothing
    stands: str = ""  # why no release ran afterwards; "": one did, and predicted as before
    next: str = ""  # why the next deployment failed; "": it did not

    @property
    def is_good(self) -> bool:
        """Whether the board is in a good state."""
        return not (self.unclear or self.stands or self.next)


@dataclass(frozen=True, slots=True)
class Case:
    """One fault at one place."""

    group: str  # a row of the table
    name: str  # unique in its group
    run: Callable[[], Found]


def found(
    board: LocalBoard,
    harm: Callable[[], Ran],
    *,
    heal: Callable[[], None] | None = None,
    deploy: Callable[[], tuple[Ran, str]] | None = None,
) -> Found:
    """Do harm, then look at the board, then deploy to it.

    Args:
        board: board in the state before the harm.
        harm: function that does the harm and returns the command's result.
        heal: function that removes what would harm the next deployment too.
        deploy: function of the next deployment; by default by the device program alone.
    """
    ran = harm()
    stands = board.still_runs()
    if heal is not None:
        heal()
    after, release = (deploy or partial(board.deploy, "two"))()
    failed = f"ended with {after.code}: {after.message}" if after.code else board.still_runs()
    if not failed and board.current() != release:
        failed = f"current is {board.current()}, not {release}"
    unclear = "" if ran.is_clear else (ran.stderr + ran.stdout)[-2000:] or "nothing was said"
    return Found(code=ran.code, message=ran.message, unclear=unclear, stands=stands, next=failed)


def run(cases: Iterable[Case], log: Path) -> None:
    """Run the cases that the log does not have yet, and log their outcomes.

    Args:
        cases: cases to run.
        log: path of the log, a line a case.
    """
    done = read(log)
    with log.open("a", encoding="utf-8") as stream:
        stream.write("\n")  # ends a line that was cut off
        for case in cases:
            key = f"{case.group}/{case.name}"
            if key not in done:
                result = case.run()
                stream.write(json.dumps({"case": key, **asdict(result)}) + "\n")
                stream.flush()
                _print(case, result)


def read(log: Path) -> dict[str, Found]:
    """Return the logged outcomes, by `GROUP/NAME`; an incomplete last line is ignored."""
    if not log.exists():
        return {}
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    return {entry.pop("case"): Found(**entry) for entry in map(json.loads, lines)}


def table(results: Mapping[str, Found]) -> list[dict[str, str | int]]:
    """Return a row a group: how many cases, and how many of them ended well in each way."""
    rows: dict[str, dict[str, str | int]] = {}
    for key, result in results.items():
        group = key.partition("/")[0]
        good = {
            "cases": True,
            "release_runs": not result.stands,
            "clear": not result.unclear,
            "next_works": not result.next,
        }
        row = rows.setdefault(group, {"fault": group, **dict.fromkeys(good, 0)})
        for name, counts in good.items():
            row[name] = int(row[name]) + counts
    return list(rows.values())


def _print(case: Case, result: Found) -> None:
    word = "ok" if result.is_good else f"BAD {asdict(result)}"
    print(f"{case.group}: {case.name}: {word}", file=sys.stderr, flush=True)
