"""`compare`: where two models part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.cli.recipe_options import data_options, recipe_of

if TYPE_CHECKING:
    from edgedistill.compare.comparison import Comparison
    from edgedistill.compare.layer_errors import LayerError
    from edgedistill.evaluation.metrics import Estimate

_PATH = click.Path(path_type=Path)
_WORST = 3  # layers that add most, in words
_ALONE = 5  # layers without a counterpart that are named


@click.command()
@click.argument("a", type=_PATH)
@click.argument("b", type=_PATH)
@data_options
@click.option("--model-a", help="Model of A if it is a bundle, instead of the chosen one.")
@click.option("--model-b", help="Model of B if it is a bundle, instead of the chosen one.")
@click.option("--series", default=100, show_default=True, help="Series at most, evenly apart.")
@click.option("--tolerance", type=float, help="Relative error allowed of logits and layers.")
@click.option(
    "--memory",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="MiB of inner values that are held at any time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def compare(a: Path, b: Path, as_json: bool, **asked: Any) -> int:
    """Say how far B is from A, and at which layer they part.

    A and B are ONNX files, folders of runs, folders that `train` or `distill` wrote, bundles, or
    engines where they were built. Exits with 0 if they are alike within the tolerance of the
    coarser precision, with 4 if they are not.

    \b
    Examples:
      edgedistill compare runs/student runs/model/student.onnx --data GunPoint
      edgedistill compare bundle.zip bundle.zip --model-a ort-fp32 --model-b ort-int8
    """
    from edgedistill.cli.output import print_json
    from edgedistill.errors import VerificationError

    origin, found = _compare(a, b, **asked)
    if as_json:
        print_json({"a": str(a), "b": str(b), "origin": origin, **found.to_json()})
    else:
        _print(origin, found)
    return 0 if found.alike else VerificationError.exit_code


def _compare(
    a: Path,
    b: Path,
    *,
    data: str | None,
    test: str | None,
    settings: tuple[str, ...],
    model_a: str | None,
    model_b: str | None,
    series: int,
    tolerance: float | None,
    memory: int,
) -> tuple[str, Comparison]:
    """Return what the models were asked about, and what was found."""
    from edgedistill.cli.output import progress
    from edgedistill.compare import comparison
    from edgedistill.compare.inputs import open_comparison

    recipe = recipe_of([a, b], data, test, settings)
    with (
        open_comparison(a, b, models=(model_a, model_b), recipe=recipe, count=series) as opened,
        progress() as tell,
    ):
        found = comparison.compare(
            opened.first,
            opened.second,
            opened.series,
            opened.plan,
            tolerance=tolerance,
            memory_bytes=memory * 1024**2,
            on_progress=tell,
        )
    return opened.origin, found


def _print(origin: str, comparison: Comparison) -> None:
    from edgedistill.cli.output import print_rows

    print_rows(
        f"B against A on {origin}",
        ("", "measured", "95 % interval", f"allowed in {comparison.precision.upper()}"),
        _measures(comparison),
    )
    if comparison.layers:
        print_rows(
            "Layers, in the order of A",
            ("node", "operator", "relative error", "added here", ""),
            [_layer(layer) for layer in comparison.layers],
        )
    for sentence in _notes(comparison):
        click.echo(sentence)
    verdict = "alike" if comparison.alike else f"they diverge: {'; '.join(comparison.reasons)}"
    click.echo(f"\nverdict: {verdict}")


def _measures(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    from edgedistill.report.format import decimals, percent

    outputs, allowed = comparison.outputs, comparison.tolerance
    logits = "" if allowed.logits is None else f"{allowed.logits:g} at most"
    agreement = "" if allowed.agreement is None else f"{percent(allowed.agreement)} at least"
    saliency = "" if allowed.saliency is None else f"{allowed.saliency:g} at least"
    return [
        ("relative error of a logit, largest", f"{outputs.logit_error:.2g}", "", logits),
        ("relative error of a logit, median", f"{outputs.logit_error_median:.2g}", "", ""),
        ("same class", *_estimate(outputs.agreement, percent), agreement),
        ("KL(A, B), nats", *_estimate(outputs.kl, lambda x: f"{x:.2g}"), ""),
        ("saliency, Pearson", *_estimate(outputs.saliency_pearson, decimals), saliency),
        ("saliency, Spearman", *_estimate(outputs.saliency_spearman, decimals), ""),
    ]


def _estimate(value: Estimate | None, shown: Any) -> tuple[str, str]:
    if value is None:
        return "not measured", ""
    return shown(value.value), f"{shown(value.low)} to {shown(value.high)}"


def _layer(layer: LayerError) -> tuple[str, ...]:
    added = "" if layer.added is None else f"{layer.added:.2g}"
    words = ["beyond"] if layer.beyond and not layer.other else []
    words += ["another value in B"] if layer.other else []
    words += [] if layer.reason is None else [layer.reason]
    return layer.node, layer.operator, f"{layer.error:.2g}", added, ": ".join(words)


def _notes(comparison: Comparison) -> list[str]:
    said = list(comparison.notes)
    first = comparison.first
    if first is not None:
        said.append(
            f"The first layer beyond {comparison.tolerance.layers:g} is {first.node} "
            f"({first.operator}), with {first.error:.2g}."
        )
    elif comparison.layers:
        rest = "No other" if any(layer.other for layer in comparison.layers) else "No"
        said.append(f"{rest} layer is beyond {comparison.tolerance.layers:g}.")
    worst = [f"{layer.node} ({layer.added:.2g})" for layer in comparison.worst(_WORST)]
    if worst:
        said.append(f"Most error is added by {', '.join(worst)}.")
    for letter, names in zip("AB", comparison.alone, strict=True):
        if names:
            more = ", …" if len(names) > _ALONE else ""
            said.append(
                f"{len(names)} layers of {letter} have no counterpart: "
                f"{', '.join(names[:_ALONE])}{more}."
            )
    return said
