"""What a board is left with when something goes wrong while a bundle reaches it.

    python benchmarks/reliability.py --out runs/reliability

Faults are made on purpose, one a case: the device program, the workstation and the line between
them are killed or cut at each step, disks are full or may not be written, clocks jump, two deploy
at once. After each, three things are asked: does `predict` still run a release, with the answers it
always gave; was the message clear; does the next deployment succeed. The board is this machine
behind an SSH server of its own; mounting small disks takes root. Stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from edgedistill.io.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness"))
from faults import campaign, deployment, device, machine, repetition, watchdog
from faults.board import LocalBoard, make_goods
from faults.campaign import Case, Found
from faults.disks import small_disk
from faults.server import running

SIZES = {"device": "6m", "deployment": "256m"}  # a board with less than 200 MiB is refused
COUNTS = {
    "random kills": 20,
    "collisions": 20,
    "cuts": 50,
    "repeated cuts": 3,
    "workstation kills": 32,
    "full disks": 8,
    "two deployments": 6,
    "repeated commands": 6,
    "sleeps": 3,
    "commands": 2000,
    "at once": 8,
}


def main() -> None:
    """Run the campaign, write its table, and end with 1 if any case ended badly."""
    options = _options()
    options.out = options.out.resolve()
    results: dict[str, Found] = {}
    for name, cases in (("device", _device_cases), ("deployment", _deployment_cases)):
        log = options.out / f"{name}.jsonl"
        if not options.table and options.part in {None, name}:
            goods = make_goods(options.out / "goods")
            with small_disk(options.out / name / "root", SIZES[name]) as root:
                board = LocalBoard(root, goods)
                campaign.run(_chosen(cases(board, options), options.only), log)
                board.fork_server.close()
        results |= campaign.read(log)
    rows = campaign.table(results)
    bad = [{"case": key, **asdict(found)} for key, found in results.items() if not found.is_good]
    write_json(options.out / "reliability.json", {"seed": options.seed, "rows": rows, "bad": bad})
    _print(rows)
    sys.exit(1 if bad else 0)


def _device_cases(board: LocalBoard, options: argparse.Namespace) -> Iterator[Case]:
    works = device.prepare(board)
    yield from device.kills(board, works)
    yield from device.late_kills(board, works, COUNTS["random kills"], options.seed)
    yield from device.full_disks(board, works)
    yield from device.little_space(board, works)
    yield from machine.clocks(board, works)
    yield from machine.locked_disks(board, works)
    yield from machine.collisions(board, works, COUNTS["collisions"], options.seed)
    yield from machine.missing_packages(board, works, options.out)
    yield from machine.interpreters(board, works, options.out)
    yield from repetition.killed(board, works)
    failing = watchdog.prepare(board)
    yield from watchdog.commands(board, failing)
    yield from watchdog.damage(board)
    yield from watchdog.services(board)


def _deployment_cases(board: LocalBoard, options: argparse.Namespace) -> Iterator[Case]:
    folder = options.out / "deployment"
    with running(folder / "ssh") as server:
        station = deployment.Workstation(board, server, folder)
        station.prepare()
        yield from deployment.cuts(station, COUNTS["cuts"], COUNTS["repeated cuts"], options.seed)
        yield from deployment.workstation_kills(station, COUNTS["workstation kills"])
        yield from deployment.device_kills(station)
        yield from deployment.full_disks(station, COUNTS["full disks"], options.seed)
        yield from deployment.refusals(station)
        yield from deployment.collisions(station, COUNTS["two deployments"], options.seed)
        yield from deployment.crowds(station, COUNTS["commands"], COUNTS["at once"])
        yield from deployment.sleeps(station, COUNTS["sleeps"])
        yield from repetition.cut(station, COUNTS["repeated commands"])
        station.fork_server.close()


def _chosen(cases: Iterator[Case], pattern: str) -> Iterator[Case]:
    return (case for case in cases if re.search(pattern, f"{case.group}: {case.name}"))


def _print(rows: list[dict[str, str | int]]) -> None:
    print("| fault | cases | a release runs | clear message | next deployment works |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/reliability"))
    parser.add_argument("--part", choices=["device", "deployment"], help="only this half")
    parser.add_argument("--table", action="store_true", help="of what was run; run nothing")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name this expression finds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
