"""`validate` and `benchmark`: a bundle on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edgedistill.io.terminal import echo

_THREADS = click.option(
    "--threads", type=int, help="CPU threads of one call.  [default: as tuned, else 1]"
)
_PROVIDER = click.option(
    "--provider",
    help="Who computes in ONNX Runtime: cpu, cuda, tensorrt, or its own name of another one.  "
    "[default: cpu]",
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--model", help="Model of the bundle, instead of the chosen one.")
@_THREADS
@_PROVIDER
@click.option("--runs", default=200, show_default=True, help="Timed calls.")
@click.option(
    "--time-limit",
    default=60.0,
    show_default=True,
    help="Seconds of one call of the model, after which it is stopped.",
)
@click.option(
    "--out",
    default="report.json",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Report; its page is written beside it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def validate(
    bundle: Path,
    model: str | None,
    threads: int | None,
    provider: str | None,
    runs: int,
    time_limit: float,
    out: Path,
    as_json: bool,
) -> int:
    """Hold BUNDLE's model, as it runs here, against its teacher under the contract.

    BUNDLE is a folder, a .zip, or the folder of a run.

    Exits with 0 if the contract is kept, 4 if it is broken.

    \b
    Example: edgedistill validate runs/GunPoint
    """
    from edgedistill.bundle.reader import open_bundle
    from edgedistill.cli.output import print_json, print_report
    from edgedistill.device import validate as device
    from edgedistill.errors import ContractError
    from edgedistill.io.files import write_json, write_text
    from edgedistill.report import html, to_json

    with open_bundle(bundle) as opened:
        result = device.validate(
            opened,
            model=model,
            threads=threads,
            provider=provider,
            runs=runs,
            call_limit_s=time_limit,
        )
    report = result.report()
    values = to_json(report)
    write_json(out, values)
    write_text(out.with_suffix(".html"), html.render(values))
    if as_json:
        print_json(values)
    else:
        print_report(report)
    echo(f"Wrote {out} and {out.with_suffix('.html')}.", err=True)
    return 0 if report.verdict == "kept" else ContractError.exit_code


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--model", help="Model of the bundle, instead of the chosen one.")
@_THREADS
@_PROVIDER
@click.option("--runs", default=200, show_default=True, help="Timed calls.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def benchmark(
    path: Path,
    model: str | None,
    threads: int | None,
    provider: str | None,
    runs: int,
    as_json: bool,
) -> None:
    """Time the model of a bundle or a run, PATH, on one series.

    \b
    Example: edgedistill benchmark runs/GunPoint --threads 2
    """
    from dataclasses import asdict

    from edgedistill.bundle.reader import open_bundle
    from edgedistill.cli.output import print_json, print_rows
    from edgedistill.device.benchmark import measure
    from edgedistill.device.runtime import int8_arithmetic, start
    from edgedistill.report.format import int8_speed, milliseconds

    with open_bundle(path) as opened:
        chosen = opened.model(model)
        runtime = start(chosen, threads=threads, provider=provider, exact_int8=False)
        latency = measure(runtime, opened.golden().series[:1], runs=runs)
        int8 = int8_arithmetic(chosen, provider=provider, timed_exact=False)
    if as_json:
        facts = {"model": chosen.name, **asdict(latency), **runtime.describe()}
        print_json({**facts, "int8": None if int8 is None else asdict(int8)})
        return
    rows = [
        (name, milliseconds(q.value), f"{milliseconds(q.low)} to {milliseconds(q.high)}")
        for name, q in (("p50", latency.p50_ms), ("p95", latency.p95_ms), ("p99", latency.p99_ms))
    ]
    print_rows(f"{path}: {chosen.name}", ("latency", "measured", "95 % interval"), rows)
    echo(
        f"{latency.series_per_s:,.0f} series a second, one after the other; {runs} runs\n"
        + "\n".join(f"{name}: {text}" for name, text in runtime.describe().items())
        + ("" if int8 is None else f"\nINT8: {int8_speed(int8)}")
    )
