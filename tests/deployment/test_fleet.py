"""Many boards: how many at a time, who goes first, and what one failure means for the others."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest

from edgedistill.deployment.deploy import deploy_to_all, run_on_all
from edgedistill.deployment.hosts import Host
from edgedistill.deployment.payload import prepare_payload
from edgedistill.deployment.steps import Outcome, Request, exit_code
from edgedistill.errors import UsageError

pytestmark = pytest.mark.slow


def _hosts(count):
    return [Host(name=f"board{n}", address="127.0.0.1") for n in range(count)]


async def _never(host):
    pytest.fail(f"{host} was asked")


@pytest.fixture
def nobody():
    """A port of loopback that is taken and refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _deploy_to_all(bundle, hosts, access, told=None, **options):
    tell = (lambda _: None) if told is None else told.append
    with prepare_payload(bundle, unsigned=True) as shipped:
        request = Request(unsigned=True, runs=20)
        return asyncio.run(deploy_to_all(shipped, hosts, access, request, tell, **options))


@pytest.mark.parametrize("jobs", [1, 3, 100])
def test_no_more_boards_than_jobs_at_a_time(jobs):
    """And results come in the order of the boards, whoever is first."""
    busy, most = 0, 0

    async def work(host):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001 * (9 - int(host.name[5:])))
        busy -= 1
        return host.name

    found = asyncio.run(run_on_all(_hosts(9), work, jobs=jobs))

    assert most == min(jobs, 9)
    assert found == [f"board{n}" for n in range(9)]


def test_jobs_below_one_are_refused():
    """Nobody would ever be asked."""
    with pytest.raises(UsageError, match="jobs is 0; give 1 or more"):
        asyncio.run(run_on_all(_hosts(1), _never, jobs=0))


def test_repeated_board_is_refused():
    """Two deployments to it at once would only hinder each other."""
    with pytest.raises(UsageError, match="board0 is named twice"):
        asyncio.run(run_on_all([*_hosts(2), *_hosts(1)], _never))


def test_one_board_that_fails_stops_no_other(board, bundles, access, nobody):
    """Each has its own outcome, in the order of the boards."""
    away = replace(board.host, name="away", port=nobody)

    lost, done = _deploy_to_all(bundles["unsigned"], [away, board.host], access)

    assert (lost.code, done.code) == (5, 0), done.message
    assert "refused the connection" in lost.message
    assert board.current == done.release


def test_a_canary_that_fails_spares_the_others(board, bundles, access, nobody):
    """They are not even connected to, and say why."""
    told = []
    away = replace(board.host, name="away", port=nobody)

    lost, spared = _deploy_to_all(bundles["unsigned"], [away, board.host], access, told, canaries=1)

    assert (lost.code, spared.code) == (5, 1)
    assert spared.message == f"{board.host} was not tried, because the canary failed: away."
    assert {event.host for event in told} == {"away"}
    assert board.current is None


def test_others_follow_a_good_canary(board, bundles, access, nobody):
    """It is done before the second begins."""
    told = []
    away = replace(board.host, name="away", port=nobody)

    done, lost = _deploy_to_all(bundles["unsigned"], [board.host, away], access, told, canaries=1)

    assert (done.code, lost.code) == (0, 5), done.message
    hosts = [event.host for event in told]
    assert hosts.index("away") == hosts.count(board.host.name)


@pytest.mark.parametrize("canaries", [-1, 2])
def test_impossible_canaries_are_refused(bundles, access, canaries):
    """There are as many at most as boards."""
    with pytest.raises(UsageError, match=f"There are 1 boards; {canaries} of them cannot be"):
        _deploy_to_all(bundles["unsigned"], _hosts(1), access, canaries=canaries)


@pytest.mark.parametrize(
    ("codes", "code"),
    [((), 0), ((0, 0), 0), ((0, 5), 5), ((5, 1, 1), 5), ((5, 4, 2), 4), ((4, 6), 6), ((7,), 7)],
)
def test_most_important_exit_code_is_returned(codes, code):
    """Trust first, then the contract, then what cannot be used or is missing."""
    assert exit_code([Outcome(host=str(n), code=each) for n, each in enumerate(codes)]) == code
