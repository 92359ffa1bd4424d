"""`releases`: install bundles beside each other, switch between them, go back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.device.cli.options import Commands, add_json
from edgedistill.device.cli.output import EXIT_KEPT, table
from edgedistill.io.terminal import echo

if TYPE_CHECKING:
    from edgedistill.device.releases.layout import Root
    from edgedistill.device.releases.switch import SwitchRecovery

_Run = Callable[[argparse.Namespace], int]
_ROOT = Path("~/edgedistill")


def add_releases(commands: Commands) -> None:
    """Add the command, which has commands of its own."""
    command = commands.add_parser("releases", help="install bundles, switch between them, go back")
    _add_root(command, default=_ROOT)
    inner = command.add_subparsers(required=True, metavar="ACTION")
    _add(inner, "list", "say what is installed and what runs", _list)
    _add_install(inner)
    switch = _add(inner, "switch", "make a validated release the current one", _switch)
    switch.add_argument("name", metavar="NAME")
    switch.add_argument("--force", action="store_true", help="even if it was not validated here")
    _add_lease(switch)
    rollback = _add(inner, "rollback", "return to the previous release, once", _rollback)
    rollback.add_argument("--from", dest="source", metavar="NAME", help="only if this one runs")
    rollback.add_argument("--to", metavar="NAME", help="instead of the previous one")
    prune = _add(inner, "prune", "remove old releases", _prune)
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="the newest that stay")
    _add_lease(prune)
    _add(inner, "settle", "end a switch that was interrupted", _settle)
    _add(inner, "fallback", "leave a damaged or failing release, before a start", _fallback)
    failure = _add(inner, "record-failure", "count a failure of the service", _record_failure)
    failure.add_argument("--result", required=True, help="as systemd's SERVICE_RESULT has it")
    failure.add_argument("--status", default="", help="as systemd's EXIT_STATUS has it")
    check = inner.add_parser("check", help="ask a release for one answer")
    check.add_argument("release", type=Path, metavar="RELEASE", help="its folder, or a link to it")
    add_json(check)
    check.set_defaults(command=_check)


def _add(inner: Commands, name: str, what: str, run: _Run) -> argparse.ArgumentParser:
    command = inner.add_parser(name, help=what)
    _add_root(command, default=argparse.SUPPRESS)  # or it would hide the one before the action
    add_json(command)
    command.set_defaults(command=run)
    return command


def _add_root(command: argparse.ArgumentParser, default: object) -> None:
    command.add_argument(
        "--root", type=Path, default=default, help=f"folder of it all (default: {_ROOT})"
    )


def _add_lease(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--lease", metavar="TOKEN", help="of a deployment; refused if another one took over"
    )


def _add_install(inner: Commands) -> None:
    command = _add(inner, "install", "install a bundle beside the others", _install)
    command.add_argument("archive", type=Path, metavar="ARCHIVE", help="the bundle, a .zip")
    command.add_argument("--name", help="of the release (default: made from the bundle)")
    command.add_argument(
        "--program", type=Path, metavar="PYZ", help="that comes with it (default: this one)"
    )
    command.add_argument("--model", metavar="NAME", help="instead of the chosen one")
    command.add_argument("--threads", type=int, help="CPU threads of one call")
    command.add_argument("--provider", metavar="NAME", help="who computes in ONNX Runtime")
    command.add_argument(
        "--allow-downgrade", action="store_true", help="even if it is older than what ran here"
    )
    _add_lease(command)
    trust = command.add_mutually_exclusive_group(required=True)
    trust.add_argument(
        "--allowed-signers", type=Path, metavar="FILE", help="refuse what none of them signed"
    )
    trust.add_argument("--unsigned", action="store_true", help="take the bundle as it is")


def _list(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.switch import listing

    found = listing(_root(options))
    if options.json:
        echo(json.dumps(found, indent=2))
        return EXIT_KEPT
    rows = [("release", "installed", "verdict here", "")]
    for each in found["releases"]:
        marks = [link for link in ("current", "previous") if found[link] == each["name"]]
        state = "damaged" if "damage" in each else each["verdict"] or "not validated"
        if each.get("trusted") is False:
            marks.append("signer no longer trusted")
        rows.append((each["name"], each.get("installed", ""), state, ", ".join(marks)))
    echo(table(rows))
    if found["fallback"]:
        echo(
            f"The board left {found['rolled_back']} by itself at {found['fallback']['time']}: "
            f"{found['fallback']['reason']}.",
            err=True,
        )
    if found["current"] not in {None, *(each["name"] for each in found["releases"])}:
        echo(f"{found['current']} is gone; mend it with: releases settle", err=True)
    if found["switching"]:
        echo("A switch was interrupted; end it with: releases settle", err=True)
    return EXIT_KEPT


def _install(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.installation import (
        Request,
        bundle_version,
        install,
        running_program,
    )

    request = Request(
        name=options.name,
        program=options.program or running_program(),
        model=options.model,
        threads=options.threads,
        provider=options.provider,
        allowed_signers=options.allowed_signers,
        allow_downgrade=options.allow_downgrade,
    )
    with _locked_root(options) as (root, _):
        release, fresh = install(root, options.archive, request)
    place = root.folder(release.name)
    version = bundle_version(place)
    if release.signer is not None and version is None:
        echo(
            "warning: The bundle has no version, so older ones of its signer are not refused. Sign "
            "it again, with `edgedistill sign`.",
            err=True,
        )
    if options.json:
        facts = {"path": str(place), "fresh": fresh, "version": version}
        echo(json.dumps({**release.to_dict(), **facts}, indent=2))
    else:
        echo(f"{'Installed' if fresh else 'There already'}: {place}")
    return EXIT_KEPT


def _switch(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.switch import switch

    with _locked_root(options) as (root, _):
        found = switch(root, options.name, force=options.force)
        _warn_of(root, found)
    return _print_current(found, options)


def _rollback(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.lock import file_lock, revoke_lease
    from edgedistill.device.releases.switch import rollback

    root = _root(options)
    with file_lock(root.lock):
        revoke_lease(root)  # or a deployment under way would switch again
        found = rollback(root, source=options.source, target=options.to)
        _warn_of(root, found)
    return _print_current(found, options)


def _settle(options: argparse.Namespace) -> int:
    with _locked_root(options) as (_, found):
        return _print_current(found, options)


def _fallback(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.fallback import fall_back

    with _locked_root(options) as (root, _):
        found = fall_back(root)
    if found.failed is not None:
        what = f"was left for {found.current}" if found.outcome == "returned" else "stays"
        echo(f"{found.failed} {what}: {found.reason}", err=True)
    return _print_current(found, options)


def _record_failure(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from edgedistill.device.releases.fallback import LIMIT, record_failure

    failures = record_failure(_root(options), options.result, options.status)
    if options.json:
        echo(json.dumps(None if failures is None else asdict(failures)))
    elif failures is None:
        echo(f"No failure: {options.result}.")
    else:
        echo(f"Failure {failures.count} of {LIMIT}: {failures.cause}.")
    return EXIT_KEPT


def _prune(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.installation import prune

    with _locked_root(options) as (root, _):
        gone = prune(root, options.keep)
    echo(json.dumps({"removed": gone}) if options.json else f"Removed: {', '.join(gone) or 'none'}")
    return EXIT_KEPT


def _check(options: argparse.Namespace) -> int:
    from edgedistill.device.releases.health import check
    from edgedistill.device.releases.layout import resolve

    check(resolve(options.release))
    echo(json.dumps({"healthy": True}) if options.json else f"{options.release} answers.")
    return EXIT_KEPT


@contextmanager
def _locked_root(options: argparse.Namespace) -> Iterator[tuple[Root, SwitchRecovery]]:
    """Hold the lock, and report a switch that was interrupted and taken back."""
    from edgedistill.device.releases.switch import root_lock

    root = _root(options)
    lease = getattr(options, "lease", None)
    with root_lock(root, lease=lease) as found:
        if found.outcome == "returned":
            echo(
                f"An interrupted switch to {found.failed} was taken back: {found.reason}.",
                err=True,
            )
        elif found.outcome == "repaired":
            echo(_repair_message(found), err=True)
        yield root, found


def _repair_message(recovery: SwitchRecovery) -> str:
    runs = f"{recovery.current} is current" if recovery.current else "no release is current"
    return f"{recovery.failed} was current and is gone. Now {runs}."


def _warn_of(root: Root, recovery: SwitchRecovery) -> None:
    """Warn of a current release whose signer is no longer trusted, or that another one replaced."""
    from edgedistill.device.releases.signers import distrust

    if recovery.outcome == "repaired":
        echo(_repair_message(recovery), err=True)
    warning = distrust(root, recovery.current)
    if warning is not None:
        echo(f"warning: {warning}", err=True)


def _print_current(recovery: SwitchRecovery, options: argparse.Namespace) -> int:
    """Print the current release."""
    from dataclasses import asdict

    if options.json:
        echo(json.dumps(asdict(recovery), indent=2))
    else:
        echo(f"current: {recovery.current or 'none'} ({recovery.outcome})")
    return EXIT_KEPT


def _root(options: argparse.Namespace) -> Root:
    from edgedistill.device.releases.layout import Root

    return Root(options.root.expanduser().absolute())
