"""A few of the faults of `benchmarks/reliability.py`, and that the campaign sees what is broken."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress

import pytest
from faults import device, repetition
from faults.board import ForkServer, LocalBoard, Ran, make_goods
from faults.campaign import Case, Found, found, read, run, table
from faults.deployment import Workstation
from faults.faulty_network import FaultyNetwork
from faults.machine import bare_python
from faults.server import running

from edgedistill.errors import MachineError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A board that was led through all its states, and the commands that have work in them."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "root").mkdir()
    board = LocalBoard(folder / "root", make_goods(folder / "goods"))
    yield board, device.prepare(board)
    board.fork_server.close()


@pytest.fixture(scope="module")
def station(tmp_path_factory, unavailable):
    """A workstation and a board behind a real SSH server, which runs a first bundle."""
    folder = tmp_path_factory.mktemp("station")
    (folder / "root").mkdir()
    board = LocalBoard(folder / "root", make_goods(folder / "goods"))
    try:
        with running(folder / "ssh") as server:
            found = Workstation(board, server, folder)
            found.prepare()
            yield found
            found.fork_server.close()
    except MachineError as error:
        unavailable(str(error))
    finally:
        board.fork_server.close()


def test_a_fork_server_ends_without_a_word(tmp_path, capfd):
    """When nobody asks any more; a traceback there looks like a fault that was found."""
    server = ForkServer(tmp_path, "json")

    server.close()

    assert capfd.readouterr().err == ""


def toggling(board, rollback):
    """Return a rollback that switches back and forth, as that of 0.1.0 did."""

    def run(trap):
        left = board.root / "rolled-back"
        if left.is_symlink():
            left.rename(board.root / "previous")
        return rollback.run(trap)

    return device.Work(rollback.state, run)


def _trapped(board, work, at, do="kill"):
    board.restore(work.state)
    return found(board, lambda: work.run({"at": at, "do": do, "log": os.devnull}))


@pytest.mark.parametrize(
    "command", ["install", "validate", "switch", "rollback", "prune", "settle"]
)
def test_a_kill_leaves_a_release_that_runs(prepared, command):
    """Killed in the middle of a command, the board runs what it ran, and can be deployed to."""
    board, works = prepared
    middle = len(device.steps(board, works[command])) // 2

    result = _trapped(board, works[command], middle)

    assert result == Found(code=-9, message="")


def test_a_kill_between_link_and_health_check(prepared):
    """The journal that is left makes the next command ask the release again."""
    board, works = prepared
    names = device.steps(board, works["switch"])
    turned = names.index("subprocess.Popen") + 1

    result = _trapped(board, works["switch"], turned)

    assert result == Found(code=-9, message="")


def test_a_connection_cut_in_the_upload(station):
    """The deployment goes on over another connection."""
    with FaultyNetwork(station.server.port, strike_at=60_000) as line:
        result = station.harmed(lambda: station.deploy("two", port=line.port))

    assert line.struck == 1
    assert result.code == 0
    assert result.is_good


def test_a_workstation_killed_in_the_middle(station, tmp_path):
    """The board goes on with what it ran, and the next deployment ends what was begun."""
    log = tmp_path / "log"
    station.harmed(lambda: station.deploy("two", {"at": 0, "do": "count", "log": str(log)}))
    trap = {"at": len(log.read_text().splitlines()) // 2, "do": "kill", "log": os.devnull}

    result = station.harmed(lambda: station.deploy("two", trap))

    assert result.code == -9
    assert result.is_good


def test_a_rollback_whose_answer_is_cut(station):
    """It is done, and nobody heard; run again, and once more, it is not undone."""
    (done,) = (
        case
        for case in repetition.cut(station, 4)
        if case.name.startswith("rollback, to the workstation, 3")
    )

    result = done.run()

    assert result.code == 5
    assert "run the command again" in result.message
    assert result.is_good


def test_a_rollback_killed_and_repeated(prepared):
    """By the board's own program, in the middle."""
    board, works = prepared
    cases = list(repetition.killed(board, {"rollback": works["rollback"]}))

    assert cases[len(cases) // 2].run().is_good


def test_a_repetition_that_does_harm_is_seen(prepared):
    """A second run that leaves the board otherwise than one run does counts as bad."""
    board, works = prepared
    (first, *_) = repetition.killed(board, {"rollback": toggling(board, works["rollback"])})

    assert "current: -> releases/" in first.run().next


def test_a_python_without_numpy(prepared, tmp_path):
    """Its message says what is missing, and what installs it."""
    board, works = prepared
    board.restore("installed")
    board.python = bare_python(tmp_path / "bare", ())

    ran = works["validate"].run(None)
    board.python = None

    assert ran.code == 5
    assert ran.is_clear
    assert "pip install numpy" in ran.message


def test_a_board_without_a_release_is_seen(prepared):
    """What the campaign claims can be found false: a harm that takes the release away."""
    board, _ = prepared
    board.restore("one")

    def harm():
        (board.root / "current").unlink()
        return Ran(1, "", "Traceback (most recent call last):")

    result = found(board, harm)

    assert result.stands == "current is None"
    assert "Traceback" in result.unclear
    assert not result.is_good


def test_other_answers_are_seen(prepared):
    """A release that runs, but says something else than it always said, does not count."""
    board, _ = prepared
    board.restore("one")
    known, board.answers = board.answers, dict.fromkeys(board.answers, "something else")

    said = board.still_runs()
    board.answers = known

    assert "answers otherwise" in said


@pytest.mark.parametrize(
    ("ran", "clear"),
    [
        (Ran(0, "", ""), True),
        (Ran(-9, "", ""), True),
        (Ran(5, "", "error: The disk is full."), True),
        (Ran(5, "", ""), False),
        (Ran(1, "", "error: something"), False),
        (Ran(-11, "", ""), False),
        (Ran(5, "", "Traceback ...\nerror: The disk is full."), False),
    ],
    ids=str,
)
def test_what_is_clear(ran, clear):
    """An exit code of ours with a message; a crash, silence and a traceback are not."""
    assert ran.is_clear is clear


def test_a_campaign_goes_on_where_it_was(tmp_path):
    """A case that stands in the log is not run again, and counts as it did."""
    calls = []

    def bad():
        calls.append("run")
        return Found(code=1, message="", stands="current is None")

    case = Case("some fault", "a name", bad)
    log = tmp_path / "log"
    for _ in range(2):
        run([case], log)
    with log.open("a") as stream:
        stream.write('{"case": "some fault/cut off when it was wri')

    assert calls == ["run"]
    assert table(read(log)) == [
        {"fault": "some fault", "cases": 1, "release_runs": 0, "clear": 1, "next_works": 1}
    ]


@pytest.mark.parametrize("at", [0, 1, 5_000])
def test_a_line_breaks_at_its_byte(at):
    """What was sent before arrives, nothing after; the next connection passes."""
    arrived: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def collect():
        for _ in range(2):
            end, _ = server.accept()
            data = b""
            with end, suppress(ConnectionError):
                while chunk := end.recv(1 << 16):
                    data += chunk
            arrived.append(data)

    thread = threading.Thread(target=collect)
    thread.start()
    with FaultyNetwork(server.getsockname()[1], strike_at=at) as line:
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", line.port)) as end,
                suppress(OSError),  # whichever call meets the cut
            ):
                end.sendall(bytes(8_000))
                end.shutdown(socket.SHUT_WR)
                end.recv(1)
        thread.join(10)
    server.close()

    assert [len(data) for data in arrived] == [at, 8_000]
    assert line.struck == 1
