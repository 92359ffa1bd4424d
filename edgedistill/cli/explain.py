"""`explain`: a model's prediction for one series, and its saliency."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.cli.recipe_options import data_options, read_data_recipe
from edgedistill.io.terminal import echo

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
def explain(
    model: Path, as_json: bool, png: Path | None, html: Path | None, **options: Any
) -> None:
    """Say why MODEL, and its teacher, decide as they do on one series.

    MODEL is an ONNX file, the folder of a run, a folder that `train` or `distill` wrote, or a
    bundle. All but a run and a bundle need --data.

    \b
    Examples:
      edgedistill explain runs/GunPoint --index 3 --png why.png
      edgedistill explain student.onnx --data GunPoint --teacher teacher.onnx
    """
    from edgedistill.cli.output import print_json

    report = _explain(model, **options)
    _write(report, png, html)
    if as_json:
        print_json({"model": str(model), **report.to_json(_WINDOWS)})
    elif png is None and html is None:
        _print(report)


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
    from edgedistill import explain as explanation
    from edgedistill.cli.output import progress

    series = explanation.open_input(
        model,
        index,
        recipe=read_data_recipe([model], data, test, settings),
        teacher=teacher,
        trust=trust,
        windows=explanation.PlanOverrides(width=width, stride=stride, baseline=baseline),
    )
    with progress() as on_progress:
        return explanation.explain(series, method, on_progress)


def _write(report: ExplanationReport, png: Path | None, html: Path | None) -> None:
    """Write picture and page as wanted; both are drawn before the first file is touched."""
    from edgedistill.io.files import whole_file, write_text

    page = picture = None
    if html is not None:
        from edgedistill.explain.plot import render

        page = render(report, _WINDOWS)
    if png is not None:
        from edgedistill.explain import plot as drawing

        picture = drawing.png(report)
    if html is not None and page is not None:
        write_text(html, page)
        echo(f"Wrote {html}.", err=True)
    if png is not None and picture is not None:
        with whole_file(png) as partial:
            partial.write_bytes(picture)
        echo(f"Wrote {png}.", err=True)


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
                f"{attribution.role} ({attribution.name})",
                names[attribution.prediction],
                percent(attribution.probability),
                decimals(float(attribution.logits[report.target])),
            )
            for attribution in report.attributions
        ],
    )
    for attribution in report.attributions:
        kl = [] if attribution.kl is None else ["KL"]
        rows = [
            (
                f"{plan.starts[w]} to {plan.starts[w] + plan.width - 1}",
                decimals(float(attribution.scores[w])),
                *([] if attribution.kl is None else [decimals(float(attribution.kl[w]))]),
            )
            for w in report.windows(attribution, _WINDOWS)
        ]
        print_rows(f"Strongest windows, {attribution.role}", ("steps", "score", *kl), rows)
    for caption in captions(report)[1:]:
        echo(caption)
