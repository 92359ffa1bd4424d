"""A board leaves a release whose service fails or whose files went bad, by itself and once."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import watchdog
from faults.board import LocalBoard, make_goods
from faults.supervisor import Supervisor
from faults.watchdog import SERIES, SPIKE, flip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Iterator[LocalBoard]:
    """A board that ran `one` and then got `hanging`."""
    folder = tmp_path_factory.mktemp("watchdog")
    (folder / "root").mkdir()
    board = LocalBoard(folder / "root", make_goods(folder / "goods"))
    watchdog.prepare(board)
    yield board
    board.fork_server.close()


@pytest.fixture
def board(prepared) -> LocalBoard:
    """That board, as it was."""
    prepared.restore("hanging")
    return prepared


@pytest.fixture
def service(board) -> Iterator[Supervisor]:
    """Its service, kept running."""
    with (
        tempfile.TemporaryDirectory(prefix="sd-") as folder,
        Supervisor(board.root, Path(folder)) as supervisor,
    ):
        yield supervisor


def _listing(board):
    return json.loads(board.releases("list", "--json").stdout)


def test_model_that_hangs_is_left(board, service):
    """The loop gives no sign of life while the model computes; the third time is the last."""
    hanging = board.current()

    reply = json.loads(service.ask(SPIKE))

    listed = _listing(board)
    assert "class" in reply
    assert service.results == ["watchdog"] * 3
    assert listed["rolled_back"] == hanging
    assert listed["current"].startswith("one-")
    assert listed["fallback"]["reason"] == (
        "its service did not answer, the last of 3 failures in a row"
    )
    assert "The board left hanging-" in board.releases("list").stderr


def test_service_that_stops_once_is_started_again(board, service):
    """One failure is no reason to leave a release whose files are whole."""
    before = board.current()

    service.signal(signal.SIGSTOP)
    service.wait(lambda: service.results == ["watchdog"], "it was not killed")

    assert "class" in json.loads(service.ask(SERIES))
    assert board.current() == before
    assert _listing(board)["fallback"] is None


@pytest.mark.parametrize("name", ["model", "program"])
def test_release_with_a_flipped_byte_is_left(name, board, service):
    """At its next start; the running service has its files in memory."""
    damaged = board.current()
    service.ask(SERIES)
    flip(board, f"the {name}")

    service.signal(signal.SIGKILL)
    service.wait(lambda: board.current() != damaged, "it was not left")

    assert "class" in json.loads(service.ask(SPIKE))
    assert service.results == ["signal"]
    listed = _listing(board)
    assert listed["rolled_back"] == damaged
    assert (".pyz" if name == "program" else ".onnx") in listed["fallback"]["reason"]


def test_two_bad_releases_do_not_take_turns(board, service):
    """The previous one must be healthy; else the current one stays, as long as it runs."""
    before = board.current()
    flip(board, "the model", release="previous")

    service.ask(SPIKE, gives_up=lambda: len(service.results) >= 4)

    assert "class" in json.loads(service.ask(SERIES))
    assert board.current() == before
    assert _listing(board)["fallback"] is None
    assert f"{before} stays: its service did not answer" in service.log


def test_what_was_left_is_not_returned_to(board, service):
    """Nor is there anything else to leave for; the next deployment forgets it."""
    service.ask(SPIKE)
    for number in range(1, 5):
        service.signal(signal.SIGKILL)
        service.wait(lambda n=number: len(service.results) == 3 + n, "it was not killed")

    assert "class" in json.loads(service.ask(SERIES))
    assert (board.current() or "").startswith("one-")
    assert _listing(board)["fallback"] is not None
    ran, two = board.deploy("two")
    assert ran.code == 0
    assert board.current() == two
    assert _listing(board)["fallback"] is None
