"""Commands that run the model of a bundle: `validate`, `benchmark`, `build` and `tune`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import (
    Commands,
    add_bundle,
    add_costs,
    add_engine_options,
    add_json,
    add_model_options,
    engines_from_options,
    runs_from_options,
)
from edgedistill.device.cli.output import (
    EXIT_BROKEN,
    EXIT_KEPT,
    int8_rows,
    latency_rows,
    machine_rows,
    table,
)
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.device.tuning import Tuning
    from edgedistill.device.validate import Validation
    from edgedistill.evaluation.contract import ContractClause


def add_validate(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("validate", help="hold the model against its teacher")
    add_model_options(command)
    command.add_argument(
        "--out", type=Path, help="report (default: report.json, of a release the one in its folder)"
    )
    add_costs(command, default=False)
    command.add_argument(
        "--time-limit",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds of one call of the model, after which it is stopped (default: %(default)g)",
    )
    add_json(command)
    command.set_defaults(command=_validate)


def add_benchmark(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("benchmark", help="time the model on one series")
    add_model_options(command)
    add_costs(command, default=True)
    add_json(command)
    command.set_defaults(command=_benchmark)


def add_build(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "build", help="build the model's TensorRT engine, show its layers"
    )
    add_bundle(command)
    add_engine_options(command)
    command.add_argument(
        "--compute-capability", metavar="X.Y", help="build for a GPU elsewhere; TensorRT-RTX only"
    )
    add_json(command)
    command.set_defaults(command=_build)


def add_tune(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("tune", help="find the fastest session settings for the model")
    add_bundle(command)
    command.add_argument(
        "--out", type=Path, metavar="BUNDLE", help="bundle that stores the settings"
    )
    add_json(command)
    command.set_defaults(command=_tune)


def _validate(options: argparse.Namespace) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.releases import disk
    from edgedistill.device.releases.layout import INTERPRETER, REPORT
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
            call_limit_s=options.time_limit,
        )
    report = to_json(found.report())
    out = options.out or (options.release or Path()) / REPORT
    files.write_json(out, report)
    if options.release is not None and found.verdict == "kept":
        disk.point(options.release / INTERPRETER, sys.executable)
    echo(json.dumps(report, indent=2) if options.json else _validation_table(found))
    echo(f"Wrote {out}.", err=True)
    return EXIT_KEPT if found.verdict == "kept" else EXIT_BROKEN


def _validation_table(validation: Validation) -> str:
    from edgedistill.report.format import int8_note

    faithful = validation.fidelity
    facts = [
        ("bundle", validation.bundle),
        (
            "model",
            f"{validation.model.name}, {validation.model.precision}, {validation.size_bytes} bytes",
        ),
        ("runtime", validation.environment["runtime"]),
        *int8_rows(validation.int8, int8_note),
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


def _benchmark(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.benchmark import measure
    from edgedistill.device.costs import measure_costs
    from edgedistill.device.runtime import int8_arithmetic, start
    from edgedistill.device.telemetry_sampler import TelemetrySampler
    from edgedistill.report.format import int8_speed

    how = {
        "threads": options.threads,
        "provider": options.provider,
        "engines": engines_from_options(options),
    }
    with open_bundle(options.bundle) as bundle:
        model, sample = bundle.model(options.model), bundle.golden().series[:1]
        runtime = start(model, **how)
        with TelemetrySampler() as watch:
            found = measure(runtime, sample, runs=runs_from_options(options))
        costs = measure_costs(model, runtime, sample, **how) if options.costs else None
        int8 = int8_arithmetic(model, provider=options.provider)
    telemetry = watch.telemetry()
    if options.json:
        facts = {
            "model": model.name,
            **asdict(found),
            **runtime.describe(),
            "int8": None if int8 is None else asdict(int8),
            "costs": None if costs is None else asdict(costs),
            "telemetry": None if telemetry is None else asdict(telemetry),
        }
        echo(json.dumps(facts, indent=2))
    else:
        rows = [("model", model.name), *runtime.describe().items(), *int8_rows(int8, int8_speed)]
        echo(table([*rows, *latency_rows(found), *machine_rows(costs, telemetry)]))
    return EXIT_KEPT


def _build(options: argparse.Namespace) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.runtimes.tensorrt.runtime import report

    with open_bundle(options.bundle) as bundle:
        found = report(
            bundle.model(options.model).path,
            bundle.golden().series[:1],
            engines_from_options(options),
            compute_capability=options.compute_capability,
        )
    if options.json:
        echo(json.dumps(found.values(), indent=2))
    else:
        echo(table(found.facts()))
        if found.layers:
            echo(f"\n{table(found.table())}")
    return EXIT_KEPT


def _tune(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.tuning import tune, write_tuned

    with open_bundle(options.bundle) as bundle:
        found = tune(bundle.model(options.model), bundle.golden().series)
        if options.out is not None:
            write_tuned(bundle, options.out, {found.model: found.settings})
    echo(json.dumps(asdict(found), indent=2) if options.json else _tuning_table(found))
    if options.out is None:
        echo("Nothing was stored; --out writes a bundle with these settings.", err=True)
    else:
        echo(f"Wrote {options.out}.", err=True)
    return EXIT_KEPT


def _tuning_table(tuning: Tuning) -> str:
    head = ("session settings", "median", "95 % interval", "outcome")
    rows = [head]
    for trial in tuning.trials:
        p50 = trial.p50_ms
        if p50 is None:
            rows.append((str(trial.settings), "", "", "changes the answers"))
            continue
        interval = f"{p50.low:.4f} to {p50.high:.4f}"
        outcome = "taken" if trial.settings == tuning.settings else ""
        rows.append((str(trial.settings), f"{p50.value:.4f} ms", interval, outcome))
    return f"{table(rows)}\n\n{tuning.model}: {tuning.gain:.3g} times as fast as by default"
