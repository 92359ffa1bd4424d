"""Steps of a deployment to one board, their events, and its outcome with the exit code.

Each step can be interrupted and repeated.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from edgedistill.deployment.board import Program, check_disk, probe
from edgedistill.deployment.connection import Connection
from edgedistill.deployment.doctor.checks import Finding
from edgedistill.deployment.doctor.diagnosis import diagnose
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.lock import Lease
from edgedistill.deployment.payload import DeploymentPayload, upload
from edgedistill.deployment.trust import require_trust
from edgedistill.device.releases.layout import ALLOWED_SIGNERS, PROGRAM, REPORT
from edgedistill.errors import ContractError, MachineError, UsageError
from edgedistill.io import files

Step = Literal[
    "connect",
    "preflight",
    "program",
    "upload",
    "install",
    "build",
    "validate",
    "switch",
    "report",
    "prune",
]
State = Literal["begun", "progress", "note", "skipped", "done", "failed"]
# The most important first: untrusted, contract broken, unusable.
_PRECEDENCE: Final = (6, 4, 3, 2, 5, 1)
KEEP: Final = 3
_LISTING_S: Final = 300.0
_INSTALL_S, _BUILD_S, _VALIDATE_S, _SWITCH_S = 1200.0, 7200.0, 3600.0, 1800.0
_STALE: Final = 'find "$1" -type f -mtime +0 -exec rm -f -- {} +'  # uploads of a day ago and more
ReportFn = Callable[..., None]  # state, text, done, total
Work = Callable[[Connection], Awaitable[str | None]]  # returns why there was nothing to do, if so


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a deployment to one board."""

    host: str
    step: Step
    state: State
    text: str = ""
    done: int = 0  # bytes of an upload
    total: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Outcome or state of a deployment to one board."""

    host: str
    step: Step = "connect"  # the last that was begun
    code: int = 0  # exit code: 0, or that of the error
    message: str = ""
    release: str | None = None  # name it has there
    current: str | None = None  # release that runs there, as far as known
    verdict: str | None = None  # of the validation there: "kept" or "broken"
    report: dict[str, Any] | None = None  # of the validation there
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, without the report, which is a file of its own."""
        return {
            "host": self.host,
            "code": self.code,
            "step": self.step,
            "message": self.message,
            "release": self.release,
            "current": self.current,
            "verdict": self.verdict,
            "warnings": self.warnings,
        }


EventCallback = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Settings of a deployment, the same for every board."""

    model: str | None = None  # instead of the chosen one
    threads: int | None = None
    provider: str | None = None
    runs: int | None = None  # timed calls of the validation; None: as many as needed
    unsigned: bool = False
    allow_downgrade: bool = False  # older versions than ran there, too
    signers: str | None = None  # for boards without allowed signers
    keep: int = KEEP  # releases that stay
    dry_run: bool = False  # look, and write nothing
    out: Path | None = None  # folder on this machine for the boards' reports

    def __post_init__(self) -> None:
        for name, value in (("keep", self.keep), ("threads", self.threads), ("runs", self.runs)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; give 1 or more.")

    def installing(self) -> list[str]:
        """Return the options of the command that installs."""
        named = (("model", self.model), ("threads", self.threads), ("provider", self.provider))
        words = [
            word for name, value in named if value is not None for word in (f"--{name}", str(value))
        ]
        return [*words, *(["--allow-downgrade"] if self.allow_downgrade else [])]


class DeploymentSteps:
    """Steps of a deployment to one board, with their state."""

    def __init__(
        self, payload: DeploymentPayload, host: Host, request: Request, report_event: ReportFn
    ) -> None:
        self.outcome = Outcome(host=host.name)
        self._payload, self._host, self._request, self._report_event = (
            payload,
            host,
            request,
            report_event,
        )
        self.root = ""  # there, absolute; empty before the preflight
        self.lease = Lease()
        self._python = self._program = self._archive = self._release = ""  # there

    def plan(self) -> list[tuple[Step, Work]]:
        """Return the steps in their order."""
        look: list[tuple[Step, Work]] = [("preflight", self._preflight)]
        if self._request.dry_run:
            return look
        build: list[tuple[Step, Work]] = [("build", self._build)]
        return [
            *look,
            ("program", self._carry_program),
            ("upload", self._upload),
            ("install", self._install),
            *(build if self._payload.runtime == "tensorrt" else []),
            ("validate", self._validate),
            ("switch", self._switch),
            ("report", self._report),
            ("prune", self._prune),
        ]

    async def _preflight(self, connection: Connection) -> None:
        facts = await probe(connection)
        await check_disk(connection, facts, self._payload)
        self.root, self._python = facts.root, facts.python
        if not (self._request.unsigned or self._request.dry_run):
            await require_trust(connection, facts.root, self._request.signers)

    async def _carry_program(self, connection: Connection) -> None:
        found = await upload(connection, self._payload.program, self._incoming, self._progress)
        self._program = found.path
        self._judge(await self._call(connection, "doctor", "--root", self.root))
        listed = await self._releases(connection, "list", timeout_s=_LISTING_S)
        self.outcome.current = listed["current"]

    def _judge(self, facts: Mapping[str, Any]) -> None:
        """Refuse a board on which the model cannot run, and report warnings."""
        try:
            found = diagnose(
                facts,
                target=self._host.target,
                runtime=self._payload.runtime,
                signed=not self._request.unsigned,
            )
        except UsageError as error:
            raise MachineError(f"{self._host}: {error}") from error
        messages: dict[str, list[str]] = {"missing": [], "warn": [], "ok": []}
        for finding in found.findings:
            messages[finding.outcome].append(_message(finding))
        if messages["missing"]:
            raise MachineError(f"{self._host} is not ready. {' '.join(messages['missing'])}")
        self.outcome.warnings = messages["warn"]
        for warning in messages["warn"]:
            self._report_event("note", warning)

    async def _upload(self, connection: Connection) -> str | None:
        found = await upload(connection, self._payload.archive, self._incoming, self._progress)
        self._archive = found.path
        return None if found.sent_bytes else "is there already"

    async def _install(self, connection: Connection) -> str | None:
        signers = ["--allowed-signers", f"{self.root}/{ALLOWED_SIGNERS}"]
        found = await self._releases(
            connection,
            *("install", self._archive, *self._request.installing()),
            *(["--unsigned"] if self._request.unsigned else signers),
            *self._leased,
            timeout_s=_INSTALL_S,
        )
        self._release, self.outcome.release = found["path"], found["name"]
        if found["version"] is None and not self._request.unsigned:
            self._warn(
                "The bundle has no version, so older ones of its signer are not refused. Sign it "
                "again, with `edgedistill sign`."
            )
        self._program = f"{self._release}/{PROGRAM}"  # the same, with bytecode of the Python there
        return None if found["fresh"] else "is installed already"

    def _warn(self, text: str) -> None:
        if text not in self.outcome.warnings:  # a repeated step says it again
            self.outcome.warnings.append(text)
            self._report_event("note", text)

    async def _build(self, connection: Connection) -> None:
        await self._call(connection, "build", self._release, timeout_s=_BUILD_S, stream=True)

    async def _validate(self, connection: Connection) -> None:
        report = await self._call(
            connection,
            *("validate", self._release),
            *(["--costs"] if self._request.runs is None else ["--runs", str(self._request.runs)]),
            timeout_s=_VALIDATE_S,
            also=(ContractError.exit_code,),
        )
        self.outcome.report, self.outcome.verdict = report, report["verdict"]
        if report["verdict"] == "kept":
            return
        await self._report(connection)
        runs = self.outcome.current
        state = f"{runs} runs there as before" if runs else "no release runs there"
        raise ContractError(
            f"{self.outcome.release} breaks its contract on {self._host}: "
            f"{'; '.join(report['reasons'])}. Nothing was switched; {state}. Deploy another "
            "--model of the bundle, or make a bundle whose contract this board can keep."
        )

    async def _switch(self, connection: Connection) -> str | None:
        name = self.outcome.release or ""
        found = await self._releases(connection, "switch", name, *self._leased, timeout_s=_SWITCH_S)
        self.outcome.current = found["current"]
        return "runs there already" if found["outcome"] == "unchanged" else None

    async def _report(self, _: Connection) -> None:
        if self._request.out is not None:
            path = self._request.out / folder_name(self._host.name) / REPORT
            files.write_json(path, self.outcome.report)

    async def _prune(self, connection: Connection) -> None:
        await self._releases(connection, "prune", "--keep", str(self._request.keep), *self._leased)
        await connection.run(["sh", "-c", _STALE, "sh", self._incoming])

    async def _releases(
        self, connection: Connection, *arguments: str, timeout_s: float = _LISTING_S
    ) -> dict[str, Any]:
        words = ("releases", "--root", self.root, *arguments)
        return await self._call(connection, *words, timeout_s=timeout_s)

    async def _call(
        self,
        connection: Connection,
        *arguments: str,
        timeout_s: float = _LISTING_S,
        also: tuple[int, ...] = (),
        stream: bool = False,
    ) -> dict[str, Any]:
        """Call the device program."""
        program = Program(connection, self._python, self._program)
        on_line = (lambda line: self._report_event("note", line)) if stream else None
        return await program.call(*arguments, timeout_s=timeout_s, also=also, on_line=on_line)

    def _progress(self, done: int, total: int) -> None:
        self._report_event("progress", "", done, total)

    @property
    def _leased(self) -> tuple[str, str]:
        return "--lease", self.lease.token

    @property
    def _incoming(self) -> str:
        return f"{self.root}/incoming"


def exit_code(outcomes: Sequence[_HasCode]) -> int:
    """Return 0 if all boards are well, else the most important of their codes.

    >>> exit_code([Outcome(host="a"), Outcome(host="b", code=5), Outcome(host="c", code=4)])
    4
    """
    codes = {outcome.code for outcome in outcomes} - {0}
    ranked = (*_PRECEDENCE, *sorted(codes))
    return next((code for code in ranked if code in codes), 0)


def folder_name(host: str) -> str:
    """Return the folder name of a board.

    >>> folder_name("pi@board.local:2222")
    'pi@board.local-2222'
    """
    return re.sub(r"[^\w.@-]+", "-", host).strip("-.") or "board"


class _HasCode(Protocol):
    @property
    def code(self) -> int: ...


def _message(finding: Finding) -> str:
    needed = f", needed is {finding.needed}" if finding.needed else ""
    commands = f" Run there: {'; '.join(finding.commands)}." if finding.commands else ""
    advice = f" {finding.advice}" if finding.advice else ""
    return f"{finding.what}: {finding.seen}{needed}.{commands}{advice}"
