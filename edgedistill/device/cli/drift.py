"""`drift`: inputs, predictions and saliency compared with the bundle's reference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import Commands, add_json
from edgedistill.device.cli.output import EXIT_BROKEN, EXIT_KEPT, table
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.device.drift.comparison import DriftReport


def add_drift(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("drift", help="hold what came in against what was expected")
    command.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="folder or .zip, a run, or a release"
    )
    command.add_argument(
        "profiles",
        type=Path,
        nargs="+",
        metavar="PROFILE",
        help="what `predict --profile` kept; several are added up",
    )
    add_json(command)
    command.set_defaults(command=_drift)


def _drift(options: argparse.Namespace) -> int:
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.device.drift.comparison import compare
    from edgedistill.device.drift.profile import Bins, Profile, load

    with open_bundle(options.bundle) as bundle:
        reference, limits = bundle.reference()
        profile = Profile(Bins.from_reference(reference))
        for path in options.profiles:
            profile.merge(load(path, profile.bins))
        found = compare(profile, reference, limits, bundle.class_names)
    echo(json.dumps(found.to_dict(), indent=2) if options.json else _table(found))
    return EXIT_BROKEN if found.drifted else EXIT_KEPT


def _table(drift: DriftReport) -> str:
    from edgedistill.device.drift.comparison import DRIFT_ASPECTS

    head = ("question", "what", "distance", "limit", "outcome", "seen")
    rows = [
        (
            *(test.question, test.what, f"{test.distance:.3f}", f"{test.limit:.3f}"),
            *("DRIFTED" if test.drifted else "as expected", test.detail),
        )
        for test in drift.tests
    ]
    facts = [
        ("series", str(drift.series)),
        ("with a map", str(drift.explained)),
        ("in the reference", str(drift.reference)),
    ]
    answers = {None: "not judged", True: "drifted", False: "as expected"}
    parts = [
        table(facts),
        *([table([head, *rows])] if rows else []),
        *(f"not judged: {reason}" for reason in drift.unjudged),
        table([(question, answers[drift.drifted_in(question)]) for question in DRIFT_ASPECTS]),
    ]
    return "\n\n".join(parts)
