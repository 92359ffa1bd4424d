"""Cost of a model on this machine: throughput, memory and cold start time.

Memory and cold start are those of fresh processes: in this one, whatever ran before counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from edgedistill.bundle.reader import Model
from edgedistill.device.benchmark import throughput
from edgedistill.device.runtime import Runtime, start
from edgedistill.errors import MachineError
from edgedistill.io.arrays import Floats
from edgedistill.report import Costs
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.runtimes.tensorrt.builder import BuildOptions
from edgedistill.runtimes.tensorrt.engine_cache import Engines

STARTS: Final = 3  # cold starts, of which the median counts
_TIMEOUT_S: Final = 300
_STATUS: Final = Path("/proc/self/status")
_KIB: Final = 1024
# The path comes along, so that it works from a folder, an installed package and a zipapp.
_PROBE: Final = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request["path"]
from edgedistill.device.costs import cold_start_probe
print(json.dumps(cold_start_probe(request)))
"""
_BARE: Final = """
import importlib, json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request["path"]
import numpy
importlib.import_module(request["runtime"])
with open(request["status"]) as status:
    peak = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]
print(json.dumps({"peak_kib": peak[0] if peak else None}))
"""


def measure_costs(
    model: Model,
    runtime: Runtime,
    sample: Floats,
    *,
    threads: int | None = None,
    provider: str | None = None,
    engines: Engines | None = None,
    starts: int = STARTS,
) -> Costs:
    """Measure throughput, memory and cold start of a model, as `start` starts it.

    Args:
        model: model of a bundle.
        runtime: the same model, loaded.
        sample: one preprocessed series, (1, C, T).
        threads: CPU threads, as for `start`.
        provider: provider of ONNX Runtime, as for `start`.
        engines: engine settings, as for `start`; a missing engine is built in the first process.
        starts: number of cold starts.

    Raises:
        MachineError: a fresh process fails or times out.
        ShapeError: sample is not one series.
    """
    rates = throughput(runtime, sample)
    batch = max(rates, key=lambda size: rates[size])
    request = _request(model, sample, threads, provider, engines or Engines())
    cold = [_cold_start(request) for _ in range(starts)]
    peaks = [peak for _, peak in cold if peak is not None]
    bare = _run_fresh(_BARE, request)["peak_kib"] if _STATUS.exists() else None
    return Costs(
        series_per_s=rates[1],
        best_batch=batch,
        best_series_per_s=rates[batch],
        peak_mib=max(peaks) / _KIB if peaks else None,
        bare_mib=None if bare is None else bare / _KIB,
        cold_start_ms=median(elapsed for elapsed, _ in cold),
    )


def cold_start_probe(request: dict[str, Any]) -> dict[str, Any]:
    """Load a model, call it once, and return the time: the body of a fresh process."""
    engine, session = request["engines"], request["session"]
    model = Model(
        name="model",
        path=Path(request["model"]),
        runtime=request["runtime"],
        precision=request["precision"],
        parameters=0,
        session=None if session is None else SessionSettings.from_dict(session),
    )
    runtime = start(
        model,
        threads=request["threads"],
        provider=request["provider"],
        engines=Engines(options=BuildOptions(**engine["options"]), cache=Path(engine["cache"])),
    )
    runtime.logits(np.zeros(request["shape"], dtype=np.float32))
    return {"at_ns": time.monotonic_ns(), "peak_kib": peak_kib()}


def peak_kib() -> int | None:
    """Return this process's peak resident memory; None where the system does not report it.

    Not `getrusage`: its value starts at the peak of the parent process.
    """
    try:
        lines = _STATUS.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def _request(
    model: Model, sample: Floats, threads: int | None, provider: str | None, engines: Engines
) -> dict[str, Any]:
    """Return the request to a fresh process, as JSON values."""
    return {
        "path": sys.path,
        "status": str(_STATUS),
        "model": str(model.path.resolve()),
        "runtime": model.runtime,
        "precision": model.precision,
        "session": None if model.session is None else model.session.to_dict(),
        "shape": sample.shape,
        "threads": threads,
        "provider": provider,
        "engines": {"options": asdict(engines.options), "cache": str(engines.cache.resolve())},
    }


def _cold_start(request: dict[str, Any]) -> tuple[float, int | None]:
    """Return the milliseconds from a process's start to its logits, and its peak in KiB."""
    begin = time.monotonic_ns()  # one clock for all processes
    said = _run_fresh(_PROBE, request)
    return (said["at_ns"] - begin) / 1e6, said["peak_kib"]


def _run_fresh(code: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run code in a fresh interpreter and return the JSON that it prints last."""
    command = [sys.executable, "-c", code, json.dumps(request)]
    try:
        ran = subprocess.run(  # noqa: S603  our own code
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise MachineError(
            "A fresh process with the model gave no answer: "
            f"{told[-1] if told else 'it said nothing'}. Free some memory and try again, or leave "
            "out the costs."
        ) from error
    return said
