"""What a board still needs: the facts that it tells, held against its family.

A finding names what was seen and what is needed, and gives the commands that mend it on that
board. Nothing is installed: the board belongs to the person who reads this.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from packaging.version import Version

from edgedistill import targets
from edgedistill.deployment.doctor import hardware, software
from edgedistill.deployment.doctor.finding import Facts, Finding, Outcome, version
from edgedistill.errors import MachineError, UsageError
from edgedistill.targets import SystemRelease, Target

_FORMAT: Final = "edgedistill.facts/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A board, its family, and what was found."""

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
    """Hold what a board tells against what its family needs.

    Args:
        facts: what `doctor --json` of the device side printed.
        target: name of its family; None: as recognized.
        runtime: the one that a bundle's model needs; None: one of the family's is enough.
        signed: whether bundles come signed, and are to be verified there.
        now_s: the time, in seconds since 1970; None: this machine's.

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
        *hardware.findings(facts, family),
        *software.findings(facts, family, release, runtime=runtime, signed=signed, now_s=now),
    )
    return Diagnosis(target=family, facts=facts, findings=findings)


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
    """Return the newest known release of the board's system that is not newer than it."""
    seen = version(facts["jetson_linux"])
    if seen is None:
        return None
    linux = ((each, Version(each.linux)) for each in target.releases)
    return max(
        ((each, its) for each, its in linux if its <= seen and its.major == seen.major),
        key=lambda pair: pair[1],
        default=(None, None),
    )[0]
