"""Health of a release: it loads, and its model reproduces the student's recorded logits.

A short check after a switch; the validation judged the contract before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.device.releases.installation import damage
from edgedistill.device.releases.layout import INTERPRETER, PROGRAM, Target
from edgedistill.device.runtime import start
from edgedistill.device.validate import FIDELITY_TOLERANCE
from edgedistill.errors import VerificationError
from edgedistill.io.arrays import Floats
from edgedistill.runtimes.tensorrt.engine_cache import Engines

TIMEOUT_S: Final = 600  # an engine may have to be built


def check(target: Target) -> None:
    """Load the model of a release, and compare its first logits with the recorded ones.

    Raises:
        VerificationError: the logits differ. INT8 has no tolerance of its own: there any finite
            logits will do.
        IntegrityError: the bundle is damaged.
        MachineError: the runtime is missing.
        ModelError: the runtime cannot run the model.
    """
    with open_bundle(target.bundle) as bundle:
        model = bundle.model(target.model)
        golden = bundle.golden()
        engines = Engines() if target.engines is None else Engines(cache=target.engines)
        runtime = start(model, threads=target.threads, provider=target.provider, engines=engines)
        logits = runtime.logits(golden.series[:1])
        _compare(logits, golden.student.logits[:1], FIDELITY_TOLERANCE.get(model.precision), bundle)


def failure(release: Path) -> str | None:
    """Check a release by its own program and interpreter, in a process; return the error, if any.

    Args:
        release: folder of the release, or a link to it.

    Returns:
        A sentence without its full stop; None if the release is healthy.
    """
    if (damaged := damage(release)) is not None:
        return damaged
    program = release / PROGRAM
    ours = [str(program)] if program.exists() else ["-m", "edgedistill.device"]
    command = [_interpreter(release), *ours, "releases", "check", str(release)]
    try:
        done = subprocess.run(  # noqa: S603 # no shell, and the words are ours
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer in {TIMEOUT_S} s"
    if not done.returncode:
        return None
    said = done.stderr.strip().splitlines()
    if not said:
        return f"its program ended with {done.returncode}"
    return said[-1].removeprefix("error: ").removesuffix(".")


def _interpreter(release: Path) -> str:
    """Return the interpreter that validated a release, or else, as for one of 0.1.0, this one."""
    link = release / INTERPRETER
    # Not the link itself: beside it, a virtual environment would not be found.
    return (
        str(link.readlink()) if link.is_symlink() and os.access(link, os.X_OK) else sys.executable
    )


def _compare(actual: Floats, recorded: Floats, tolerance: float | None, bundle: Bundle) -> None:
    if actual.shape != recorded.shape or not np.isfinite(actual).all():
        raise VerificationError(
            f"{bundle.name} answers a series with {actual.tolist()}; finite logits of shape "
            f"{recorded.shape} were recorded. Validate it here, and look at its runtime."
        )
    scale = max(float(np.abs(recorded).max()), float(np.finfo(np.float32).tiny))
    error = float(np.abs(actual - recorded).max()) / scale
    if tolerance is not None and error > tolerance:
        raise VerificationError(
            f"{bundle.name} answers a series otherwise than recorded: a logit is off by "
            f"{error:.2e} of the largest, at most {tolerance:g} is allowed. Validate it here, and "
            "look at its runtime."
        )
