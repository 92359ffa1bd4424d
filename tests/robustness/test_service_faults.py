"""A few faults of `benchmarks/service_reliability.py`: what goes through a service is not lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from faults.messages import Line
from faults.mosquitto import find_mosquitto
from faults.requests import SocketService

pytestmark = pytest.mark.slow


@pytest.fixture
def mosquitto(unavailable: Callable[[str], NoReturn]) -> str:
    """The broker's program."""
    program = find_mosquitto()
    if program is None:
        unavailable("mosquitto is not installed: apt-get install mosquitto")
    return program


@pytest.mark.parametrize("fault", ["kill", "restart", "switch", "restart_broker"])
def test_acknowledged_series_are_answered(fault, tmp_path, mosquitto):
    """Whatever ends on the way; what is answered twice says so."""
    line = Line(mosquitto, tmp_path / "line")
    try:
        flow = line.flow(900, 300, getattr(line, fault))
    finally:
        line.close()

    assert (flow.sent, flow.lost, flow.unmarked) == (900, 0, 0)


def test_series_that_come_too_fast_wait_at_the_broker(tmp_path, mosquitto):
    """All at once: the service reads as many as it has room for."""
    line = Line(mosquitto, tmp_path / "line")
    try:
        flow = line.flow(2_000, 1e6)
    finally:
        line.close()

    assert (flow.sent, flow.lost, flow.duplicates) == (2_000, 0, 0)


def test_broker_that_comes_late(tmp_path, mosquitto):
    """The service waits for it, ready for systemd."""
    line = Line(mosquitto, tmp_path / "line", starts=False)
    try:
        flow = line.flow(50, 300, absent_s=4)
    finally:
        line.close()

    assert (flow.sent, flow.lost) == (50, 0)


def test_requests_on_a_socket_wait_for_the_new_release(tmp_path):
    """Of clients that stay, and of those that come while releases are switched."""
    with SocketService(tmp_path / "service") as service:
        load = service.switch_often(3)

    assert (load.failed, load.switches) == (0, 3)
    assert load.answered > 50
