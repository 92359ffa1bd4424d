"""`build`: the model's TensorRT engine, made where it runs."""

from __future__ import annotations

import argparse
import json

from edgedistill.device.cli.engine_options import add_engine_options, engines_from_options
from edgedistill.device.cli.options import Commands, add_bundle, add_json
from edgedistill.device.cli.output import EXIT_KEPT, table


def add(commands: Commands) -> None:
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


def _build(options: argparse.Namespace) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.runtimes.tensorrt.report import report

    with open_bundle(options.bundle) as bundle:
        found = report(
            bundle.model(options.model).path,
            bundle.golden().series[:1],
            engines_from_options(options),
            compute_capability=options.compute_capability,
        )
    if options.json:
        print(json.dumps(found.values(), indent=2))
    else:
        print(table(found.facts()))
        if found.layers:
            print(f"\n{table(found.table())}")
    return EXIT_KEPT
