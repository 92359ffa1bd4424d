"""What goes through a service of a board when something ends on the way.

    python benchmarks/service_reliability.py --out runs/service-reliability

Series go from a sensor through a real broker (Mosquitto, on loopback) to the service, and its
answers to a consumer, while the service is killed, stopped or gets another release, or the broker
goes. Every series that the broker acknowledged must be answered; further answers are counted.

With `--sockets` a million requests go to a socket, and then some through fifty switches.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from edgedistill.errors import MachineError
from edgedistill.io.files import write_json

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness"))
from faults.messages import Flow, Line
from faults.mosquitto import find_mosquitto
from faults.requests import Load, SocketService


@dataclass(frozen=True, slots=True)
class Case:
    """Series at a rate, and the faults meanwhile."""

    name: str
    count: int
    rate: float  # a second
    faults: tuple[str, ...] = ()  # methods of `Line`
    absent_s: float = 0.0  # time that the broker is away at the start


CASES = (
    Case("none", 8_000, 760),
    Case("kill -9 of the service, 10 times", 8_000, 760, ("kill",) * 10),
    Case("SIGTERM, 10 times", 8_000, 760, ("restart",) * 10),
    Case("switch of releases", 2_000, 100, ("switch",)),
    Case("restart of the broker, 5 times", 8_000, 760, ("restart_broker",) * 5),
    Case("broker away for ten minutes at the start", 2_000, 760, absent_s=600),
)


_REQUESTS, _SWITCHES = 1_000_000, 50


def main() -> None:
    """Run the cases, print their table, and end with 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/service-reliability"))
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--sockets", action="store_true", help="requests on a socket instead")
    options = parser.parse_args()
    if options.sockets:
        sys.exit(_run_sockets(options.out))
    program = find_mosquitto()
    if program is None:
        raise MachineError("Mosquitto is not installed: apt-get install mosquitto")
    print("| fault | series | a second | lost | answered twice | unmarked | memory |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    results = {case.name: _run(case, program) for case in CASES if options.only in case.name}
    write_json(options.out / "messages.json", {name: asdict(r) for name, r in results.items()})
    sys.exit(any(flow.lost or flow.unmarked for flow in results.values()))


def _run(case: Case, program: str) -> Flow:
    with tempfile.TemporaryDirectory() as folder:
        line = Line(program, Path(folder) / "line", starts=not case.absent_s)
        try:
            faults = (getattr(line, name) for name in case.faults)
            flow = line.flow(case.count, case.rate, *faults, absent_s=case.absent_s)
            memory = line.memory_mib()
        finally:
            line.close()
    figures = (flow.sent, f"{case.rate:g}", flow.lost, flow.duplicates, flow.unmarked)
    cells = (case.name, *figures, f"{memory:.0f} MiB")
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return flow


def _run_sockets(out: Path) -> bool:
    """Run both loads on sockets, and return whether any request was not answered."""
    print("| requests | switches | not answered | a second | slowest | memory: first, last, most |")
    print("|---:|---:|---:|---:|---:|---:|")
    loads = []
    for load in (
        lambda service: service.send_many(_REQUESTS),
        lambda service: service.switch_often(_SWITCHES),
    ):
        with tempfile.TemporaryDirectory() as folder, SocketService(Path(folder) / "s") as service:
            loads.append(load(service))
        print(_load_row(loads[-1]), flush=True)
    write_json(out / "sockets.json", [asdict(load) for load in loads])
    return any(load.failed for load in loads) or loads[0].answered < _REQUESTS


def _load_row(load: Load) -> str:
    memory = ", ".join(
        f"{mib:.1f}" for mib in (load.memory_mib[0], load.memory_mib[-1], max(load.memory_mib))
    )
    slowest = f"{load.slowest_s:.2f} s" if load.switches else ""
    rate = f"{load.answered / load.seconds:.0f}"
    cells = (f"{load.answered:,}", load.switches, load.failed, rate, slowest, f"{memory} MiB")
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
