"""What the device program costs beside a five-line ONNX Runtime script, and what watching costs.

    python benchmarks/device.py BUNDLE --python board/bin/python

BUNDLE is the zip of any bundle for ONNX Runtime, PYTHON an interpreter as a board has it: 3.10 or
newer with numpy and onnxruntime. The bundle is installed as deployment does it. Then both programs
start in fresh processes, read one series from stdin as JSON, and answer with its class: peak
memory, and the time to the first line of the answer. They take turns, in another order each time.
At the end the model is timed with and without the sensors being read beside it: those of an Orin
Nano, as files.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle.reader import Bundle, open_bundle
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.device.benchmark import measure, quantile
from edgedistill.device.runtime import start
from edgedistill.device.sensors import Sensors
from edgedistill.device.telemetry import environment
from edgedistill.device.telemetry_sampler import TelemetrySampler
from edgedistill.io import files

MOST_MIB, MOST_RATIO = (
    40,
    1.3,
)  # what is promised: memory above the script, and a cold start over it
SCRIPT = """import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
series = np.array([json.load(sys.stdin)], dtype=np.float32)
print(session.run(None, {session.get_inputs()[0].name: series})[0].argmax())
"""
# What a process needs at most is asked of its own parent. A parent as large as this one would be
# counted: the kernel starts a child's peak at the memory of what it was forked from.
LAUNCHER = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
with open(sys.argv[1], "rb") as series:
    child = subprocess.Popen(sys.argv[2:], stdin=series, stdout=subprocess.PIPE)
line = child.stdout.readline()
elapsed = time.perf_counter() - begin
child.stdout.read()
status, usage = os.wait4(child.pid, 0)[1:]
if status or not line.strip():
    sys.exit(f"{sys.argv[2:]} ended with {status}")
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps({"ms": 1e3 * elapsed, "cpu_ms": 1e3 * cpu, "mib": usage.ru_maxrss / 1024}))
"""


def main() -> None:
    """Measure, print, and write the results to a file, if one is named."""
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        release = _installed(options.bundle, options.python, folder)
        with open_bundle(release / "bundle") as bundle:
            found = {
                "host": environment(),
                "board": _versions(options.python),
                "model": {"bundle": bundle.name, "bytes": bundle.model().size_bytes},
                "programs": _programs(bundle, release, options.python, options.repeats),
                "watching": _watching(bundle, folder / "sensors", options.rounds),
            }
    if options.out is not None:
        files.write_json(options.out, found)
    _report(found)


def _installed(bundle: Path, python: Path, folder: Path) -> Path:
    """Install a bundle as deployment does, and return the release's folder."""
    program = folder / NAME
    write_program(program)
    install = ["--root", folder / "root", "install", bundle, "--program", program, "--unsigned"]
    ran = subprocess.run(
        [str(part) for part in (python, program, "releases", *install, "--json")],
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(f"The release was not installed:\n{ran.stderr}")
    return Path(json.loads(ran.stdout)["path"])


def _programs(bundle: Bundle, release: Path, python: Path, repeats: int) -> dict[str, Any]:
    """Return peak memory and cold start of both programs, and how they compare."""
    series, script = release.parent / "series.json", release.parent / "script.py"
    series.write_text(json.dumps(bundle.golden().series[0].tolist()) + "\n", "utf-8")
    script.write_text(SCRIPT, "utf-8")
    commands: dict[str, list[Path | str]] = {
        "program": [release / NAME, "predict", release, "--preprocessed", "--json"],
        "script": [script, bundle.model().path],
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    order = np.random.default_rng(0)
    for turn in range(repeats + 1):  # the first of each fills the caches of the disk
        for index in order.permutation(len(commands)):
            name = list(commands)[index]
            said = _launched(python, series, commands[name])
            if turn:
                runs[name].append(said)
    medians = {
        name: {unit: _median([run[unit] for run in took]) for unit in ("ms", "cpu_ms", "mib")}
        for name, took in runs.items()
    }
    ours, theirs = medians["program"], medians["script"]
    return {
        **medians,
        "repeats": repeats,
        "mib_above": ours["mib"]["value"] - theirs["mib"]["value"],
        "cold_start_ratio": ours["ms"]["value"] / theirs["ms"]["value"],
        "cpu_ratio": ours["cpu_ms"]["value"] / theirs["cpu_ms"]["value"],
    }


def _launched(python: Path, series: Path, command: list[Path | str]) -> dict[str, float]:
    launcher = [sys.executable, "-S", "-E", "-c", LAUNCHER, series, python, *command]
    ran = subprocess.run(launcher, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{command[0]} failed:\n{ran.stderr}")
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _watching(bundle: Bundle, root: Path, rounds: int) -> dict[str, Any]:
    """Return the p95 of a call with the sensors' thread beside it, and without."""
    sensors = Sensors(_orin_nano(root))
    runtime, sample = start(bundle.model()), bundle.golden().series[:1]
    runs = int(np.clip(1e3 / measure(runtime, sample).p50_ms.value, 200, 50_000))  # a second
    p95_ms: dict[str, list[float]] = {"alone": [], "watched": []}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for watched in order.permutation(2):
            with TelemetrySampler(sensors) if watched else nullcontext():
                found = measure(runtime, sample, runs=runs)
            p95_ms["watched" if watched else "alone"].append(found.p95_ms.value)
    medians = {name: _median(values) for name, values in p95_ms.items()}
    return {
        "p95_ms": medians,
        "rounds": rounds,
        "ratio": medians["watched"]["value"] / medians["alone"]["value"],
        "reading_ms": _median([_elapsed_ms(sensors.read) for _ in range(200)]),
    }


def _orin_nano(root: Path) -> Path:
    """Write the sensor files that the tests have."""
    path = Path(__file__).parents[1] / "tests" / "device" / "sysfs.py"
    spec = importlib.util.spec_from_file_location("sysfs", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be imported.")
    sysfs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sysfs)
    written: Path = sysfs.write(root, sysfs.ORIN_NANO)
    return written


def _elapsed_ms(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - begin)


def _median(values: list[float]) -> dict[str, float]:
    """Return a median with its 95 % interval."""
    return asdict(quantile(np.array(values), 0.5))


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json, platform, numpy, onnxruntime; print(json.dumps({'python': "
        "platform.python_version(), 'numpy': numpy.__version__, "
        "'onnxruntime': onnxruntime.__version__}))"
    )
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(ran.stdout)
    return found


def _report(results: dict[str, Any]) -> None:
    programs, watching = results["programs"], results["watching"]
    print(f"Python {results['board']['python']}, onnxruntime {results['board']['onnxruntime']}")
    print(f"{'':10}{'peak MiB':>10}{'cold start ms':>26}{'CPU ms':>10}")
    for name in ("program", "script"):
        mib, ms, cpu = (programs[name][unit] for unit in ("mib", "ms", "cpu_ms"))
        start_ms = f"{ms['value']:.0f} ({ms['low']:.0f} to {ms['high']:.0f})"
        print(f"{name:10}{mib['value']:10.1f}{start_ms:>26}{cpu['value']:10.0f}")
    print(f"CPU time over the script's: {programs['cpu_ratio']:.2f}x, of the whole process")
    for what, value, most, unit in (
        ("memory above the script", programs["mib_above"], MOST_MIB, " MiB"),
        ("cold start over the script's", programs["cold_start_ratio"], MOST_RATIO, "x"),
    ):
        outcome = "kept" if value <= most else "MISSED"
        print(f"{what}: {value:.2f}{unit}, at most {most}{unit}: {outcome}")
    print(
        f"p95 of a call beside the sensors' thread: {watching['ratio']:.3f}x; "
        f"a reading takes {watching['reading_ms']['value']:.2f} ms"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path, help="a .zip")
    parser.add_argument("--python", type=Path, required=True, help="as a board has it")
    parser.add_argument("--repeats", type=int, default=21, help="of each program")
    parser.add_argument("--rounds", type=int, default=21, help="with and without sensors")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
