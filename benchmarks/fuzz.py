"""Feeds damaged and hand-made inputs to everything that a board parses, and counts the outcomes.

    python benchmarks/fuzz.py --out benchmarks/results/fuzz.json

Only our own errors may come out, with a message; nothing may be written outside of the folder at
hand, unpickled or sent; no input may take 20 seconds, or half a gigabyte. Anything else is a
finding, named by its subject and number, and the exit code is 1:

    python benchmarks/fuzz.py --work FOLDER --replay "zip, members by hand" 171

makes that input again, writes it to FOLDER/replay and reads it without a net. With

    python benchmarks/fuzz.py --tables 10000 --out benchmarks/results/fuzz-tables.json

tables of labeled series are generated instead, one for each seed from 0 on, and read in training
and by `predict`: each is read to the series that it was generated from, or refused. `--replay
tables 17` writes those of seed 17 to FOLDER/replay and reads them without a net.

Every input follows from the seed, the subject and its number. What is done is kept in --work: a
campaign that was stopped resumes, and several can share a folder.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import onnxruntime

from edgedistill.io import files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness"))
from fuzzing import campaign, commands, corpus, table_campaign, worker
from fuzzing.subjects import SUBJECTS
from fuzzing.table_cases import write_case
from fuzzing.table_check import check

_COLUMNS = "{:30} {:>8} {:>8} {:>8} {:>8} {:>6} {:>9}"


def main() -> int:
    """Run a campaign, or one input of it."""
    options = _options()
    if options.tables is not None:
        return _run_tables(options)
    if options.work is not None:
        return _run(options, options.work)
    with TemporaryDirectory(prefix="fuzz-") as work:
        return _run(options, Path(work))


def _run(options: argparse.Namespace, work: Path) -> int:
    if options.replay is not None and options.replay[0] == "tables":
        _replay_table(int(options.replay[1]), work / "replay")
        return 0
    material = work / "corpus"
    if not material.exists():
        with files.whole_folder(material) as partial:
            corpus.make(partial)
    if options.replay is not None:
        _replay(options, material, work)
        return 0
    began = time.monotonic()
    tallies = campaign.run(
        material,
        work,
        seed=options.seed,
        scale=options.scale,
        names=options.subject,
        jobs=options.jobs,
        on_piece=lambda text: print(text, file=sys.stderr),
    )
    by_command = commands.run_commands(
        material, work, options.seed, round(options.commands * options.scale)
    )
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = used.ru_utime + used.ru_stime
    _print(tallies, by_command)
    if options.out is not None:
        files.write_json(options.out, _facts(options, tallies, by_command, seconds, cpu_seconds))
    return int(bool(_findings(tallies) or by_command.findings))


def _run_tables(options: argparse.Namespace) -> int:
    began = time.monotonic()
    tally = table_campaign.run_tables(
        options.tables, models=min(options.models, options.tables), jobs=options.jobs
    )
    for kind in sorted({*tally.read, *tally.refused}):
        read, refused = tally.read.get(kind, 0), tally.refused.get(kind, 0)
        print(f"{kind:15} {read:6} read {refused:6} refused")
    print(f"{tally.tables} tables, {tally.by_model} also through a model")
    for finding in tally.findings:
        print(finding)
    if options.out is not None:
        versions = {"python": sys.version.split()[0], "numpy": numpy.__version__}
        if (arrow := find_spec("pyarrow")) is not None:
            versions["pyarrow"] = version(arrow.name)
        facts = {**asdict(tally), "seconds": round(time.monotonic() - began), "versions": versions}
        files.write_json(options.out, facts)
    return int(bool(tally.findings))


def _facts(
    options: argparse.Namespace,
    tallies: dict[str, campaign.Tally],
    by_command: commands.CommandTally,
    seconds: float,
    cpu_seconds: float,
) -> dict[str, object]:
    return {
        "seed": options.seed,
        "inputs": sum(tally.inputs for tally in tallies.values()),
        "seconds": round(seconds),  # of a campaign that went on: since it did
        "cpu_seconds": round(cpu_seconds),  # of the processes that read
        "versions": {
            "python": sys.version.split()[0],
            "numpy": numpy.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
        "subjects": {name: asdict(tally) for name, tally in tallies.items()},
        "commands": asdict(by_command),
    }


def _findings(tallies: dict[str, campaign.Tally]) -> list[str]:
    """Return the failures of ours: not the inputs at which ONNX Runtime itself dies or hangs."""
    return [
        f"{name}, {finding}"
        for name, tally in tallies.items()
        for finding in tally.findings
        if not (SUBJECTS[name].native and campaign.died(finding))
    ]


def _print(tallies: dict[str, campaign.Tally], by_command: commands.CommandTally) -> None:
    print(_COLUMNS.format("subject", "inputs", "read", "refused", "crashed", "hung", "findings"))
    for name, tally in tallies.items():
        refused, found = sum(tally.refused.values()), len(tally.findings)
        counts = tally.inputs, tally.read, refused, tally.crashed, tally.hung, found
        print(_COLUMNS.format(name, *counts))
    print(
        f"{sum(tally.inputs for tally in tallies.values())} inputs, and {by_command.asked} commands"
    )
    for finding in (*_findings(tallies), *by_command.findings):
        print(finding)


def _replay(options: argparse.Namespace, material: Path, work: Path) -> None:
    name, index = options.replay
    subject, found = SUBJECTS[name], corpus.Corpus(material)
    folder = work / "replay"
    folder.mkdir(exist_ok=True)
    data = worker.made(subject, found, options.seed, int(index))
    (folder / "input").write_bytes(data)
    with TemporaryDirectory(dir=folder) as scratch:
        subject.reads(data, Path(scratch), found)


def _replay_table(seed: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    case = write_case(seed, folder, table_campaign.usable_formats())
    print(case.kind, case.expected, *case.traits, case.roles, sep="\n")
    print(check(case))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="keeps what is done (default: nothing is kept)")
    parser.add_argument("--out", type=Path, help="JSON of the counts")
    parser.add_argument("--seed", default="1", help="decides every input (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of inputs")
    parser.add_argument("--commands", type=int, default=60, help="inputs given to the real command")
    parser.add_argument("--subject", action="append", choices=SUBJECTS, help="not all (repeatable)")
    parser.add_argument("--jobs", type=int, default=1, help="workers at the same time")
    parser.add_argument("--tables", type=int, metavar="N", help="read N generated tables instead")
    parser.add_argument(
        "--models", type=int, default=100, metavar="N", help="tables that a model predicts, too"
    )
    parser.add_argument("--replay", nargs=2, metavar=("SUBJECT", "NUMBER"), help="one input")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
