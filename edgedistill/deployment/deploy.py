"""Deployment of a bundle to boards: to one over as many connections as it takes, or to a fleet.

A board has a runnable release at every moment: only the switch changes which one runs, and
the board itself takes it back if the new one is not healthy. A killed deployment is
started again; files and releases that are there already are used. In a fleet, some boards are
deployed to at a time, canaries first, and each has an outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, TypeVar

from edgedistill.deployment.connection import Connection, SshOptions, connect
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.lock import BUSY, Holder, board_lock
from edgedistill.deployment.payload import DeploymentPayload
from edgedistill.deployment.steps import (
    DeploymentSteps,
    Event,
    EventCallback,
    Outcome,
    Request,
    State,
)
from edgedistill.errors import EdgeDistillError, LostConnectionError, MachineError, UsageError

PATIENCE: Final = 6  # setbacks in a row that gain neither a step nor a byte
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 8.0
_BUSY: Final = (BUSY, "Another command is changing")  # how the two locks on the board refuse
JOBS: Final = 8
_NOT_TRIED: Final = 1  # exit code
_Result = TypeVar("_Result")


async def deploy(
    payload: DeploymentPayload,
    host: Host,
    access: SshOptions,
    request: Request,
    on_event: EventCallback,
) -> Outcome:
    """Bring a bundle to a board, validate it there, and make it the one that runs.

    Args:
        payload: bundle and device program, ready to upload.
        host: board to deploy to.
        access: SSH options of the board.
        request: settings of the deployment.
        on_event: callback for every event.

    Returns:
        The outcome; an error of ours is recorded with its exit code, and is not raised.
    """
    journey = _DeploymentRun(payload, host, access, request, on_event)
    try:
        await journey.run()
    except EdgeDistillError as error:
        journey.outcome.code, journey.outcome.message = error.exit_code, str(error)
        journey.report_event("failed", str(error))
    return journey.outcome


async def deploy_to_all(
    payload: DeploymentPayload,
    hosts: Sequence[Host],
    access: SshOptions,
    request: Request,
    on_event: EventCallback,
    *,
    jobs: int = JOBS,
    canaries: int = 0,
) -> list[Outcome]:
    """Bring a bundle to boards; one that fails stops no other, but for canaries.

    Args:
        payload: bundle and device program, ready to upload.
        hosts: boards of the fleet; the first ones are the canaries.
        access: SSH options of the boards.
        request: settings of the deployment.
        on_event: callback for every event.
        jobs: number of boards at a time.
        canaries: number of boards that go first; if one of them fails, the others are not tried.

    Returns:
        An outcome for each board, in the order of the boards.

    Raises:
        UsageError: jobs or canaries make no sense.
    """
    if not 0 <= canaries <= len(hosts):
        raise UsageError(f"There are {len(hosts)} boards; {canaries} of them cannot be canaries.")

    async def one(host: Host) -> Outcome:
        return await deploy(payload, host, access, request, on_event)

    first = await run_on_all(hosts[:canaries], one, jobs=jobs)
    failed = [outcome.host for outcome in first if outcome.code]
    if failed:
        return [*first, *_not_tried(hosts[canaries:], failed)]
    return [*first, *await run_on_all(hosts[canaries:], one, jobs=jobs)]


async def run_on_all(
    hosts: Sequence[Host], work: Callable[[Host], Awaitable[_Result]], *, jobs: int = JOBS
) -> list[_Result]:
    """Run a function on every board, some at a time; return the results in their order.

    Raises:
        UsageError: jobs is below 1, or a board stands twice.
    """
    if jobs < 1:
        raise UsageError(f"jobs is {jobs}; give 1 or more.")
    names = [host.name for host in hosts]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice} is named twice. Name each board once.")
    free = asyncio.Semaphore(jobs)

    async def one(host: Host) -> _Result:
        async with free:
            return await work(host)

    return list(await asyncio.gather(*map(one, hosts)))


class _DeploymentRun:
    """The steps of one board, with the patience to connect again."""

    def __init__(
        self,
        payload: DeploymentPayload,
        host: Host,
        access: SshOptions,
        request: Request,
        on_event: EventCallback,
    ) -> None:
        self._steps = DeploymentSteps(payload, host, request, self.report_event)
        self.outcome = self._steps.outcome
        self._todo = self._steps.plan()
        self._host, self._access, self._on_event = host, access, on_event
        self._connected = False
        self._cut = False  # since the last step that was done
        self._setbacks = 0
        self._most = 0  # bytes that were ever there of the upload under way

    def report_event(self, state: State, text: str = "", done: int = 0, total: int = 0) -> None:
        """Report an event; new bytes reset the setbacks."""
        if done > self._most:
            self._most, self._setbacks = done, 0
        step = self.outcome.step
        self._on_event(
            Event(host=self._host.name, step=step, state=state, text=text, done=done, total=total)
        )

    async def run(self) -> None:
        """Do all steps.

        Raises:
            EdgeDistillError: one of them cannot be done.
        """
        while self._todo:
            await self._go_on()

    async def _go_on(self) -> None:
        """Do steps until all are done or the connection breaks off; then wait a little."""
        try:
            async with AsyncExitStack() as stack:
                await self._do_steps(await self._connect(stack), stack)
        except LostConnectionError as error:
            self._cut = True
            await self._wait(error)
        except MachineError as error:
            if not (self._cut and any(words in str(error) for words in _BUSY)):
                raise
            await self._wait(error)  # what was begun before the cut still works there

    async def _do_steps(self, connection: Connection, stack: AsyncExitStack) -> None:
        holder: Holder | None = None
        while self._todo:
            if self._steps.root and holder is None:
                holder = await stack.enter_async_context(
                    board_lock(connection, self._steps.root, self._steps.lease)
                )
            elif holder is not None:
                await holder.check()
            self.outcome.step, work = self._todo[0]
            self.report_event("begun")
            idle = await work(connection)
            self._todo.pop(0)
            self._setbacks, self._most, self._cut = 0, 0, False
            self.report_event("skipped" if idle else "done", idle or "")

    async def _connect(self, stack: AsyncExitStack) -> Connection:
        if self._connected:
            try:
                return await stack.enter_async_context(connect(self._host, self._access))
            except MachineError as error:  # it was there a moment ago
                raise LostConnectionError(str(error)) from error
        self.report_event("begun")
        connection = await stack.enter_async_context(connect(self._host, self._access))
        self._connected = True
        self.report_event("done")
        return connection

    async def _wait(self, error: MachineError) -> None:
        self._setbacks += 1
        if self._setbacks > PATIENCE:
            raise error
        self.report_event("note", f"tries again: {error}")
        await asyncio.sleep(min(_FIRST_WAIT_S * 2**self._setbacks, _LONGEST_WAIT_S))


def _not_tried(hosts: Sequence[Host], failed: Sequence[str]) -> list[Outcome]:
    """Return the outcomes of boards that were spared because canaries failed."""
    reason = f"was not tried, because the canary failed: {', '.join(failed)}."
    return [Outcome(host=h.name, code=_NOT_TRIED, message=f"{h} {reason}") for h in hosts]
