"""`drift`: whether inputs, predictions or reasons are still those of the bundle's reference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import Commands, add_json
from edgedistill.device.cli.output import BROKEN, KEPT, table

if TYPE_CHECKING:
    from edgedistill.device.drift.comparison import Drift


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("drift", help="hold what came in against what was expected")
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip, or a release")
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
        profile = Profile(Bins.of(reference))
        for path in options.profiles:
            profile.merge(load(path, profile.bins))
        found = compare(profile, reference, limits, bundle.class_names)
    print(json.dumps(found.to_dict(), indent=2) if options.json else _table(found))
    return BROKEN if found.drifted else KEPT


def _table(found: Drift) -> str:
    from edgedistill.device.drift.comparison import QUESTIONS

    head = ("question", "what", "distance", "limit", "outcome", "seen")
    rows = [
        (
            *(test.question, test.what, f"{test.distance:.3f}", f"{test.limit:.3f}"),
            *("DRIFTED" if test.drifted else "as expected", test.detail),
        )
        for test in found.tests
    ]
    facts = [
        ("series", str(found.series)),
        ("with a map", str(found.explained)),
        ("in the reference", str(found.reference)),
    ]
    answers = {None: "not judged", True: "drifted", False: "as expected"}
    parts = [
        table(facts),
        *([table([head, *rows])] if rows else []),
        *(f"not judged: {reason}" for reason in found.unjudged),
        table([(question, answers[found.answer(question)]) for question in QUESTIONS]),
    ]
    return "\n\n".join(parts)
