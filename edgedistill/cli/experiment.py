"""`experiment`: data sets times methods times seeds, run and reported."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.experiment.results import Row
    from edgedistill.report import Data

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_MEASURES = "accuracy, auc_prc, agreement, kl, ece, saliency_pearson, unseen_pearson, ..."


class _RunsByDefault(click.Group):
    """A group whose first argument may be left out: a plan is run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RunsByDefault)
def experiment() -> None:
    """Compare methods on many sets and seeds; `experiment PLAN.yaml` is `experiment run`.

    \b
    Examples:
      edgedistill experiment plan.yaml --out runs/experiment
      edgedistill experiment report runs/experiment --metric saliency_pearson
    """


@experiment.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the experiment; one that was stopped goes on.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes.  [default: one a core]")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="This machine, or a Ray cluster.",
)
@_JSON
def run(plan: Path, out: Path, jobs: int | None, executor: Any, as_json: bool) -> int:
    """Run every set, method and seed of PLAN that is not done yet.

    Exits with 1 if a run failed; the others are done nevertheless.

    \b
    Example: edgedistill experiment run plan.yaml --out runs/experiment --jobs 4
    """
    from edgedistill.cli.output import print_data, print_json, progress
    from edgedistill.errors import EdgeDistillError
    from edgedistill.experiment.plan import load
    from edgedistill.experiment.results import RESULTS
    from edgedistill.experiment.run import run as run_experiment

    experiment_plan = load(plan)
    sets: list[Data] = []

    def on_data(data: Data) -> None:
        print_data(data)
        sets.append(data)

    with progress() as on_progress:
        rows = run_experiment(
            experiment_plan,
            out,
            jobs=jobs,
            executor=executor,
            on_progress=on_progress,
            on_data=on_data,
        )
    failed = [row for row in rows if row.error is not None]
    if as_json:
        print_json(_json_facts(out / RESULTS, sets, rows))
    else:
        _print(rows)
        echo(f"wrote {out / RESULTS}")
    for row in failed:
        echo(f"failed: {row.set}, {row.method}, seed {row.seed}: {row.error}", err=True)
    return EdgeDistillError.exit_code if failed else 0


@experiment.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--metric", default="accuracy", show_default=True, help=f"To rank methods by: {_MEASURES}"
)
@click.option(
    "--published",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV of accuracies to print beside ours; its first column names the set.",
)
@click.option("--column", "columns", multiple=True, help="Of that file; may be given repeatedly.")
@_JSON
def report(
    folder: Path, metric: str, published: Path | None, columns: tuple[str, ...], as_json: bool
) -> None:
    """Write report.html, report.md and figures into FOLDER: means, ranks, tests.

    \b
    Example: edgedistill experiment report runs/experiment --metric saliency_pearson
    """
    from edgedistill.cli.output import print_json, print_rows
    from edgedistill.errors import UsageError
    from edgedistill.experiment.report import PAGE, write_report
    from edgedistill.experiment.results import read_published

    if (published is None) != (not columns):
        raise UsageError("--published and --column go together: a file, and what to read in it.")
    accuracies = None if published is None else read_published(published, columns)
    data = write_report(folder, metric, accuracies)
    page = folder / PAGE
    if as_json:
        print_json({"page": str(page), **data.to_json()})
        return
    for table in data.tables:
        print_rows(table.title, table.head, table.rows)
    echo("\n".join(data.sentences))
    echo(f"page: {page}")


def _json_facts(results: Path, sets: list[Data], rows: list[Row]) -> dict[str, Any]:
    """Return what `run --json` prints."""
    runs = [{"set": r.set, "method": r.method, "seed": r.seed, **_describe_row(r)} for r in rows]
    return {"results": str(results), "data": [asdict(each) for each in sets], "runs": runs}


def _describe_row(row: Any) -> dict[str, Any]:
    return {"status": row.status, "error": row.error, **row.numbers}


def _print(rows: Any) -> None:
    """Print a line for each run with the most common measures."""
    from edgedistill.cli.output import print_rows
    from edgedistill.report.format import NOT_MEASURED, decimals

    measures = ("accuracy", "agreement", "kl", "saliency_pearson", "unseen_pearson")
    print_rows(
        "Runs",
        ("set", "method", "seed", *measures),
        [
            (
                row.set,
                row.method,
                str(row.seed),
                *(
                    decimals(row.numbers[name]) if name in row.numbers else NOT_MEASURED
                    for name in measures
                ),
            )
            for row in rows
        ],
    )
