"""`report` and `inspect`: what is in files that were written earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def report(path: Path, as_json: bool) -> None:
    """Print the report in PATH, and draw its page anew.

    PATH is the folder of a run, the folder that `bundle` wrote, or a report.json.

    \b
    Example: edgedistill report runs/GunPoint
    """
    from edgedistill.cli.output import print_json, print_report
    from edgedistill.files import read_json, write_text
    from edgedistill.report import from_json, html, markdown

    places = (path / "result" / "report.json", path / "report.json")
    file = next((place for place in places if place.exists()), path)
    values = read_json(file)
    facts = from_json(values)
    write_text(file.with_suffix(".html"), html.render(values))
    write_text(file.with_suffix(".md"), markdown.render(values))
    if as_json:
        print_json(values)
    else:
        print_report(facts)
    click.echo(f"Wrote {file.with_suffix('.html')} and {file.with_suffix('.md')}.", err=True)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def inspect(path: Path, as_json: bool) -> None:
    """Say what is in PATH: a bundle, an ONNX model or a file of safetensors.

    \b
    Example: edgedistill inspect runs/GunPoint/result/bundle.zip
    """
    from edgedistill.cli.output import print_facts, print_json
    from edgedistill.inspection import describe

    facts = describe(path)
    if as_json:
        print_json(facts)
        return
    listed = {name: facts.pop(name) for name in ("models", "tensors") if name in facts}
    print_facts(str(facts.pop("path")), [(name, _words(name, facts[name])) for name in facts])
    for name, rows in listed.items():
        if rows:
            _print_list(name, rows)


def _print_list(name: str, rows: list[dict[str, Any]]) -> None:
    """Print models or tensors, a line each."""
    from edgedistill.cli.output import print_rows

    if name == "models":  # what the file says of itself stands below what the manifest says
        rows = [{**row, "operators": (row["contents"] or {}).get("operators")} for row in rows]
    head = [key for key in rows[0] if key != "contents"]
    print_rows(name, head, [[_words(key, row[key]) for key in head] for row in rows])


def _words(name: str, value: Any) -> str:
    from edgedistill.cli.output import shown

    if name in {"inputs", "outputs"}:
        return ", ".join(f"{v['name']} {v['dtype']} {_words('shape', v['shape'])}" for v in value)
    if name == "shape":
        return f"({', '.join('?' if size is None else str(size) for size in value)})"
    if name == "provenance":  # the recipe fills a page; --json has it
        value = {key: value[key] for key in value if key != "recipe"}
    return "" if value is None else shown(value)
