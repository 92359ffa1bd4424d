"""A campaign of generated tables, one for each seed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzzing.table_cases import FORMATS, PARQUET, write_case
from fuzzing.table_check import READ, Finding, check
from fuzzing.table_models import check_predictions

_PIECE = 25  # seeds that a worker takes at a time


@dataclass
class TableTally:
    """Numbers of tables by format and outcome, and findings."""

    tables: int = 0
    read: dict[str, int] = field(default_factory=dict)  # by format
    refused: dict[str, int] = field(default_factory=dict)
    by_model: int = 0  # through a bundle and the command, too
    findings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What became of a seed."""

    kind: str
    was_read: bool = False
    by_model: bool = False
    finding: str | None = None


def usable_formats() -> tuple[str, ...]:
    """Return the formats that can be written here."""
    return FORMATS + (PARQUET if find_spec("pyarrow") else ())


def run_seed(seed: int, *, formats: tuple[str, ...], models: int = 0) -> Outcome:
    """Write the tables of a seed and read them everywhere.

    Args:
        seed: seed of all that is drawn.
        formats: formats to draw from.
        models: seeds below it also go through a bundle, if they are read.
    """
    with TemporaryDirectory(prefix="fuzz-table-") as name:
        folder, kind = Path(name), "written"
        try:
            case = write_case(seed, folder, formats)
            kind = case.kind
            was_read = check(case) == READ
            by_model = was_read and seed < models
            if by_model:
                check_predictions(case, folder)
        except Finding as finding:
            return Outcome(kind, finding=str(finding).replace(name, ""))
        except Exception as error:  # noqa: BLE001, a traceback is a finding
            return Outcome(kind, finding=f"raises {error!r}".replace(name, ""))
    return Outcome(kind, was_read, by_model)


def run_tables(count: int, *, models: int, jobs: int) -> TableTally:
    """Read the tables of the seeds from 0 on.

    Args:
        count: number of seeds.
        models: the first of them go through a bundle and the real command, too.
        jobs: number of processes.
    """
    tally = TableTally()
    for seed, one in enumerate(_outcomes(count, models, jobs)):
        tally.tables += 1
        tally.by_model += one.by_model
        if one.finding is not None:
            tally.findings.append(f"{seed}, {one.kind}: {one.finding}")
        else:
            counts = tally.read if one.was_read else tally.refused
            counts[one.kind] = counts.get(one.kind, 0) + 1
    return tally


def _outcomes(count: int, models: int, jobs: int) -> Iterator[Outcome]:
    work = partial(run_seed, formats=usable_formats(), models=models)
    if jobs == 1:
        yield from map(work, range(count))
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(work, range(count), chunksize=_PIECE)
