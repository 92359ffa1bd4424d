"""`compare`: how far two models differ, and the first layer that differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.cli.recipe_options import data_options, read_data_recipe
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.compare.comparison import Comparison
    from edgedistill.compare.layer_errors import LayerError
    from edgedistill.evaluation.metrics import Estimate

_PATH = click.Path(path_type=Path)
_WORST = 3  # layers listed as adding most error
_UNPAIRED = 5  # layers without a counterpart that are listed


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
def compare(a: Path, b: Path, as_json: bool, **options: Any) -> int:
    """Say how far B is from A, and at which layer they part.

    A and B are ONNX files, folders of runs, folders that `train` or `distill` wrote, bundles, or
    engines where they were built. Exits with 0 if they are alike within the tolerance of the
    coarser precision and a bundle's contract, with 4 if they are not.

    \b
    Examples:
      edgedistill compare runs/student runs/model/student.onnx --data GunPoint
      edgedistill compare bundle.zip bundle.zip --model-a ort-fp32 --model-b ort-int8
    """
    from edgedistill.cli.output import print_json
    from edgedistill.errors import VerificationError

    origin, comparison = _compare(a, b, **options)
    if as_json:
        print_json({"a": str(a), "b": str(b), "origin": origin, **comparison.to_json()})
    else:
        _print(origin, comparison)
    return 0 if comparison.alike else VerificationError.exit_code


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
    """Compare the models; return the origin of the series, too."""
    from edgedistill.cli.output import progress
    from edgedistill.compare import comparison
    from edgedistill.compare.inputs import open_comparison

    recipe = read_data_recipe([a, b], data, test, settings)
    with (
        open_comparison(a, b, models=(model_a, model_b), recipe=recipe, count=series) as inputs,
        progress() as on_progress,
    ):
        result = comparison.compare(
            inputs.first,
            inputs.second,
            inputs.series,
            inputs.plan,
            tolerance=tolerance,
            contract=inputs.contract,
            memory_bytes=memory * 1024**2,
            on_progress=on_progress,
        )
    return inputs.origin, result


def _print(origin: str, comparison: Comparison) -> None:
    from edgedistill.cli.output import print_rows

    contract = " and the contract" if comparison.tolerance.by_contract else ""
    print_rows(
        f"B against A on {origin}",
        ("", "measured", "95 % interval", f"allowed in {comparison.precision.upper()}{contract}"),
        _measures(comparison),
    )
    if comparison.layers:
        print_rows(
            "Layers, in the order of A",
            ("node", "operator", "relative error", "added here", ""),
            [_layer(layer) for layer in comparison.layers],
        )
    for note in _notes(comparison):
        echo(note)
    verdict = "alike" if comparison.alike else f"they diverge: {'; '.join(comparison.reasons)}"
    echo(f"\nverdict: {verdict}")


def _measures(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    from edgedistill.report.format import decimals, percent

    outputs, allowed = comparison.outputs, comparison.tolerance
    logits = "" if allowed.logits is None else f"{allowed.logits:g} at most"
    agreement = "" if allowed.agreement is None else f"{percent(allowed.agreement)} at least"
    kl = "" if allowed.kl is None else f"{allowed.kl:g} at most"
    saliency = "" if allowed.saliency is None else f"{allowed.saliency:g} at least"
    spearman = "" if allowed.spearman is None else f"{allowed.spearman:g} at least"
    return [
        ("relative error of a logit, largest", f"{outputs.logit_error:.2g}", "", logits),
        ("relative error of a logit, median", f"{outputs.logit_error_median:.2g}", "", ""),
        ("same class", *_estimate(outputs.agreement, percent), agreement),
        ("KL(A, B), nats", *_estimate(outputs.kl, lambda x: f"{x:.2g}"), kl),
        ("saliency, Pearson", *_estimate(outputs.saliency_pearson, decimals), saliency),
        ("saliency, Spearman", *_estimate(outputs.saliency_spearman, decimals), spearman),
    ]


def _estimate(value: Estimate | None, write: Callable[[float], str]) -> tuple[str, str]:
    if value is None:
        return "not measured", ""
    return write(value.value), f"{write(value.low)} to {write(value.high)}"


def _layer(layer: LayerError) -> tuple[str, ...]:
    added = "" if layer.added is None else f"{layer.added:.2g}"
    remarks = ["beyond"] if layer.beyond and not layer.other else []
    remarks += ["another value in B"] if layer.other else []
    remarks += [] if layer.reason is None else [layer.reason]
    return layer.node, layer.operator, f"{layer.error:.2g}", added, ": ".join(remarks)


def _notes(comparison: Comparison) -> list[str]:
    notes = list(comparison.notes)
    first = comparison.first
    if first is not None:
        notes.append(
            f"The first layer beyond {comparison.tolerance.layers:g} is {first.node} "
            f"({first.operator}), with {first.error:.2g}."
        )
    elif comparison.layers:
        rest = "No other" if any(layer.other for layer in comparison.layers) else "No"
        notes.append(f"{rest} layer is beyond {comparison.tolerance.layers:g}.")
    worst = [f"{layer.node} ({layer.added:.2g})" for layer in comparison.worst(_WORST)]
    if worst:
        notes.append(f"Most error is added by {', '.join(worst)}.")
    for letter, names in zip("AB", comparison.alone, strict=True):
        if names:
            more = ", …" if len(names) > _UNPAIRED else ""
            notes.append(
                f"{len(names)} layers of {letter} have no counterpart: "
                f"{', '.join(names[:_UNPAIRED])}{more}."
            )
    return notes
