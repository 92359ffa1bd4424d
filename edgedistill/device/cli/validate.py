"""`validate`: the model that is here, held against its teacher."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.engine_options import engines_from_options
from edgedistill.device.cli.options import (
    Commands,
    add_costs,
    add_json,
    add_model_options,
    runs_from_options,
)
from edgedistill.device.cli.output import EXIT_BROKEN, EXIT_KEPT, latency_rows, machine_rows, table

if TYPE_CHECKING:
    from edgedistill.device.validate import Validation
    from edgedistill.evaluation.contract import ContractClause


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("validate", help="hold the model against its teacher")
    add_model_options(command)
    command.add_argument(
        "--out", type=Path, help="report (default: report.json, of a release the one in its folder)"
    )
    add_costs(command, default=False)
    add_json(command)
    command.set_defaults(command=_validate)


def _validate(options: argparse.Namespace) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.releases.layout import REPORT
    from edgedistill.device.validate import validate
    from edgedistill.io import files
    from edgedistill.report import to_json

    with open_bundle(options.bundle) as bundle:
        found = validate(
            bundle,
            model=options.model,
            threads=options.threads,
            provider=options.provider,
            engines=engines_from_options(options),
            runs=runs_from_options(options),
            costs=options.costs,
        )
    report = to_json(found.report())
    out = options.out or (options.release or Path()) / REPORT
    files.write_json(out, report)
    print(json.dumps(report, indent=2) if options.json else _validation_table(found))
    print(f"Wrote {out}.", file=sys.stderr)
    return EXIT_KEPT if found.verdict == "kept" else EXIT_BROKEN


def _validation_table(validation: Validation) -> str:
    faithful = validation.fidelity
    facts = [
        ("bundle", validation.bundle),
        (
            "model",
            f"{validation.model.name}, {validation.model.precision}, {validation.size_bytes} bytes",
        ),
        ("runtime", validation.environment["runtime"]),
        *latency_rows(validation.latency),
        *machine_rows(validation.costs, validation.telemetry),
        ("agreement with the student", f"{faithful.agreement:.4g}"),
        ("saliency Pearson with the student", f"{faithful.saliency_pearson:.4g}"),
        ("largest logit error", f"{faithful.logit_error:.2e} of the largest logit"),
    ]
    head = ("clause", "measured", "95 % interval", "threshold", "outcome")
    clauses = [_clause_row(clause) for clause in validation.clauses]
    return f"{table(facts)}\n\n{table([head, *clauses])}\n\nverdict: {validation.verdict}"


def _clause_row(clause: ContractClause) -> tuple[str, ...]:
    measured = clause.measured
    outcome = "kept" if clause.passed else "BROKEN"
    return (
        clause.name,
        f"{measured.value:.4g}",
        f"{measured.low:.4g} to {measured.high:.4g}" if measured.low < measured.high else "exact",
        f"{clause.comparison} {clause.threshold:g}",
        outcome if clause.decided else f"{outcome}, undecided: threshold inside the interval",
    )
