"""A command for each stage, on files: what `compress` runs in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgedistill.cli.recipe_options import read_recipe, recipe_options
from edgedistill.cli.signing import sign_key_option, signed_copy

_OUT = click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write, whole or not at all.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@recipe_options
@click.option("--teacher", help="Your teacher: .onnx, package.module:factory, .joblib, .npz.")
@click.option("--trust", is_flag=True, help="Let a .joblib teacher run the code it contains.")
@_OUT
@_JSON
def train(
    recipe: Path | None, out: Path, as_json: bool, teacher: str | None, trust: bool, **options: Any
) -> None:
    """Train the teacher, or take yours, and keep its answers and saliency maps.

    \b
    Example: edgedistill train --data GunPoint --out runs/teacher
    """
    from edgedistill.pipeline import single_stage as one_stage

    found = read_recipe(recipe, teacher=teacher, trust=trust, **options)
    _run(out, as_json, lambda tell: one_stage.train(found, out, tell))


@click.command()
@recipe_options
@click.option("--teacher", required=True, type=_FOLDER, help="Folder that `train` wrote.")
@_OUT
@_JSON
def distill(recipe: Path | None, teacher: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Distill the student from the teacher's answers and reasons.

    \b
    Example: edgedistill distill --data GunPoint --teacher runs/teacher --out runs/student
    """
    from edgedistill.pipeline import single_stage as one_stage

    found = read_recipe(recipe, **options)
    _run(out, as_json, lambda tell: one_stage.distill(found, teacher, out, tell))


@click.command()
@recipe_options
@click.option("--student", required=True, type=_FOLDER, help="Folder that `distill` wrote.")
@click.option(
    "--with-saliency",
    is_flag=True,
    help="Also write explain.onnx: logits and their saliency map; and explanation.onnx, for a "
    "student that predicts its teacher's map.",
)
@_OUT
@_JSON
def export(
    recipe: Path | None,
    student: Path,
    with_saliency: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Export the student to ONNX, verified on real series; on a miss there is no file.

    \b
    Example: edgedistill export --data GunPoint --student runs/student --out runs/model
    """
    from edgedistill.pipeline import single_stage as one_stage

    found = read_recipe(recipe, **options)
    _run(
        out,
        as_json,
        lambda tell: one_stage.export(found, student, out, tell, with_saliency=with_saliency),
    )


@click.command()
@recipe_options
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ONNX file of the student.",
)
@click.option("--search", is_flag=True, help="Search for mixed precision under the contract.")
@click.option("--teacher", type=_FOLDER, help="Folder that `train` wrote; a search needs it.")
@_OUT
@_JSON
def optimize(
    recipe: Path | None,
    model: Path,
    search: bool,
    teacher: Path | None,
    out: Path,
    as_json: bool,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Make the typed variants of an ONNX file: FP32, FP16, BF16, INT8, W8A16.

    With --search also one in INT8 with as few nodes in float32 as keep the contract.

    \b
    Example: edgedistill optimize --data GunPoint --model runs/model/student.onnx \\
               --search --teacher runs/teacher --out runs/variants
    """
    from edgedistill.cli.output import print_json, print_search, progress
    from edgedistill.pipeline import single_stage as one_stage

    found = read_recipe(recipe, settings=settings, **options)
    if search and found.optimize.search is None:
        found = read_recipe(recipe, settings=(*settings, "optimize.search={}"), **options)
    with progress() as tell:
        facts = one_stage.optimize(found, model, out, tell, teacher=teacher)
    if as_json:
        print_json({"out": str(out), **facts})
        return
    account = facts.pop("search", None)
    _print(out, facts)
    if account is not None:
        print_search(account)


@click.command()
@recipe_options
@click.option("--teacher", required=True, type=_FOLDER, help="Folder that `train` wrote.")
@click.option("--student", required=True, type=_FOLDER, help="Folder that `distill` wrote.")
@click.option("--variants", required=True, type=_FOLDER, help="Folder that `optimize` wrote.")
@_OUT
@sign_key_option
@_JSON
def bundle(
    recipe: Path | None,
    teacher: Path,
    student: Path,
    variants: Path,
    out: Path,
    sign_key: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure the variants, choose under the contract, write report and bundle.

    Exits with 4, and writes the report alone, if the contract is broken.

    \b
    Example: edgedistill bundle --data GunPoint --teacher runs/teacher --student runs/student \\
               --variants runs/variants --out runs/result
    """
    from edgedistill.cli.output import print_json, print_report, progress
    from edgedistill.errors import ContractError
    from edgedistill.pipeline import single_stage as one_stage
    from edgedistill.report import to_json

    found = read_recipe(recipe, **options)
    with progress() as tell:
        report = one_stage.bundle(found, teacher, student, variants, out, tell)
    signed_copy(out / "bundle.zip" if report.verdict == "kept" else None, sign_key, out)
    if as_json:
        print_json({"out": str(out), "report": to_json(report)})
    else:
        print_report(report)
        click.echo(f"wrote {out}")
    return 0 if report.verdict == "kept" else ContractError.exit_code


def _run(out: Path, as_json: bool, work: Any) -> None:
    """Run a stage under a progress bar and print what it found."""
    from edgedistill.cli.output import print_json, progress

    with progress() as tell:
        facts = work(tell)
    if as_json:
        print_json({"out": str(out), **facts})
    else:
        _print(out, facts)


def _print(out: Path, facts: dict[str, Any]) -> None:
    from edgedistill.cli.output import print_facts, to_text

    print_facts(str(out), [(name, to_text(value)) for name, value in facts.items()])
