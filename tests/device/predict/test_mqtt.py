"""Predictions reach a real broker, also one that goes away and comes back."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from faults.mosquitto import Mosquitto, find_mosquitto

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.__main__ import main
from edgedistill.device.predict import mqtt
from edgedistill.device.predict.message_server import serve_messages
from edgedistill.device.predict.mqtt import Broker, BrokerAddress, to_broker
from edgedistill.device.predict.predictor import Predictor
from edgedistill.device.runtime import start
from edgedistill.errors import MachineError, UsageError

GOOD = "1," * 23 + "2"


@pytest.fixture
def mosquitto(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker with some settings."""
    program = find_mosquitto()
    if program is None:
        unavailable("mosquitto is not installed: apt-get install mosquitto")
    started: list[Mosquitto] = []

    def begin(*lines: str) -> Mosquitto:
        started.append(Mosquitto(program, tmp_path, *lines))
        return started[-1]

    yield begin
    for broker in started:
        broker.stop()


@pytest.fixture
def paho(unavailable: Callable[[str], NoReturn]) -> ModuleType:
    """The library, which is an extra."""
    if importlib.util.find_spec("paho") is None:
        unavailable("paho-mqtt is not installed")
    return importlib.import_module("paho.mqtt.client")


@contextmanager
def _listening(paho: ModuleType, broker: Mosquitto, topic: str) -> Iterator[list[tuple[str, dict]]]:
    """Yield what comes, as topic and object."""
    heard: list[tuple[str, dict]] = []
    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe(topic, qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _c, _d, m: heard.append((m.topic, json.loads(m.payload)))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert subscribed.wait(10)
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def _until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_predictions_of_a_file_are_published(paho, mosquitto, italy, tmp_path, capsys):
    """As printed; the plan of the maps stays with the broker for those who come later."""
    broker = mosquitto()
    (tmp_path / "x.csv").write_text(f"{GOOD}\n1\n")
    command = ["predict", str(italy), str(tmp_path / "x.csv"), "--json", "--saliency"]

    with _listening(paho, broker, "line/#") as heard:
        code = main([*command, "--mqtt", broker.address, "--topic", "line/1"])
        _until(lambda: len(heard) == 3)
    with _listening(paho, broker, "line/#") as later:
        _until(lambda: later)

    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 3, "the second line is no series"
    assert [said for _, said in heard] == printed
    assert [topic for topic, _ in heard] == ["line/1/plan", "line/1", "line/1"]
    assert later == [("line/1/plan", printed[0])]


def test_broker_that_comes_back_gets_queued_messages(paho, mosquitto):
    """Nothing is lost that found room."""
    broker = mosquitto("allow_anonymous true", "persistence false")

    with Broker(to_broker(broker.address), "t") as ours:
        ours.publish('{"n": 0}')
        _until(lambda: not ours._waiting)
        broker.stop()
        ours.publish('{"n": 1}')
        broker.start()
        with _listening(paho, broker, "t") as heard:
            _until(lambda: heard)

    assert ours.dropped == 0
    assert ("t", {"n": 1}) in heard


def test_lost_connection_is_logged(paho, mosquitto):
    """And that it is over, but not that we leave ourselves."""
    broker, told = mosquitto(), []

    with Broker(to_broker(broker.address), "t", log=told.append):
        broker.stop()
        _until(lambda: len(told) == 1)
        broker.start()
        _until(lambda: len(told) == 2)

    assert "is away; up to 1000 predictions wait" in told[0]
    assert "is back" in told[1]
    assert len(told) == 2


def test_messages_dropped_by_an_absent_broker_are_counted(paho, mosquitto, monkeypatch):
    """What found no room was dropped, and is counted; so is what was never taken."""
    monkeypatch.setattr(mqtt, "_QUEUED", 2)
    monkeypatch.setattr(mqtt, "_REPLY_S", 2.0)
    broker = mosquitto()

    with Broker(to_broker(broker.address), "t") as ours:
        broker.stop()
        for _ in range(5):
            ours.publish("{}")
        assert ours.dropped == 3

    assert ours.dropped == 5


def test_a_user_and_a_password(paho, mosquitto, tmp_path, monkeypatch):
    """The password comes from the environment; a wrong one is refused with the way out."""
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    subprocess.run(["mosquitto_passwd", "-b", passwords, "pi", "secret"], check=True)
    passwords.chmod(0o644)
    broker = mosquitto("allow_anonymous false", f"password_file {passwords}")

    monkeypatch.setenv(mqtt.PASSWORD, "secret")
    with Broker(to_broker(f"pi@{broker.address}"), "t") as ours:
        ours.publish("{}")
    assert ours.dropped == 0
    monkeypatch.setenv(mqtt.PASSWORD, "wrong")
    with pytest.raises(MachineError, match=r"(?i)not authori[sz]ed.*password"):
        Broker(to_broker(f"pi@{broker.address}"), "t")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(paho, mosquitto, tmp_path, monkeypatch):
    """A certificate that is trusted is taken, any other is not."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    broker = mosquitto("allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    address = to_broker(f"mqtts://{broker.address}")

    with pytest.raises(MachineError, match="certificate verify failed"):
        Broker(address, "t")
    gc.collect()  # paho-mqtt leaves the refused socket to the garbage collector
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with Broker(address, "t") as ours:
        ours.publish("{}")

    assert ours.dropped == 0


def test_no_listener(paho):
    """The message names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(MachineError, match=f"127.0.0.1:{port} cannot be used"):
        Broker(BrokerAddress("127.0.0.1", port), "t")


def test_listener_that_is_no_broker_is_refused(paho, monkeypatch):
    """It takes the connection and never answers."""
    monkeypatch.setattr(mqtt, "_REPLY_S", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(MachineError, match="does not answer as a broker"),
    ):
        Broker(BrokerAddress("127.0.0.1", silent.getsockname()[1]), "t")


def test_series_from_a_topic(paho, mosquitto, italy, threaded_service):
    """Each message is a series; each has an answer, also one that is none."""
    broker = mosquitto()
    told: list[str] = []

    with (
        _listening(paho, broker, "out") as heard,
        open_bundle(italy) as bundle,
        Broker(to_broker(broker.address), "out", source="in") as ours,
    ):
        predictor = Predictor(bundle, start(bundle.model()))
        thread = threading.Thread(
            target=serve_messages,
            args=(ours, predictor, threaded_service),
            kwargs={"log": told.append},
        )
        thread.start()
        try:
            with Broker(to_broker(broker.address), "in") as sensor:
                _until(lambda: told)
                sensor.publish("what")
                sensor.publish(json.dumps({"id": "a", "series": [1, 2, 3]}))
                _until(lambda: len(heard) == 2)
        finally:
            threaded_service.end()
            thread.join()

    assert "error" in heard[0][1]
    assert heard[1][1]["id"] == "a"


def test_series_without_room_stay_with_the_broker(paho, mosquitto, monkeypatch):
    """The connection is not read meanwhile; nothing is dropped, and nothing acknowledged."""
    monkeypatch.setattr(mqtt, "_MESSAGES", 3)
    broker = mosquitto()

    with Broker(to_broker(broker.address), "out", source="in") as first:
        with Broker(to_broker(broker.address), "in", patience_s=5) as sensor:
            for number in range(8):
                sensor.publish(str(number))
        _until(lambda: first._events.qsize() == 1 + 3)  # the session is new
    with Broker(to_broker(broker.address), "out", source="in") as second:
        found = []
        while len(found) < 8:
            found.append(second.next_event(20))
            assert isinstance(found[-1], mqtt.Message)
            assert second.acknowledge(found[-1])

    assert sorted(message.payload for message in found) == [b"%d" % n for n in range(8)]
    assert any(message.redelivered for message in found)


def test_message_of_an_earlier_connection_is_not_acknowledged(paho, mosquitto):
    """Its number may be another's by now; the broker sends it again."""
    broker = mosquitto()

    with (
        Broker(to_broker(broker.address), "out", source="in") as ours,
        Broker(to_broker(broker.address), "in") as sensor,
    ):
        sensor.publish("1")
        assert isinstance(ours.next_event(20), mqtt.SessionLoss)
        message = ours.next_event(20)
        broker.stop()
        _until(lambda: not ours.hold_messages())
        assert not ours.acknowledge(message)
        broker.start()
        _until(lambda: isinstance(ours.next_event(1), mqtt.SessionLoss))

        assert not ours.acknowledge(message)


def test_service_waits_for_an_absent_broker(paho, mosquitto, tmp_path):
    """And publishes what waited."""
    broker, told = mosquitto(), []
    broker.stop()

    with Broker(to_broker(broker.address), "t", waits=True, log=told.append) as ours:
        ours.publish('{"n": 1}', keep=True)
        broker.start()
        with _listening(paho, broker, "t") as heard:
            _until(lambda: heard)

    assert "Waiting for the broker" in told[0]
    assert "is back" in told[1]


def test_subscription_that_is_refused(paho):
    """It would wait for ever otherwise. Mosquitto refuses none, so these are bare bytes."""

    def refuse(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(1024)
            client.sendall(b"\x20\x02\x00\x00")  # connected, no session
            subscription = client.recv(1024)
            client.sendall(b"\x90\x03" + subscription[2:4] + b"\x80")
            client.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        with pytest.raises(MachineError, match="may not be read from in"):
            Broker(BrokerAddress("127.0.0.1", listener.getsockname()[1]), "out", source="in")
        listener.close()
        thread.join()


@pytest.mark.parametrize("source", ["", "a/#/b", "a+/b", "a#", "a\0b"])
def test_invalid_source_is_refused(source):
    """Where the wrong signs stand."""
    with pytest.raises(UsageError, match="is no topic to subscribe to"):
        Broker(BrokerAddress("127.0.0.1"), "t", source=source)


@pytest.mark.parametrize(
    "text", ["", "host:", "host:x", "host:0", "host:70000", "a b", ":1", "http://h"]
)
def test_invalid_broker_address_is_refused(text):
    """The message shows the form."""
    with pytest.raises(UsageError, match=r"is no broker\. Give HOST"):
        to_broker(text)


@pytest.mark.parametrize("topic", ["", "a/#", "+/b"])
def test_invalid_topic_is_refused(topic):
    """Patterns are for those who listen."""
    with pytest.raises(UsageError, match="no topic to publish to"):
        Broker(BrokerAddress("127.0.0.1"), topic)


def test_without_paho(italy, tmp_path):
    """The message says what installs it; nothing else needs it."""
    code = (
        "import sys; sys.modules['paho'] = None\n"
        "from edgedistill.device.__main__ import main\n"
        f"sys.exit(main(['predict', {str(italy)!r}, '--mqtt', 'localhost', '--topic', 't']))"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True
    )

    assert ran.returncode == 5
    assert "pip install paho-mqtt" in ran.stderr
