"""Deployment to a fleet: some boards at a time, canaries first, an outcome for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from edgedistill.deployment.connection import SshOptions
from edgedistill.deployment.deploy import deploy
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.outcome import EventCallback, Outcome
from edgedistill.deployment.payload import DeploymentPayload
from edgedistill.deployment.steps import Request
from edgedistill.errors import UsageError

JOBS: Final = 8
_NOT_TRIED: Final = 1  # exit code

_Result = TypeVar("_Result")


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


def _not_tried(hosts: Sequence[Host], failed: Sequence[str]) -> list[Outcome]:
    """Return the outcomes of boards that were spared because canaries failed."""
    reason = f"was not tried, because the canary failed: {', '.join(failed)}."
    return [Outcome(host=h.name, code=_NOT_TRIED, message=f"{h} {reason}") for h in hosts]
