"""The command line of the device side: `python -m edgedistill.device`.

argparse, not click: a board has NumPy and a runtime, nothing else. Everything but the
parser is imported after parsing, so that help is instant and Ctrl-C is always caught.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill import __version__
from edgedistill.device.engine_options import add_engine_options, chosen_engines
from edgedistill.errors import ContractError, EdgeDistillError, MachineError

if TYPE_CHECKING:
    from edgedistill.contract import Clause
    from edgedistill.device.benchmark import Latency
    from edgedistill.device.tuning import Tuning
    from edgedistill.device.validate import Validation

KEPT, BROKEN, INTERRUPTED = 0, ContractError.exit_code, 130
_INTERRUPTED = "Interrupted; nothing half written was kept."
_EPILOG = """example:
  python -m edgedistill.device validate gunpoint.zip --threads 2 --out report.json

exit codes:
  0  the contract is kept
  2  a wrong command or argument
  3  a model that cannot be used
  4  the contract is broken
  5  something is missing on this machine
  6  a bundle that cannot be trusted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _stop(_INTERRUPTED, INTERRUPTED)
    except (EdgeDistillError, ImportError, OSError) as error:
        if _is_interrupt(error):
            return _stop(_INTERRUPTED, INTERRUPTED)
        return _stop(*_explained(error))
    return code


def _stop(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _is_interrupt(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind it: hit in an extension's import, it becomes an ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _explained(error: Exception) -> tuple[str, int]:
    if isinstance(error, EdgeDistillError):
        return f"error: {error}", error.exit_code
    if isinstance(error, ImportError):
        needed = error.name or "numpy onnxruntime"
        return (
            f"error: A package cannot be loaded on this machine: {error}. Install it with: "
            f"python -m pip install {needed}",
            MachineError.exit_code,
        )
    return f"error: {error}. Check the path and the disk.", MachineError.exit_code


def _validate(options: argparse.Namespace) -> int:
    from edgedistill import files
    from edgedistill.bundle import open_bundle
    from edgedistill.device.validate import validate
    from edgedistill.report import to_json

    with open_bundle(options.bundle) as bundle:
        found = validate(
            bundle,
            model=options.model,
            threads=options.threads,
            provider=options.provider,
            engines=chosen_engines(options),
            runs=options.runs,
        )
    report = to_json(found.report())
    files.write_json(options.out, report)
    print(json.dumps(report, indent=2) if options.json else _validation_table(found))
    print(f"Wrote {options.out}.", file=sys.stderr)
    return KEPT if found.verdict == "kept" else BROKEN


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
        print(_table([("model", model.name), *runtime.describe().items(), *_latency_rows(found)]))
    return KEPT


def _build(options: argparse.Namespace) -> int:
    from edgedistill.bundle import open_bundle
    from edgedistill.device.engine_report import report

    with open_bundle(options.bundle) as bundle:
        found = report(
            bundle.model(options.model).path,
            bundle.golden().series[:1],
            chosen_engines(options),
            compute_capability=options.compute_capability,
        )
    if options.json:
        print(json.dumps(found.values(), indent=2))
    else:
        print(_table(found.facts()))
        if found.layers:
            print(f"\n{_table(found.table())}")
    return KEPT


def _tune(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.bundle import open_bundle, write_tuned
    from edgedistill.device.tuning import tune

    with open_bundle(options.bundle) as bundle:
        found = tune(bundle.model(options.model), bundle.golden().series)
        if options.out is not None:
            write_tuned(bundle, options.out, {found.model: found.settings})
    print(json.dumps(asdict(found), indent=2) if options.json else _tuning_table(found))
    if options.out is None:
        print("Nothing was stored; --out writes a bundle with these settings.", file=sys.stderr)
    else:
        print(f"Wrote {options.out}.", file=sys.stderr)
    return KEPT


def _environment(options: argparse.Namespace) -> int:
    from edgedistill.device.telemetry import environment

    found = environment()
    print(json.dumps(found, indent=2) if options.json else _table(found.items()))
    return KEPT


def _validation_table(found: Validation) -> str:
    faithful = found.fidelity
    facts = [
        ("bundle", found.bundle),
        ("model", f"{found.model.name}, {found.model.precision}, {found.size_bytes} bytes"),
        ("runtime", found.environment["runtime"]),
        *_latency_rows(found.latency),
        ("agreement with the student", f"{faithful.agreement:.4g}"),
        ("saliency Pearson with the student", f"{faithful.saliency_pearson:.4g}"),
        ("largest logit error", f"{faithful.logit_error:.2e} of the largest logit"),
    ]
    head = ("clause", "measured", "95 % interval", "threshold", "outcome")
    clauses = [_clause_row(clause) for clause in found.clauses]
    return f"{_table(facts)}\n\n{_table([head, *clauses])}\n\nverdict: {found.verdict}"


def _clause_row(clause: Clause) -> tuple[str, ...]:
    measured = clause.measured
    outcome = "kept" if clause.passed else "BROKEN"
    return (
        clause.name,
        f"{measured.value:.4g}",
        f"{measured.low:.4g} to {measured.high:.4g}" if measured.low < measured.high else "exact",
        f"{clause.comparison} {clause.threshold:g}",
        outcome if clause.decided else f"{outcome}, undecided: threshold inside the interval",
    )


def _tuning_table(found: Tuning) -> str:
    head = ("session settings", "median", "95 % interval", "outcome")
    rows = [head]
    for trial in found.trials:
        p50 = trial.p50_ms
        if p50 is None:
            rows.append((str(trial.settings), "", "", "changes the answers"))
            continue
        interval = f"{p50.low:.4f} to {p50.high:.4f}"
        outcome = "taken" if trial.settings == found.settings else ""
        rows.append((str(trial.settings), f"{p50.value:.4f} ms", interval, outcome))
    return f"{_table(rows)}\n\n{found.model}: {found.gain:.3g} times as fast as by default"


def _latency_rows(latency: Latency) -> list[tuple[str, str]]:
    quantiles = {"p50": latency.p50_ms, "p95": latency.p95_ms, "p99": latency.p99_ms}
    rows = [
        (f"latency {name}", f"{q.value:.4f} ms ({q.low:.4f} to {q.high:.4f})")
        for name, q in quantiles.items()
    ]
    return [*rows, ("throughput", f"{latency.series_per_s:.1f} series a second")]


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return rows of the same number of cells with their columns aligned."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgedistill.device",
        description="Validate and time a bundle's model on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgedistill {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    validate = commands.add_parser("validate", help="hold the model against its teacher")
    _add_model_options(validate)
    validate.add_argument(
        "--out", type=Path, default=Path("report.json"), help="report (default: %(default)s)"
    )
    validate.set_defaults(command=_validate)
    benchmark = commands.add_parser("benchmark", help="time the model on one series")
    _add_model_options(benchmark)
    benchmark.set_defaults(command=_benchmark)
    build = commands.add_parser("build", help="build the model's TensorRT engine, show its layers")
    _add_bundle(build)
    add_engine_options(build)
    build.add_argument(
        "--compute-capability", metavar="X.Y", help="build for a GPU elsewhere; TensorRT-RTX only"
    )
    build.set_defaults(command=_build)
    tune = commands.add_parser("tune", help="find the fastest session settings for the model")
    _add_bundle(tune)
    tune.add_argument("--out", type=Path, metavar="BUNDLE", help="bundle that stores the settings")
    tune.set_defaults(command=_tune)
    environment = commands.add_parser("environment", help="say what machine this is")
    environment.set_defaults(command=_environment)
    for command in (validate, benchmark, build, tune, environment):
        command.add_argument("--json", action="store_true", help="print JSON, not a table")
    return parser


def _add_bundle(command: argparse.ArgumentParser) -> None:
    command.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip")
    command.add_argument("--model", metavar="NAME", help="instead of the chosen one")


def _add_model_options(command: argparse.ArgumentParser) -> None:
    _add_bundle(command)
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


if __name__ == "__main__":
    sys.exit(main())
