"""`program`: the one file that a board runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--out",
    default="edgedistill-device.pyz",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
def program(out: Path, as_json: bool) -> None:
    """Write the device program: one file that needs Python, NumPy and a runtime.

    \b
    Example: edgedistill program --out edgedistill-device.pyz
    """
    from edgedistill.cli.output import print_json
    from edgedistill.deployment.zipapp import write_program

    sha256 = write_program(out)
    if as_json:
        print_json({"out": str(out), "size_bytes": out.stat().st_size, "sha256": sha256})
    else:
        click.echo(f"Wrote {out}: {out.stat().st_size:,} bytes, SHA-256 {sha256}.")
