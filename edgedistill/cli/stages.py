"""`init`, `compress`, and a command for each stage that `compress` runs in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgedistill.cli.recipe_options import read_recipe, recipe_options
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.io.progress import ProgressCallback
    from edgedistill.pipeline.run import Result
    from edgedistill.pipeline.stages.data import DataCallback

_TEMPLATE = Path(__file__).with_name("recipe.yaml")
_OUT = click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write, whole or not at all.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_SIGN_KEY = click.option(
    "--sign-key",
    metavar="KEY",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="SSH key; also write the bundle signed with it, as signed.zip in the folder of --out.",
)
_TEACHER = click.option(
    "--teacher", help="Your teacher: .onnx, package.module:factory, .joblib, .npz."
)
_TRUST = click.option(
    "--trust", is_flag=True, help="Let a .joblib teacher run the code it contains."
)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("path", default="recipe.yaml", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--data", default="GunPoint", show_default=True, help="Series the recipe names.")
@click.option("--force", is_flag=True, help="Replace PATH if it exists.")
def init(path: Path, data: str, force: bool) -> None:
    """Write a commented recipe to PATH (default: recipe.yaml).

    \b
    Example: edgedistill init --data GunPoint
    """
    import json

    from edgedistill.errors import UsageError
    from edgedistill.io.files import write_text

    if path.exists() and not force:
        raise UsageError(f"{path} exists. Name another file, or replace it with --force.")
    text = _TEMPLATE.read_text(encoding="utf-8")
    write_text(path, text.replace("train: GunPoint", f"train: {json.dumps(data)}", 1))
    echo(f"Wrote {path}. Next: edgedistill compress {path}")


@click.command()
@recipe_options
@_TEACHER
@click.option("--target", metavar="NAME", help="Board to suit, such as aarch64.")
@_TRUST
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run.  [default: runs/NAME of the recipe or data]",
)
@_SIGN_KEY
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def compress(
    recipe: Path | None, out: Path | None, sign_key: Path | None, as_json: bool, **options: Any
) -> int:
    """Run all stages of RECIPE, or of what --data names; go on where an earlier run stopped.

    Exits with 0 if the contract is kept, 4 if it is broken.

    \b
    Examples:
      edgedistill compress recipe.yaml --set student.width=16
      edgedistill compress --data train.npz --test test.npz --teacher teacher.onnx
    """
    from edgedistill.cli.output import print_data, print_json, progress
    from edgedistill.errors import ContractError
    from edgedistill.pipeline import run as pipeline
    from edgedistill.report import to_json

    run_recipe = read_recipe(recipe, **options)
    folder = out or Path("runs") / (run_recipe.name or Path(run_recipe.data.train).stem)
    with progress() as on_progress:
        result = pipeline.compress(run_recipe, folder, on_progress, print_data)
    signed = _signed_copy(result.bundle, sign_key, folder)
    paths = {"page": str(result.page), "bundle": str(result.bundle) if result.bundle else None}
    if signed:
        paths["signed"] = str(signed)
    if as_json:
        facts = {"stages": dict(result.stages), "costs": dict(result.costs)}
        if result.teacher_notes:
            facts["teacher_notes"] = list(result.teacher_notes)
        print_json({**paths, **facts, "report": to_json(result.report)})
    else:
        _print_result(result, folder, paths)
    return 0 if result.report.verdict == "kept" else ContractError.exit_code


@click.command()
@recipe_options
@_TEACHER
@_TRUST
@_OUT
@_JSON
def train(
    recipe: Path | None, out: Path, as_json: bool, teacher: str | None, trust: bool, **options: Any
) -> None:
    """Train the teacher, or take yours, and keep its answers and saliency maps.

    \b
    Example: edgedistill train --data GunPoint --out runs/teacher
    """
    from edgedistill.pipeline import single_stage

    run_recipe = read_recipe(recipe, teacher=teacher, trust=trust, **options)
    _run(out, as_json, lambda *callbacks: single_stage.train(run_recipe, out, *callbacks))


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
    from edgedistill.pipeline import single_stage

    run_recipe = read_recipe(recipe, **options)
    _run(
        out,
        as_json,
        lambda *callbacks: single_stage.distill(run_recipe, teacher, out, *callbacks),
    )


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
    from edgedistill.pipeline import single_stage

    run_recipe = read_recipe(recipe, **options)
    _run(
        out,
        as_json,
        lambda *callbacks: single_stage.export(
            run_recipe, student, out, *callbacks, with_saliency=with_saliency
        ),
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
    from edgedistill.cli.output import print_data, print_json, print_search, progress
    from edgedistill.pipeline import single_stage

    run_recipe = read_recipe(recipe, settings=settings, **options)
    if search and run_recipe.optimize.search is None:
        run_recipe = read_recipe(recipe, settings=(*settings, "optimize.search={}"), **options)
    with progress() as on_progress:
        facts = single_stage.optimize(
            run_recipe, model, out, on_progress, print_data, teacher=teacher
        )
    if as_json:
        print_json({"out": str(out), **facts})
        return
    search_summary = facts.pop("search", None)
    _print(out, facts)
    if search_summary is not None:
        print_search(search_summary)


@click.command()
@recipe_options
@click.option("--teacher", required=True, type=_FOLDER, help="Folder that `train` wrote.")
@click.option("--student", required=True, type=_FOLDER, help="Folder that `distill` wrote.")
@click.option("--variants", required=True, type=_FOLDER, help="Folder that `optimize` wrote.")
@_OUT
@_SIGN_KEY
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
    from edgedistill.cli.output import print_data, print_json, print_report, progress
    from edgedistill.errors import ContractError
    from edgedistill.pipeline import single_stage
    from edgedistill.report import to_json

    run_recipe = read_recipe(recipe, **options)
    with progress() as on_progress:
        report = single_stage.bundle(
            run_recipe, teacher, student, variants, out, on_progress, print_data
        )
    _signed_copy(out / "bundle.zip" if report.verdict == "kept" else None, sign_key, out)
    if as_json:
        print_json({"out": str(out), "report": to_json(report)})
    else:
        print_report(report)
        echo(f"wrote {out}")
    return 0 if report.verdict == "kept" else ContractError.exit_code


def _run(
    out: Path, as_json: bool, stage: Callable[[ProgressCallback, DataCallback], dict[str, Any]]
) -> None:
    """Run a stage under a progress bar and print its facts."""
    from edgedistill.cli.output import print_data, print_json, progress

    with progress() as on_progress:
        facts = stage(on_progress, print_data)
    if as_json:
        print_json({"out": str(out), **facts})
    else:
        _print(out, facts)


def _print_result(result: Result, folder: Path, paths: dict[str, str | None]) -> None:
    """Print networks, report and files of a run."""
    from edgedistill.cli.output import print_report, print_rows

    print_rows(
        "Networks",
        ("", "parameters", "multiply-accumulates", "bytes"),
        [(name, *(f"{n:,}" for n in cost.values())) for name, cost in result.costs.items()],
    )
    for note in result.teacher_notes:
        echo(f"teacher: {note}")
    print_report(result.report, folder)
    for name, path in paths.items():
        echo(f"{name}: {path or 'none, because the contract is broken'}")


def _print(out: Path, facts: dict[str, Any]) -> None:
    from edgedistill.cli.output import print_facts, to_text

    shown = {name: value for name, value in facts.items() if name != "data"}  # it is on stderr
    print_facts(str(out), [(name, to_text(value)) for name, value in shown.items()])


def _signed_copy(bundle: Path | None, key: Path | None, folder: Path) -> Path | None:
    """Write a signed copy of a bundle into a folder, if there is a bundle and a key."""
    from edgedistill.bundle import location
    from edgedistill.bundle.signature import sign_bundle

    if bundle is None or key is None:
        return None
    return sign_bundle(bundle, key, folder / location.SIGNED)
