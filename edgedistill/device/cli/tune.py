"""`tune`: the session settings under which the model is fastest here."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import Commands, add_bundle, add_json
from edgedistill.device.cli.output import EXIT_KEPT, table

if TYPE_CHECKING:
    from edgedistill.device.tuning import Tuning


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("tune", help="find the fastest session settings for the model")
    add_bundle(command)
    command.add_argument(
        "--out", type=Path, metavar="BUNDLE", help="bundle that stores the settings"
    )
    add_json(command)
    command.set_defaults(command=_tune)


def _tune(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.tuning import tune, write_tuned

    with open_bundle(options.bundle) as bundle:
        found = tune(bundle.model(options.model), bundle.golden().series)
        if options.out is not None:
            write_tuned(bundle, options.out, {found.model: found.settings})
    print(json.dumps(asdict(found), indent=2) if options.json else _tuning_table(found))
    if options.out is None:
        print("Nothing was stored; --out writes a bundle with these settings.", file=sys.stderr)
    else:
        print(f"Wrote {options.out}.", file=sys.stderr)
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
