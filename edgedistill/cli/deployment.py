"""`deploy`, `rollback`, `status`, `trust` over SSH, and `program`, the file that boards run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.deployment.connection import SshOptions
    from edgedistill.deployment.hosts import Host
    from edgedistill.deployment.status import BoardStatus
    from edgedistill.deployment.steps import Outcome, Request

_Board = TypeVar("_Board", "Outcome", "BoardStatus")
_FILE = click.Path(dir_okay=False, path_type=Path)


def _connection_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options that choose boards and how to connect: arguments `hosts` and `access`."""

    @wraps(command)
    def run(
        hosts: tuple[str, ...],
        inventory: Path | None,
        group: str | None,
        root: str | None,
        python: str | None,
        target: str | None,
        identity: Path | None,
        known_hosts: Path | None,
        ssh_config: Path | None,
        **others: Any,
    ) -> int:
        access = ssh_options(identity, known_hosts, ssh_config)
        options = {"root": root, "python": python, "target": target}
        return command(hosts=_hosts(hosts, inventory, group, options), access=access, **others)

    for option in reversed(_CONNECTION_OPTIONS):
        run = option(run)
    return run


def ssh_options(
    identity: Path | None, known_hosts: Path | None, ssh_config: Path | None
) -> SshOptions:
    """Return the SSH options of a command; a warning is printed once, however often it comes."""
    from edgedistill.deployment.connection import SshOptions

    return SshOptions(
        identity=identity,
        known_hosts=known_hosts,
        config=ssh_config,
        on_warning=cache(lambda text: echo(f"warning: {text}", err=True)),
    )


_CONNECTION_OPTIONS = (
    click.option("--inventory", type=_FILE, help="Boards in a TOML file, instead of HOSTS."),
    click.option("--group", help="Only the boards of the inventory that are in this group."),
    click.option("--root", help="Folder on the board.  [default: ~/edgedistill]"),
    click.option("--python", help="Python on the board.  [default: as validated, else python3]"),
    click.option("--target", help="Family of the boards.  [default: as recognized]"),
    click.option("--identity", type=_FILE, help="Private key.  [default: as ssh]"),
    click.option("--known-hosts", type=_FILE, help="Known host keys.  [default: as ssh]"),
    click.option("--ssh-config", type=_FILE, help="SSH configuration.  [default: ~/.ssh/config]"),
    click.option("--jobs", default=8, show_default=True, help="Boards at a time."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table."),
)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("hosts", nargs=-1)
@click.option("--model", help="Model of the bundle, instead of the chosen one.")
@click.option("--threads", type=int, help="CPU threads of one call.  [default: as tuned, else 1]")
@click.option("--provider", help="Who computes in ONNX Runtime there.  [default: cpu]")
@click.option("--runs", type=int, help="Timed calls of the validation.  [default: enough]")
@click.option(
    "--allowed-signers",
    type=_FILE,
    help="Whom boards trust that trust nobody yet; see `edgedistill trust`.",
)
@click.option("--unsigned", is_flag=True, help="Take the bundle without asking who signed it.")
@click.option("--allow-downgrade", is_flag=True, help="Take an older bundle than ran there, too.")
@click.option("--keep", default=3, show_default=True, help="Releases that stay on a board.")
@click.option("--canary", default=0, show_default=True, help="Boards that go first.")
@click.option(
    "--out",
    default="boards",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the boards' reports.",
)
@click.option(
    "--report", type=_FILE, help="The run's report, to join.  [default: beside BUNDLE, if there]"
)
@click.option("--dry-run", is_flag=True, help="Look at the boards, and write nothing there.")
@_connection_options
def deploy(
    bundle: Path,
    hosts: list[Host],
    access: SshOptions,
    canary: int,
    report: Path | None,
    jobs: int,
    as_json: bool,
    **options: Any,
) -> int:
    """Bring BUNDLE to HOSTS (user@host:port), validate it there, and make it run.

    BUNDLE is a folder, a .zip, or the folder of a run.

    A board switches only if the contract is kept there, and returns by itself to what ran before if
    the new release is not healthy. Exits with 0 if all boards are done, else with the code of the
    most telling failure: 6, then 4, 3, 2, 5.

    \b
    Example: edgedistill deploy runs/GunPoint pi@board.local
    Example: edgedistill deploy bundle.zip --inventory boards.toml --group home --canary 1
    """
    from edgedistill.cli.deployment_output import print_outcomes, show_events
    from edgedistill.deployment.deploy import deploy_to_all
    from edgedistill.deployment.payload import prepare_payload
    from edgedistill.deployment.steps import exit_code

    out = options["out"]
    request = _request(**options)
    with (
        prepare_payload(bundle, model=request.model, unsigned=request.unsigned) as payload,
        show_events([host.name for host in hosts]) as on_event,
    ):
        work = deploy_to_all(payload, hosts, access, request, on_event, jobs=jobs, canaries=canary)
        outcomes = asyncio.run(work)
    _print(outcomes, print_outcomes, as_json)
    _join(outcomes, report, bundle, out)
    return exit_code(outcomes)


@click.command()
@click.argument("hosts", nargs=-1)
@click.option("--to", metavar="RELEASE", help="Release to run.  [default: the one before]")
@_connection_options
def rollback(
    hosts: list[Host], access: SshOptions, to: str | None, jobs: int, as_json: bool
) -> int:
    """Return HOSTS to the release that ran before.

    Repeated, it changes nothing; --to names the release that was left, to run it again.

    \b
    Example: edgedistill rollback pi@board.local
    """
    from edgedistill.deployment import status as boards

    return _each(hosts, lambda host: boards.rollback(host, access, to=to), jobs, as_json)


@click.command()
@click.argument("hosts", nargs=-1)
@_connection_options
def status(hosts: list[Host], access: SshOptions, jobs: int, as_json: bool) -> int:
    """Say what runs on HOSTS, and whether it kept its contract there.

    \b
    Example: edgedistill status --inventory boards.toml
    """
    from edgedistill.deployment import status as boards

    return _each(hosts, lambda host: boards.status(host, access), jobs, as_json)


@click.command()
@click.argument("hosts", nargs=-1)
@click.option(
    "--allowed-signers", type=_FILE, required=True, help="Signers, as `man ssh-keygen` has them."
)
@_connection_options
def trust(
    hosts: list[Host], access: SshOptions, allowed_signers: Path, jobs: int, as_json: bool
) -> int:
    """Tell HOSTS whose signatures they trust, in the place of whom they trusted before.

    \b
    Example: edgedistill trust pi@board.local --allowed-signers allowed_signers
    """
    from edgedistill.deployment import status as boards
    from edgedistill.deployment.trust import read_signers

    signers = read_signers(allowed_signers)
    return _each(hosts, lambda host: boards.set_trust(host, access, signers), jobs, as_json)


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
        echo(f"Wrote {out}: {out.stat().st_size:,} bytes, SHA-256 {sha256}.")


def _request(*, unsigned: bool, allowed_signers: Path | None, **settings: Any) -> Request:
    """Describe a deployment by the options of `deploy`."""
    from edgedistill.deployment.steps import Request
    from edgedistill.deployment.trust import read_signers
    from edgedistill.errors import UsageError

    if unsigned and allowed_signers is not None:
        raise UsageError("--unsigned asks for no signer; leave it or --allowed-signers out.")
    signers = None if allowed_signers is None else read_signers(allowed_signers)
    return Request(unsigned=unsigned, signers=signers, **settings)


def _each(
    hosts: list[Host],
    work: Callable[[Host], Coroutine[Any, Any, BoardStatus]],
    jobs: int,
    as_json: bool,
) -> int:
    from edgedistill.cli.deployment_output import print_statuses
    from edgedistill.deployment.deploy import run_on_all
    from edgedistill.deployment.steps import exit_code

    statuses = asyncio.run(run_on_all(hosts, work, jobs=jobs))
    _print(statuses, print_statuses, as_json)
    return exit_code(statuses)


def _print(
    boards: list[_Board], print_table: Callable[[list[_Board]], None], as_json: bool
) -> None:
    """Print the outcome or the status of each board."""
    from edgedistill.cli.output import print_json

    if as_json:
        print_json([board.to_dict() for board in boards])
    else:
        print_table(boards)


def _hosts(
    names: tuple[str, ...],
    inventory: Path | None,
    group: str | None,
    options: dict[str, str | None],
) -> list[Host]:
    """Return the boards with these names, of the inventory if there is one; options win over it."""
    from dataclasses import replace

    from edgedistill import targets
    from edgedistill.deployment.hosts import parse, read_inventory
    from edgedistill.errors import UsageError

    if not names and inventory is None:
        raise UsageError("Name boards as user@host, or an --inventory.")
    if group is not None and inventory is None:
        raise UsageError("--group chooses from an --inventory. Name one.")
    if inventory is not None:
        boards = read_inventory(inventory, names=names, group=group)
    else:
        boards = [parse(name) for name in names]
    settings: dict[str, Any] = {name: each for name, each in options.items() if each is not None}
    hosts = [replace(board, **settings) for board in boards]
    for target in {host.target for host in hosts if host.target}:
        targets.load(target)  # refuse a wrong name before the first connection
    return hosts


def _join(outcomes: list[Outcome], report: Path | None, bundle: Path, out: Path) -> None:
    """Write the run's report with the boards in it, if there are both."""
    from edgedistill.errors import DataError
    from edgedistill.io.files import read_json, write_json, write_text
    from edgedistill.pipeline.run_folder import REPORT_JSON, RunFolder
    from edgedistill.report import html, merge

    boards = {each.host: each.report for each in outcomes if each.report is not None}
    places = RunFolder(bundle).report, bundle / REPORT_JSON, bundle.with_name(REPORT_JSON)
    path = report or next((place for place in places if place.is_file()), None)
    if path is None or not boards:
        return
    try:
        joined = merge(read_json(path), boards)
    except DataError as error:
        if report is not None:
            raise
        echo(f"The reports were not joined: {error}", err=True)
        return
    write_json(out / "report.json", joined)
    write_text(out / "report.html", html.render(joined))
    echo(f"Wrote {out / 'report.html'}.", err=True)
