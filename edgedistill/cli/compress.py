"""`init` and `compress`: a recipe, and the whole way in one command."""

from __future__ import annotations

from pathlib import Path

import click

from edgedistill.cli.recipe_options import read_recipe, recipe_options
from edgedistill.cli.signing import sign_key_option, signed_copy

_TEMPLATE = Path(__file__).with_name("recipe.yaml")


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
    click.echo(f"Wrote {path}. Next: edgedistill compress {path}")


@click.command()
@recipe_options
@click.option("--teacher", help="Your teacher: .onnx, package.module:factory, .joblib, .npz.")
@click.option("--target", metavar="NAME", help="Board to suit, such as aarch64.")
@click.option("--trust", is_flag=True, help="Let a .joblib teacher run the code it contains.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run.  [default: runs/NAME of the recipe or data]",
)
@sign_key_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def compress(
    recipe: Path | None,
    data: str | None,
    test: str | None,
    settings: tuple[str, ...],
    teacher: str | None,
    target: str | None,
    trust: bool,
    out: Path | None,
    sign_key: Path | None,
    as_json: bool,
) -> int:
    """Run all stages of RECIPE, or of what --data names; go on where an earlier run stopped.

    Exits with 0 if the contract is kept, 4 if it is broken.

    \b
    Examples:
      edgedistill compress recipe.yaml --set student.width=16
      edgedistill compress --data train.npz --test test.npz --teacher teacher.onnx
    """
    from edgedistill.cli.output import print_json, print_report, print_rows, progress
    from edgedistill.errors import ContractError
    from edgedistill.pipeline import run as pipeline
    from edgedistill.report import to_json

    found = read_recipe(
        recipe,
        data=data,
        test=test,
        settings=settings,
        teacher=teacher,
        target=target,
        trust=trust,
    )
    folder = out or Path("runs") / (found.name or Path(found.data.train).stem)
    with progress() as tell:
        result = pipeline.compress(found, folder, tell)
    signed = signed_copy(result.bundle, sign_key, folder)
    paths = {"page": str(result.page), "bundle": str(result.bundle) if result.bundle else None}
    if signed:
        paths["signed"] = str(signed)
    if as_json:
        facts = {"stages": dict(result.stages), "costs": dict(result.costs)}
        print_json({**paths, **facts, "report": to_json(result.report)})
    else:
        print_rows(
            "Networks",
            ("", "parameters", "multiply-accumulates", "bytes"),
            [(name, *(f"{n:,}" for n in cost.values())) for name, cost in result.costs.items()],
        )
        print_report(result.report)
        for name, path in paths.items():
            click.echo(f"{name}: {path or 'none, because the contract is broken'}")
    return 0 if result.report.verdict == "kept" else ContractError.exit_code
