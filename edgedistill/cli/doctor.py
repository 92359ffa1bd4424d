"""`doctor`: what a board, or this machine, lacks to run a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.deployment.connection import SshOptions
    from edgedistill.deployment.doctor.checks import Facts, Finding
    from edgedistill.deployment.doctor.diagnosis import Diagnosis

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("host", required=False)
@click.option("--target", metavar="NAME", help="Family of the board.  [default: as recognized]")
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "tensorrt"]),
    help="What the model needs.  [default: one of the family's is enough]",
)
@click.option("--root", metavar="DIR", help="Folder of releases there.  [default: ~/edgedistill]")
@click.option("--python", metavar="PATH", help="Interpreter on HOST.  [default: python3]")
@click.option("--identity", type=_FILE, help="Private key.  [default: as ssh]")
@click.option("--known-hosts", type=_FILE, help="Known host keys.  [default: as ssh]")
@click.option("--ssh-config", type=_FILE, help="SSH configuration.  [default: ~/.ssh/config]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def doctor(
    host: str | None,
    target: str | None,
    runtime: str | None,
    root: str | None,
    python: str | None,
    identity: Path | None,
    known_hosts: Path | None,
    ssh_config: Path | None,
    as_json: bool,
) -> int:
    """Say what HOST (user@host:port; without it, this machine) needs to run a bundle.

    Nothing is installed; the commands that would are printed. Exits with 5 if something is missing.

    \b
    Examples:
      edgedistill doctor
      edgedistill doctor pi@board.local --target aarch64
    """
    from edgedistill.cli.deployment import ssh_options
    from edgedistill.cli.output import print_json
    from edgedistill.deployment.doctor.diagnosis import diagnose
    from edgedistill.errors import MachineError, UsageError

    if host is None and python is not None:
        raise UsageError("--python names an interpreter on HOST. Name a HOST too.")
    access = ssh_options(identity, known_hosts, ssh_config)
    diagnosis = diagnose(_facts(host, root, python, access), target=target, runtime=runtime)
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        _print(host or "this machine", diagnosis)
    return MachineError.exit_code if diagnosis.outcome == "missing" else 0


def _facts(host: str | None, root: str | None, python: str | None, access: SshOptions) -> Facts:
    import asyncio

    from edgedistill.deployment import hosts
    from edgedistill.deployment.connection import connect
    from edgedistill.deployment.doctor import diagnosis

    if host is None:
        return diagnosis.collect_here(root or hosts.ROOT)

    async def from_board() -> Facts:
        board = hosts.parse(host, root=root or hosts.ROOT, python=python)
        async with connect(board, access) as connection:
            return await diagnosis.collect_from_board(connection)

    return asyncio.run(from_board())


def _print(name: str, diagnosis: Diagnosis) -> None:
    from edgedistill.cli.output import print_rows

    print_rows(
        f"{name}: {diagnosis.target.name}, {diagnosis.target.description}",
        ("", "outcome", "seen", "needed"),
        [(each.what, each.outcome, each.seen, each.needed) for each in diagnosis.findings],
        words=True,
    )
    for each in diagnosis.findings:
        _print_help(each)
    echo(f"outcome: {diagnosis.outcome}")


def _print_help(finding: Finding) -> None:
    if not finding.commands and not finding.advice:
        return
    echo(f"{finding.what}: {finding.advice or 'run there'}")
    for command in finding.commands:
        echo(f"  {command}")
    echo()
