"""Diagnosis of a board: its facts are collected and compared with its target.

A finding has the actual and the needed state, and the commands that fix it on that board. Nothing
is installed: that is left to the person who owns the board.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from packaging.version import Version

from edgedistill import targets
from edgedistill.deployment.connection import Connection
from edgedistill.deployment.doctor import checks
from edgedistill.deployment.doctor.checks import Facts, Finding, Outcome, version
from edgedistill.deployment.hosts import PYTHON, ROOT
from edgedistill.deployment.remote_command import CommandResult
from edgedistill.deployment.zipapp import NAME, write_program
from edgedistill.device import doctor
from edgedistill.errors import MachineError, UsageError
from edgedistill.targets import SystemRelease, Target

_FORMAT: Final = "edgedistill.facts/1"
_NOT_FOUND = 127  # a shell's exit code for a missing program
_PATIENCE_S = 300.0  # five probes of a minute at most: a slow board imports for long
_PREPARE = 'mktemp -d && echo "$HOME"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A board's target, facts and findings."""

    target: Target
    facts: Facts
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """Return the worst outcome."""
        outcomes: set[Outcome] = {finding.outcome for finding in self.findings}
        if "missing" in outcomes:
            return "missing"
        return "warn" if "warn" in outcomes else "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {
            "outcome": self.outcome,
            "target": self.target.name,
            "findings": [asdict(finding) for finding in self.findings],
            "facts": dict(self.facts),
        }


def diagnose(
    facts: Facts,
    *,
    target: str | None = None,
    runtime: str | None = None,
    signed: bool = True,
    now_s: float | None = None,
) -> Diagnosis:
    """Compare the facts of a board with the needs of its target.

    Args:
        facts: output of `doctor --json` of the device side.
        target: name of the target; None: recognized from the facts.
        runtime: runtime of the bundle's model; None: one of the target's is enough.
        signed: whether bundles are signed, and verified there.
        now_s: present time, in seconds since 1970; None: this machine's clock.

    Raises:
        ConfigError: there is no such target.
        MachineError: the facts are of another version of the program.
        UsageError: no family fits, and none is named.
    """
    if facts.get("format") != _FORMAT:
        raise MachineError(
            f"The board tells facts of format {facts.get('format')!r}; {_FORMAT} is read. Use the "
            "device program of this edgedistill."
        )
    family = _family(facts, target)
    release = _release(facts, family)
    now = time.time() if now_s is None else now_s
    findings = (
        *checks.hardware_findings(facts, family),
        *checks.software_findings(
            facts, family, release, runtime=runtime, signed=signed, now_s=now
        ),
    )
    return Diagnosis(target=family, facts=facts, findings=findings)


def collect_here(root: str = ROOT) -> Facts:
    """Return the facts of this machine, for the Python that runs this."""
    return doctor.facts(Path(root))


async def collect_from_board(connection: Connection) -> Facts:
    """Collect the facts of a board over SSH; nothing is left on it.

    Raises:
        MachineError: the board has no Python that is new enough, or fails.
    """
    host = connection.host
    made = await connection.run(["sh", "-c", _PREPARE])
    if made.code:
        raise MachineError(
            f"{host}: {_last(made)}. Make room below /tmp there, or say in TMPDIR where there is."
        )
    folder, home = made.stdout.splitlines()[-2:]
    try:
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch:
            program = Path(scratch) / NAME
            write_program(program)
            sent = await connection.run(
                ["sh", "-c", 'cat >"$1"', "sh", f"{folder}/{NAME}"], stdin=[program.read_bytes()]
            )
        if sent.code:
            raise MachineError(f"{host}: {_last(sent)}. Make room in {folder} there.")
        return await _run_probe(connection, f"{folder}/{NAME}", home)
    finally:
        await connection.run(["rm", "-r", folder])


def _family(facts: Facts, name: str | None) -> Target:
    if name is not None:
        return targets.load(name)
    found = targets.recognize(facts["machine"], facts["board"], facts["compatible"])
    if found is None:
        raise UsageError(
            f"No target fits a {facts['machine']} machine. Name one with --target: "
            f"{', '.join(targets.names())}."
        )
    return found


def _release(facts: Facts, target: Target) -> SystemRelease | None:
    """Return the newest listed release of the system that is not newer than the board's."""
    seen = version(facts["jetson_linux"])
    if seen is None:
        return None
    linux = ((each, Version(each.linux)) for each in target.releases)
    return max(
        ((each, its) for each, its in linux if its <= seen and its.major == seen.major),
        key=lambda pair: pair[1],
        default=(None, None),
    )[0]


async def _run_probe(connection: Connection, program: str, home: str) -> Facts:
    host = connection.host
    named = host.python or PYTHON
    python = f"{home}{named[1:]}" if named.startswith("~/") else named
    result = await connection.run(
        [python, program, "doctor", "--root", host.root, "--json"], timeout_s=_PATIENCE_S
    )
    if result.code == _NOT_FOUND:
        raise MachineError(
            f"{host} has no {named}. Install it there with: sudo apt-get install --yes "
            "python3, or name another one with --python."
        )
    if result.code:
        raise MachineError(f"{host} cannot tell what it has: {_last(result)}")
    facts: Facts = json.loads(result.stdout)
    return facts


def _last(result: CommandResult) -> str:
    return result.stderr.strip().rpartition("\n")[2] or f"exit code {result.code}"
