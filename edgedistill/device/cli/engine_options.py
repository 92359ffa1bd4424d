"""The command line's options of a TensorRT engine.

What makes one engine another stands here once, so that `validate` finds what `build` built.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedistill.runtimes.tensorrt.engines import Engines


def add_engine_options(command: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    engine = command.add_argument_group("TensorRT engine")
    engine.add_argument("--cache", type=Path, metavar="DIR", help="where engines are kept")
    engine.add_argument("--dla", type=int, metavar="N", help="run on DLA core N, one series a call")
    engine.add_argument(
        "--level",
        type=int,
        default=3,
        metavar="N",
        help="of the builder's search, 0 to 5 (default: %(default)s)",
    )
    engine.add_argument("--workspace-mib", type=int, metavar="N", help="limit of scratch memory")
    engine.add_argument(
        "--max-batch",
        type=int,
        default=64,
        metavar="N",
        help="series in one call (default: %(default)s)",
    )
    engine.add_argument(
        "--version-compatible", action="store_true", help="later TensorRT may run it"
    )
    engine.add_argument("--refit", action="store_true", help="weights may be replaced")


def engines_from_options(options: argparse.Namespace) -> Engines:
    """Return what was chosen; NumPy is needed from here on.

    Raises:
        UsageError: a value that TensorRT does not know.
    """
    from edgedistill.runtimes.tensorrt.builder import BuildOptions
    from edgedistill.runtimes.tensorrt.engines import Engines, default_cache

    build = BuildOptions(
        max_batch=options.max_batch,
        level=options.level,
        workspace_mib=options.workspace_mib,
        dla_core=options.dla,
        version_compatible=options.version_compatible,
        refit=options.refit,
    )
    return Engines(options=build, cache=options.cache or default_cache(), log=_log)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
