"""A service tells systemd how it is, stops when asked, and notices a new release."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedistill.device.predict.service import Link, Service, notify
from edgedistill.errors import ModelError


@pytest.fixture(params=["path", "abstract"])
def heard(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd listens, of either kind."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0"))
        sock.settimeout(5)
        yield sock


def test_states_are_sent_to_systemd(heard, tmp_path):
    """Signs of life while it works, a word when it stops."""
    service = Service(tmp_path)

    notify("READY=1")
    service.tick()
    service.stop()
    service.stop()

    assert [heard.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.recv(100)


def test_service_that_cannot_work_gives_no_sign_of_life(heard, tmp_path):
    """It ends, for systemd to start it again."""
    service = Service(tmp_path)

    def check():
        raise ModelError("no finite logits")

    service.check = check
    with pytest.raises(ModelError):
        service.tick()

    heard.setblocking(False)
    with pytest.raises(BlockingIOError):
        heard.recv(100)


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
def test_no_listener(address, monkeypatch):
    """Then nothing is told, and nothing fails."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop(sign, tmp_path):
    """While it serves; afterwards signals do what they did before."""
    service, called = Service(tmp_path), []
    before = signal.getsignal(sign)

    with service.signals(lambda: called.append(True)):
        assert service.tick()
        os.kill(os.getpid(), sign)
        assert not service.tick()

    assert called == [True]
    assert not service.renewed
    assert signal.getsignal(sign) is before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with two releases, of which `current` is the first."""
    for name in ("one", "two"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to("releases/one")
    return tmp_path


def _switch(root: Path, name: str) -> None:
    (root / ".new").symlink_to(f"releases/{name}")
    (root / ".new").replace(root / "current")


def test_a_new_release_is_noticed(root):
    """Once it is known to hold: a switch under way may go back."""
    service = Service(root / "current")
    assert service.tick()

    (root / "switching.json").write_text("{}")
    _switch(root, "two")
    assert service.tick()
    (root / "switching.json").unlink()

    assert not service.tick()
    assert service.renewed


def test_a_signal_while_it_is_renewed_ends_it(root):
    """Whoever stops the service does not want another one."""
    service = Service(root / "current")
    _switch(root, "two")

    with service.signals():
        service.tick()
        os.kill(os.getpid(), signal.SIGTERM)

    assert service.stopped
    assert not service.renewed


def test_a_switch_while_the_service_started_is_noticed(root):
    """What counts is what was opened, not where the link leads when somebody first looks."""
    _switch(root, "two")

    assert Link(root / "current", target=root / "releases" / "one").has_moved()


def test_switch_that_went_back_is_ignored(root):
    """The service goes on as it is."""
    link = Link(root / "current")

    _switch(root, "two")
    assert link.has_moved()
    _switch(root, "one")

    assert not link.has_moved()


def test_a_link_that_is_gone_is_no_new_release(root):
    """There is nothing to start."""
    link = Link(root / "current")

    (root / "current").unlink()

    assert not link.has_moved()


def test_plain_folder_never_has_a_new_target(root):
    """Only a link can come to lead elsewhere."""
    assert not Link(root / "releases" / "one").has_moved()
