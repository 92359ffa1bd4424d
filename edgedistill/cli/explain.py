"""`explain`: why a model says what it says of one series."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.cli.recipe_options import data_options, recipe_of

if TYPE_CHECKING:
    from edgedistill.explain import ExplanationReport

_FILE = click.Path(dir_okay=False, path_type=Path)
_WINDOWS = 5  # of each model that are listed


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@data_options
@click.option("--index", default=0, show_default=True, help="Which test or golden series.")
@click.option("--teacher", help="Teacher to compare with: as `train` takes it, or its folder.")
@click.option("--trust", is_flag=True, help="Let a .joblib teacher run the code it contains.")
@click.option(
    "--method",
    type=click.Choice(["occlusion", "gradient-input", "integrated-gradients"]),
    default="occlusion",
    show_default=True,
    help="Gradients are other quantities, and of torch models only.",
)
@click.option("--width", type=click.IntRange(min=1), help="Steps of a window.")
@click.option("--stride", type=click.IntRange(min=1), help="Steps between windows.")
@click.option("--baseline", type=click.Choice(["mean", "zero", "local_mean"]), help="What covers.")
@click.option("--png", type=_FILE, help="Draw a picture.")
@click.option("--html", type=_FILE, help="Write a page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def explain(model: Path, as_json: bool, png: Path | None, html: Path | None, **asked: Any) -> None:
    """Say why MODEL, and its teacher, decide as they do on one series.

    MODEL is an ONNX file, the folder of a run, a folder that `train` or `distill` wrote, or a
    bundle. All but a run and a bundle need --data.

    \b
    Examples:
      edgedistill explain runs/GunPoint --index 3 --png why.png
      edgedistill explain student.onnx --data GunPoint --teacher teacher.onnx
    """
    from edgedistill.cli.output import print_json

    account = _explain(model, **asked)
    _write(account, png, html)
    if as_json:
        print_json({"model": str(model), **account.to_json(_WINDOWS)})
    elif png is None and html is None:
        _print(account)


def _explain(
    model: Path,
    *,
    data: str | None,
    test: str | None,
    settings: tuple[str, ...],
    index: int,
    teacher: str | None,
    trust: bool,
    method: Any,
    width: int | None,
    stride: int | None,
    baseline: Any,
) -> ExplanationReport:
    from edgedistill import explain as explaining
    from edgedistill.cli.output import progress

    subject = explaining.open_input(
        model,
        index,
        recipe=recipe_of([model], data, test, settings),
        teacher=teacher,
        trust=trust,
        windows=explaining.PlanOverrides(width=width, stride=stride, baseline=baseline),
    )
    with progress() as tell:
        return explaining.explain(subject, method, tell)


def _write(report: ExplanationReport, png: Path | None, html: Path | None) -> None:
    """Write what is asked for; all is drawn before the first file is touched."""
    from edgedistill.io.files import whole_file, write_text

    page = picture = None
    if html is not None:
        from edgedistill.explain.page import render

        page = render(report, _WINDOWS)
    if png is not None:
        from edgedistill.explain import plot as drawing

        picture = drawing.png(report)
    if html is not None and page is not None:
        write_text(html, page)
        click.echo(f"Wrote {html}.", err=True)
    if png is not None and picture is not None:
        with whole_file(png) as partial:
            partial.write_bytes(picture)
        click.echo(f"Wrote {png}.", err=True)


def _print(report: ExplanationReport) -> None:
    from edgedistill.cli.output import print_rows
    from edgedistill.explain.plot import captions
    from edgedistill.report.format import decimals, percent

    names, plan = report.input.class_names, report.input.plan
    print_rows(
        f"{report.input.origin}, of class {report.input.label}",
        ("", "predicts", "probability", f"logit of {names[report.target]}"),
        [
            (
                f"{told.role} ({told.name})",
                names[told.prediction],
                percent(told.probability),
                decimals(float(told.logits[report.target])),
            )
            for told in report.attributions
        ],
    )
    for told in report.attributions:
        kl = [] if told.kl is None else ["KL"]
        rows = [
            (
                f"{plan.starts[w]} to {plan.starts[w] + plan.width - 1}",
                decimals(float(told.scores[w])),
                *([] if told.kl is None else [decimals(float(told.kl[w]))]),
            )
            for w in report.windows(told, _WINDOWS)
        ]
        print_rows(f"Strongest windows, {told.role}", ("steps", "score", *kl), rows)
    for sentence in captions(report)[1:]:
        click.echo(sentence)
