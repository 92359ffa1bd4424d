"""`report`, `inspect`, `sign` and `verify`: files that were written earlier."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgedistill.io.terminal import echo

_PATH = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("path", type=_PATH)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="[LABEL=]FILE",
    help="Report of a board, to join to the one in PATH; may be given again. Its label is the "
    "name of its folder, unless given.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the joined report.  [default: boards, beside the one in PATH]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def report(path: Path, devices: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Print the report in PATH, and draw its page anew.

    PATH is the folder of a run, the folder that `bundle` wrote, or a report.json. With --device
    the page also shows the model as it runs on that board, and goes to a folder of its own.

    \b
    Example: edgedistill report runs/GunPoint
             edgedistill report runs/GunPoint --device orin=orin/report.json
    """
    from edgedistill.cli.output import print_json, print_report
    from edgedistill.errors import UsageError
    from edgedistill.io.files import read_json, write_json, write_text
    from edgedistill.pipeline.run_folder import REPORT_JSON, RunFolder
    from edgedistill.report import from_json, html, markdown, merge

    places = (RunFolder(path).report, path / REPORT_JSON)
    file = next((place for place in places if place.exists()), path)
    values = read_json(file)
    if devices:
        labeled = _labeled(devices)
        values = merge(values, {label: read_json(place) for label, place in labeled.items()})
        file = (out or _beside(file) / "boards") / REPORT_JSON
        write_json(file, values)
    elif out is not None:
        raise UsageError("--out is the folder of a joined report. Give a board's with --device.")
    facts = from_json(values)
    write_text(file.with_suffix(".html"), html.render(values))
    write_text(file.with_suffix(".md"), markdown.render(values))
    if as_json:
        print_json(values)
    else:
        print_report(facts, path if RunFolder(path).is_run() else None)
    echo(f"Wrote {file.with_suffix('.html')} and {file.with_suffix('.md')}.", err=True)


@click.command()
@click.argument("path", metavar="DATA|MODEL")
@click.option("--test", help="Test series of DATA, where they are a file of their own.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="A.B=VALUE",
    help="Set a recipe key that says how DATA is read; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(path: str, test: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Say what is in a data set or a model.

    DATA is a set's name, a file or a folder, prepared as a run would: what its columns were taken
    for, its splits and classes, and what makes it hard to learn from or to judge by. MODEL is a
    bundle, the folder of a run, an ONNX model or a file of safetensors.

    \b
    Examples:
      edgedistill inspect GunPoint
      edgedistill inspect train.csv --test test.csv --set data.label=state
      edgedistill inspect runs/GunPoint
    """
    from edgedistill.errors import UsageError
    from edgedistill.inspection import is_model

    if not is_model(Path(path)):
        _inspect_data(path, test, settings, as_json)
    elif test is not None or settings:
        raise UsageError(f"--test and --set say how data are read, but {path} is a model.")
    else:
        _inspect_model(Path(path), as_json)


def _inspect_data(path: str, test: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Print what a run would read."""
    from edgedistill.cli.output import print_facts, print_json, print_rows
    from edgedistill.cli.recipe_options import read_recipe
    from edgedistill.pipeline.stages.data import prepare_data, report_data
    from edgedistill.report.data import SPLITS, class_rows, data_messages, data_rows

    recipe = read_recipe(None, data=path, test=test, settings=settings)
    data = report_data(prepare_data(recipe))
    if as_json:
        print_json({"path": path, "kind": "data", **asdict(data)})
        return
    print_facts(path, [*data_rows(data), ("Fingerprint", data.fingerprint)])
    print_rows("Series of each class", ("class", *SPLITS.values()), class_rows(data))
    for message in data_messages(data):
        echo(message)


def _inspect_model(path: Path, as_json: bool) -> None:
    """Print the contents of a file."""
    from edgedistill.cli.output import print_facts, print_json
    from edgedistill.inspection import describe

    facts = describe(path)
    if as_json:
        print_json(facts)
        return
    listed = {name: facts.pop(name) for name in ("models", "tensors") if name in facts}
    print_facts(str(facts.pop("path")), [(name, _cell_text(name, facts[name])) for name in facts])
    for name, rows in listed.items():
        if rows:
            _print_list(name, rows)


@click.command()
@click.argument("bundle", type=_PATH)
@click.option(
    "--key",
    default="~/.ssh/id_ed25519",
    show_default=True,
    type=_FILE,
    help="Private SSH key, or the public key of one that your agent holds.",
)
@click.option(
    "--out", type=_PATH, help="Signed copy to write.  [default: BUNDLE itself; signed.zip of a run]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
def sign(bundle: Path, key: Path, out: Path | None, as_json: bool) -> None:
    """Sign BUNDLE with your SSH key, so that boards know that it is yours.

    \b
    Example: edgedistill sign runs/GunPoint
    """
    from edgedistill.bundle.signature import sign_bundle
    from edgedistill.cli.output import print_json

    signed = sign_bundle(bundle, key.expanduser(), out)
    if as_json:
        print_json({"out": str(signed)})
    else:
        echo(f"Signed {signed}.")


@click.command()
@click.argument("bundle", type=_PATH)
@click.option(
    "--allowed-signers",
    required=True,
    type=_FILE,
    help="Whom you trust: a line of name and public key for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
def verify(bundle: Path, allowed_signers: Path, as_json: bool) -> None:
    """Say who signed BUNDLE; exits with 6 unless it is whole and one of the allowed signers did.

    \b
    Example: edgedistill verify gunpoint.zip --allowed-signers allowed_signers
    """
    from edgedistill.bundle.signature import signer
    from edgedistill.cli.output import print_json

    principal = signer(bundle, allowed_signers)
    if as_json:
        print_json({"bundle": str(bundle), "signer": principal})
    else:
        echo(f"{bundle} is whole, and {principal} signed it.")


def _labeled(devices: tuple[str, ...]) -> dict[str, Path]:
    """Paths of the boards' reports by label."""
    from edgedistill.errors import UsageError

    paths: dict[str, Path] = {}
    for device in devices:
        label, equals, name = device.rpartition("=")
        place = Path(name)
        if not equals:
            label = place.absolute().parent.name if place.name == "report.json" else place.stem
        if not label or label in paths:
            raise UsageError(
                f"The board of {device!r} has the label {label!r}, which is empty or taken. Give "
                "each a label of its own: --device LABEL=FILE."
            )
        paths[label] = place
    return paths


def _beside(file: Path) -> Path:
    """Folder of a report; for a run the run's own, since a stage holds its own files alone."""
    from edgedistill.pipeline.stage_folder import STAGE

    return file.parent.parent if (file.parent / STAGE).exists() else file.parent


def _print_list(name: str, rows: list[dict[str, Any]]) -> None:
    """Print models or tensors, a line each."""
    from edgedistill.cli.output import print_rows

    if name == "models":  # facts of the file below those of the manifest
        rows = [{**row, "operators": (row["contents"] or {}).get("operators")} for row in rows]
    head = [key for key in rows[0] if key != "contents"]
    print_rows(name, head, [[_cell_text(key, row[key]) for key in head] for row in rows])


def _cell_text(name: str, value: Any) -> str:
    from edgedistill.cli.output import to_text

    if name in {"inputs", "outputs"}:
        return ", ".join(
            f"{v['name']} {v['dtype']} {_cell_text('shape', v['shape'])}" for v in value
        )
    if name == "shape":
        return f"({', '.join('?' if size is None else str(size) for size in value)})"
    if name == "provenance":  # the recipe fills a page; --json has it
        value = {key: value[key] for key in value if key != "recipe"}
    return "" if value is None else to_text(value)
