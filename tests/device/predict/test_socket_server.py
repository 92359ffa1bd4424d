"""Several clients on a socket: each gets its own answers, in order, and nobody can hold up all."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.deployment.zipapp import write_program
from edgedistill.device.predict import socket_server as serving
from edgedistill.device.predict import sockets
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import Service
from edgedistill.device.predict.socket_server import read_token, serve
from edgedistill.device.predict.sockets import open_sockets, to_address
from edgedistill.device.runtime import start
from edgedistill.errors import IntegrityError, MachineError, UsageError

GOOD = b"1," * 23 + b"2\n"


@contextmanager
def _serving(
    service: Service, bundle: Path, address: str, *, saliency: bool = False, **options: object
) -> Iterator[tuple[str, Service]]:
    """Serve in a thread; yield the address and the service."""
    ready, told = threading.Event(), []

    def tell(where: str) -> None:
        told.append(where.removeprefix("Listening at ").removesuffix("."))
        ready.set()

    with open_bundle(bundle) as opened:
        predictor = Predictor(opened, start(opened.model()), saliency=saliency)
        thread = threading.Thread(
            target=serve,
            args=(to_address(address), predictor, service),
            kwargs={"log": tell, **options},
        )
        thread.start()
        try:
            assert ready.wait(20)
            yield told[0], service
        finally:
            service.end()
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def serves(threaded_service: Service) -> Callable[..., AbstractContextManager]:
    """Serve a bundle at an address."""
    return partial(_serving, threaded_service)


def _connected(address: str) -> socket.socket:
    where = to_address(address)
    if where.path is None:
        return socket.create_connection((where.host, where.port), timeout=20)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    try:
        client.connect(str(where.path))
    except OSError:
        client.close()
        raise
    return client


def _ask(address: str, content: bytes) -> list[dict]:
    """Send everything, hang up one way, and return all answers."""
    with _connected(address) as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in client.makefile()]


@pytest.mark.parametrize("kind", ["unix", "127.0.0.1", "[::1]"])
def test_each_line_gets_a_reply_in_order(kind, italy, serves, tmp_path):
    """In the order they came, bad ones too, and the last without a line end."""
    address = f"unix:{tmp_path}/s" if kind == "unix" else f"{kind}:0"

    with serves(italy, address) as (where, _):
        answers = _ask(where, GOOD + b"what\n" + b'{"id": "x", "series": [1, 2, 3]}')

    assert [answer["line"] for answer in answers] == [1, 2, 3]
    assert ["error" in answer for answer in answers] == [False, True, False]
    assert answers[2]["id"] == "x"


def test_reply_comes_at_once(italy, serves, tmp_path):
    """The client need not hang up, or send more."""
    with serves(italy, f"unix:{tmp_path}/s") as (where, _), _connected(where) as client:
        answers = client.makefile()
        for _ in range(3):
            client.sendall(GOOD)

            assert "class" in json.loads(answers.readline())


def test_saliency_begins_with_the_plan(italy, serves, tmp_path):
    """Each client is told once."""
    with serves(italy, f"unix:{tmp_path}/s", saliency=True) as (where, _):
        plan, answer = _ask(where, GOOD)

    assert len(plan["plan"]["starts"]) == len(answer["saliency"])


def test_many_clients_get_their_own_replies(italy, serves, tmp_path):
    """Eight at a time, each with ids of its own."""
    found: dict[int, list[str]] = {}

    def ask(where: str, number: int) -> None:
        lines = (json.dumps({"id": f"{number}-{k}", "series": [k, 1, 2]}) for k in range(40))
        found[number] = [a["id"] for a in _ask(where, "\n".join(lines).encode())]

    with serves(italy, f"unix:{tmp_path}/s") as (where, _):
        threads = [threading.Thread(target=ask, args=(where, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == {number: [f"{number}-{k}" for k in range(40)] for number in range(8)}


def _send_forever(client: socket.socket, times: int) -> None:
    for _ in range(times):
        client.send(GOOD)


def test_client_that_does_not_read_delays_only_itself(italy, serves, tmp_path):
    """It waits for itself, and the memory of its answers is bounded."""
    heard: list[PredictionResult] = []

    with (
        serves(italy, f"unix:{tmp_path}/s", observe=heard.append) as (where, _),
        _connected(where) as deaf,
    ):
        deaf.settimeout(1)
        with pytest.raises(TimeoutError):  # in the end nobody takes what it sends
            deaf.sendall(GOOD * 1_000_000)
        quick = _ask(where, GOOD)
        answered, until = -1, time.monotonic() + 20
        while len(heard) - answered >= 10 and time.monotonic() < until:
            answered = len(heard)
            time.sleep(0.3)
        deaf.setblocking(False)

        assert len(quick) == 1
        assert len(heard) - answered < 10, "the deaf client's lines are still being answered"
        with pytest.raises(BlockingIOError):  # nor are they kept for later
            _send_forever(deaf, 20_000)


def test_unfinished_lines_of_all_clients_are_bounded(italy, serves, tmp_path, monkeypatch):
    """Who holds more than a share is refused; who holds little goes on."""
    monkeypatch.setattr(serving, "_HELD_BYTES", 100_000)

    with (
        serves(italy, f"unix:{tmp_path}/s") as (where, _),
        _connected(where) as small,
        _connected(where) as first,
        _connected(where) as second,
    ):
        small.sendall(GOOD[:10])
        first.sendall(b"1," * 30_000)
        with suppress(OSError):  # it hangs up on us
            second.sendall(b"1," * 30_000)
        refused = json.loads(second.makefile().readline())
        small.sendall(GOOD[10:])
        answer = json.loads(small.makefile().readline())

    assert "unfinished lines" in refused["error"]
    assert "class" in answer


def test_half_a_line_has_to_end_soon(italy, serves, tmp_path, monkeypatch):
    """A client between two lines may take its time."""
    monkeypatch.setattr(serving, "_IDLE_S", 0.3)

    with (
        serves(italy, f"unix:{tmp_path}/s") as (where, _),
        _connected(where) as patient,
        _connected(where) as half,
    ):
        half.sendall(GOOD + GOOD[:10])
        answers = [json.loads(line) for line in half.makefile()]
        patient.sendall(GOOD)
        late = json.loads(patient.makefile().readline())

    assert "class" in answers[0]
    assert "rest of a line did not come" in answers[1]["error"]
    assert "class" in late


def test_client_beyond_the_limit_is_refused(italy, serves, tmp_path):
    """And can come back when another has left."""
    with serves(italy, f"unix:{tmp_path}/s", max_clients=1) as (where, _):
        with _connected(where) as first:
            first.sendall(GOOD)
            first.makefile().readline()
            with _connected(where) as second:
                refused = json.loads(second.makefile().readline())
        time.sleep(0.1)
        (accepted,) = _ask(where, GOOD)

    assert "Come back later" in refused["error"]
    assert "class" in accepted


def test_stop_replies_to_received_lines(italy, serves, tmp_path):
    """Then it hangs up; half a line is no line."""
    with serves(italy, f"unix:{tmp_path}/s") as (where, service):
        with _connected(where) as client:
            client.sendall(GOOD * 30 + b"1,2")
            answers = client.makefile()
            first = answers.readline()
            service.stop()
            rest = answers.readlines()

        assert len([first, *rest]) == 30
        assert all("class" in json.loads(line) for line in rest)
    assert not Path(where.removeprefix("unix:")).exists()


def test_socket_left_by_a_killed_service_is_replaced(italy, serves, tmp_path):
    """A socket that is served is not; and it is not for everybody."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with serves(italy, f"unix:{path}") as (where, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(MachineError, match="another process listens there"):
            open_sockets(to_address(where))
        assert len(_ask(where, GOOD)) == 1


def test_taken_addresses(tmp_path):
    """The message names the address."""
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(MachineError, match=f"127.0.0.1:{port}: Address already in use"):
            open_sockets(to_address(f"127.0.0.1:{port}"))
    with pytest.raises(MachineError, match="file: Address already in use"):
        open_sockets(to_address(f"unix:{tmp_path / 'file'}"))


@pytest.mark.parametrize(
    "text", ["unix:/no/such/folder/s", "unix:/" + "x" * 200, f"{'x' * 100}.invalid:1"]
)
def test_addresses_that_cannot_be(text):
    """A folder that is not there, a path that is too long, a name that no host can have."""
    with pytest.raises(MachineError, match="Choose another address"):
        open_sockets(to_address(text))


@pytest.mark.parametrize("text", ["", "unix:", "host", "host:", "host:x", "host:70000", ":80"])
def test_invalid_address_is_refused(text):
    """The message shows both kinds."""
    with pytest.raises(UsageError, match="unix:PATH, or HOST:PORT"):
        to_address(text)


def _device(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgedistill.device", *map(str, arguments)]


def _install(root: Path, bundle: Path) -> str:
    """Install a bundle as a release and return its name."""
    command = _device("releases", "--root", root, "install", bundle, "--unsigned", "--json")
    done = subprocess.run(command, check=True, capture_output=True)
    return json.loads(done.stdout)["name"]


def _switch(root: Path, name: str) -> None:
    (root / ".next").symlink_to(f"releases/{name}")
    (root / ".next").replace(root / "current")


def _states(systemd: socket.socket) -> list[bytes]:
    """Return what was told since, equal things in a row once."""
    heard: list[bytes] = []
    systemd.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            state = systemd.recv(100)
            heard += [state] if heard[-1:] != [state] else []
    return heard


def _until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_line_limit_follows_from_the_model(italy, serves, tmp_path):
    """24 values are a short line: 64 KiB, and 32 bytes for each of four times as many."""
    limit = 65_536 + 4 * 24 * 32
    line = b'{"id": "x", "series": [1' + b", 2" * 23 + b"]}"

    with serves(italy, f"unix:{tmp_path}/s") as (where, _):
        longest, beyond = _ask(where, line.ljust(limit) + b"\n" + line.ljust(limit + 1) + b"\n")

    assert "class" in longest
    assert f"more than {limit} bytes" in beyond["error"]


TOKEN = "0123456789abcdef"


def test_port_asks_for_its_token(italy, serves):
    """In the first line, which has no reply and no number; nobody else learns anything."""
    with serves(italy, "127.0.0.1:0", saliency=True, token=TOKEN) as (where, _):
        known = _ask(where, json.dumps({"token": TOKEN}).encode() + b"\n" + GOOD)
        strangers = [
            _ask(where, first + b"\n" + GOOD)
            for first in (
                GOOD,
                b'{"token": "0123456789abcdeF"}',
                b'{"token": 1}',
                b"[",
                b"x" * 9_000,
            )
        ]

    assert [next(iter(answer)) for answer in known] == ["plan", "line"]
    assert known[1]["line"] == 1
    for answers in strangers:
        assert [list(answer) for answer in answers] == [["error"]]
        assert "token of this service" in answers[0]["error"]


def test_client_without_a_token_is_disconnected(italy, serves, monkeypatch):
    """It would hold a place of others."""
    monkeypatch.setattr(serving, "_TOKEN_S", 0.3)

    with serves(italy, "127.0.0.1:0", token=TOKEN) as (where, _), _connected(where) as silent:
        (answer,) = [json.loads(line) for line in silent.makefile()]

    assert "token of this service" in answer["error"]


@pytest.mark.parametrize(
    ("content", "mode", "kind", "message"),
    [
        (TOKEN, 0o640, IntegrityError, "may be read by others"),
        (TOKEN[:15], 0o600, IntegrityError, "has 15 characters"),
        (None, 0, MachineError, "cannot be read"),
    ],
    ids=range(3),
)
def test_token_that_is_no_secret_is_refused(content, mode, kind, message, tmp_path):
    """A file that others may read, a short one, none."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)

    with pytest.raises(kind, match=message):
        read_token(path)


def test_token_of_a_file(tmp_path):
    """Without the line feed."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)

    assert read_token(path) == TOKEN


def test_a_switch_renews_the_service_and_sigterm_ends_it(world, tmp_path):
    """The same process goes on with the new release, and systemd hears of each state."""
    root, address = tmp_path / "root", f"unix:{tmp_path}/s"
    old = _install(root, world.write(tmp_path / "old.zip"))
    new = _install(root, world.write(tmp_path / "new.zip", class_names=("cold", "warm")))
    _switch(root, old)
    lines = (json.dumps({"series": row[0].tolist()}) for row in np.asarray(world.series[:1]))
    question = "\n".join(lines).encode()

    def classes() -> set[str]:
        return set(_ask(address, question)[0]["probabilities"])

    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    systemd.settimeout(20)
    process = subprocess.Popen(
        _device("predict", root / "current", "--listen", address),
        env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
        stderr=subprocess.PIPE,
    )
    try:
        assert systemd.recv(100) == b"READY=1"
        _until(lambda: classes() == {"winter", "summer"})
        _switch(root, new)
        _until(lambda: classes() == {"cold", "warm"})
        states = _states(systemd)
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        ended = _states(systemd)
    finally:
        process.kill()
        systemd.close()

    assert process.returncode == 0, errors
    assert b"Traceback" not in errors
    assert states[:2] == [b"WATCHDOG=1", b"STATUS=Starting the new release"]
    assert states[2] == b"READY=1"
    assert b"STOPPING=1" in ended


def test_clients_stay_connected_over_a_switch(world, tmp_path):
    """Between two lines, within one, and before the first: the next release goes on with each."""
    root, address = tmp_path / "root", f"unix:{tmp_path}/s"
    names = ("winter", "summer"), ("cold", "warm")
    releases = [
        _install(root, world.write(tmp_path / f"{k}.zip", class_names=name))
        for k, name in enumerate(names)
    ]
    _switch(root, releases[0])
    process = subprocess.Popen(
        _device("predict", root / "current", "--listen", address), stderr=subprocess.PIPE
    )
    try:
        process.stderr.readline()  # it listens
        with _connected(address) as between, _connected(address) as within:
            replies, others = between.makefile(), within.makefile()
            for turn in (1, 0, 1):
                before = names[1 - turn]
                with _connected(address) as before_the_first:
                    between.sendall(GOOD)
                    within.sendall(GOOD + GOOD[:11])
                    first, second = json.loads(replies.readline()), json.loads(others.readline())
                    _switch(root, releases[turn])
                    _until(
                        lambda turn=turn: names[turn][0] in _ask(address, GOOD)[0]["probabilities"]
                    )
                    within.sendall(GOOD[11:])
                    third = json.loads(others.readline())
                    before_the_first.sendall(GOOD)
                    new = json.loads(before_the_first.makefile().readline())

                assert tuple(first["probabilities"]) == tuple(second["probabilities"]) == before
                assert tuple(third["probabilities"]) == tuple(new["probabilities"]) == names[turn]
                assert (third["line"], new["line"]) == (second["line"] + 1, 1)
    finally:
        process.kill()
        process.communicate()


def test_rollback_to_a_program_that_takes_no_sockets(tmp_path, monkeypatch, italy, serves):
    """Its own address would be taken: the socket is closed, and the clients are."""
    program = tmp_path / "edgedistill-device.pyz"
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("edgedistill/device/predict/socket_server.py", "")
    monkeypatch.setattr(sys, "argv", [str(program)])

    with serves(italy, f"unix:{tmp_path}/s") as (where, service), _connected(where) as client:
        client.sendall(GOOD)
        replies = client.makefile()
        reply = replies.readline()
        service.renewed = True
        service.stop()
        rest = replies.readlines()
    with open_sockets(to_address(where))[0] as again:
        is_listening = again.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)

    assert "class" in json.loads(reply)
    assert (rest, is_listening) == ([], 1)
    assert "EDGEDISTILL_SOCKETS" not in os.environ


def test_programs_that_take_sockets(tmp_path, monkeypatch):
    """The one that is deployed, and these modules."""
    write_program(tmp_path / "program.pyz")

    for path, expected in ((tmp_path / "program.pyz", True), (Path(sockets.__file__), True)):
        monkeypatch.setattr(sys, "argv", [str(path)])
        assert sockets.next_program_takes_sockets() is expected
