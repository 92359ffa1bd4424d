"""`benchmark`: how long the model takes for one series."""

from __future__ import annotations

import argparse
import json

from edgedistill.device.commands.options import Commands, add_json, add_model_options
from edgedistill.device.commands.output import KEPT, latency_rows, table
from edgedistill.device.engine_options import chosen_engines


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("benchmark", help="time the model on one series")
    add_model_options(command)
    add_json(command)
    command.set_defaults(command=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle import open_bundle
    from edgedistill.device.benchmark import measure
    from edgedistill.device.runtime import start

    with open_bundle(options.bundle) as bundle:
        model = bundle.model(options.model)
        runtime = start(
            model,
            threads=options.threads,
            provider=options.provider,
            engines=chosen_engines(options),
        )
        found = measure(runtime, bundle.golden().series[:1], runs=options.runs)
    if options.json:
        print(json.dumps({"model": model.name, **asdict(found), **runtime.describe()}, indent=2))
    else:
        print(table([("model", model.name), *runtime.describe().items(), *latency_rows(found)]))
    return KEPT
