"""`benchmark`: how long the model takes for one series, and what else it takes."""

from __future__ import annotations

import argparse
import json

from edgedistill.device.cli.engine_options import engines_from_options
from edgedistill.device.cli.options import (
    Commands,
    add_costs,
    add_json,
    add_model_options,
    runs_from_options,
)
from edgedistill.device.cli.output import EXIT_KEPT, latency_rows, machine_rows, table


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("benchmark", help="time the model on one series")
    add_model_options(command)
    add_costs(command, default=True)
    add_json(command)
    command.set_defaults(command=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.benchmark import measure
    from edgedistill.device.costs import measure_costs
    from edgedistill.device.runtime import start
    from edgedistill.device.telemetry_sampler import TelemetrySampler

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
    telemetry = watch.telemetry()
    if options.json:
        facts = {
            "model": model.name,
            **asdict(found),
            **runtime.describe(),
            "costs": None if costs is None else asdict(costs),
            "telemetry": None if telemetry is None else asdict(telemetry),
        }
        print(json.dumps(facts, indent=2))
    else:
        rows = [("model", model.name), *runtime.describe().items(), *latency_rows(found)]
        print(table([*rows, *machine_rows(costs, telemetry)]))
    return EXIT_KEPT
