"""The options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from edgedistill.device.engine_options import add_engine_options

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_bundle(command: argparse.ArgumentParser) -> None:
    """Add the bundle, and which of its models."""
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip")
    command.add_argument("--model", metavar="NAME", help="instead of the chosen one")


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Add the bundle, and how its model is run and timed."""
    add_bundle(command)
    command.add_argument(
        "--threads", type=int, help="CPU threads of one call (default: as tuned, else 1)"
    )
    command.add_argument(
        "--provider",
        metavar="NAME",
        help="who computes in ONNX Runtime: cpu, cuda, tensorrt, or its own name of another one "
        "(default: cpu)",
    )
    command.add_argument("--runs", type=int, default=200, help="timed calls (default: %(default)s)")
    add_engine_options(command)


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json, the last option of every command."""
    command.add_argument("--json", action="store_true", help="print JSON, not a table")
