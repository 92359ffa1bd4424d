"""`report` and `inspect`: what is in files that were written earlier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def report(path: Path, as_json: bool) -> None:
    """Print the report of a run's folder or of a report.json, PATH, and draw its page anew.

    \b
    Example: edgedistill report runs/GunPoint
    """
    from edgedistill.cli.output import print_json, print_report
    from edgedistill.files import read_json, write_text
    from edgedistill.report import from_json, html, markdown

    file = path / "result" / "report.json" if path.is_dir() else path
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
    from edgedistill.cli.output import print_json
    from edgedistill.inspection import describe

    facts = describe(path)
    if as_json:
        print_json(facts)
    else:
        _print_description(str(path), facts)


def _print_description(title: str, facts: dict[str, Any]) -> None:
    """Print a description; what it contains follows, a table each."""
    from edgedistill.cli.output import print_facts

    parts = facts.get("contents", [])
    plain = {k: v for k, v in facts.items() if k not in {"contents", "path"}}
    print_facts(title, [(name, _shown(value)) for name, value in plain.items()])
    for part in parts:
        _print_description(str(part.get("path", part.get("name", ""))), part)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "\n".join(_shown(item) for item in value)
    return str(value)
