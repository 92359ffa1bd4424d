"""A connection to an MQTT broker: predictions to it, and messages from it, through paho-mqtt.

The one part of the device side that needs a package of its own, so it is imported only when a
broker is named. Version 1.6, which Debian 12 and JetPack 6 bring, and version 2 both do.
"""

from __future__ import annotations

import hashlib
import os
import platform
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from edgedistill.device.predict.inputs import MAX_LINE_BYTES
from edgedistill.errors import MachineError, UsageError

PASSWORD: Final = "EDGEDISTILL_MQTT_PASSWORD"  # noqa: S105 - the variable's name
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_QOS = 1  # at least once: the broker acknowledges
_QUEUED = 1_000  # predictions that wait for the broker
_MESSAGES = 100  # that wait for the service; the connection is not read meanwhile
_POLL_S = 0.1
_REPLY_S = 10.0  # until the broker replies
_KEEPALIVE_S = 60
_FAILURE = 128  # and above: a code of a refused subscription
_RECONNECT_S = 1, 8  # first and longest pause between two attempts
_ID_LENGTH = 23  # of a client; every broker takes that many characters


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Address of a broker, and the user to log in as."""

    host: str
    port: int = _PORTS["mqtt"]
    user: str | None = None
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def to_broker(text: str) -> BrokerAddress:
    """Parse `[mqtts://][USER@]HOST[:PORT]`.

    Raises:
        UsageError: it is no such address.

    >>> to_broker("pi@broker.local")
    BrokerAddress(host='broker.local', port=1883, user='pi', tls=False)
    """
    scheme, _, rest = text.rpartition("://")
    scheme = scheme or "mqtt"
    user, _, place = rest.rpartition("@")
    host, colon, port = place.partition(":")
    port = port if colon else str(_PORTS.get(scheme, 0))
    usable = host and port.isascii() and port.isdecimal() and 0 < int(port) <= 65535
    if scheme not in _PORTS or not usable or any(sign.isspace() for sign in text):
        raise UsageError(
            f"{text!r} is no broker. Give HOST, HOST:PORT or USER@HOST:PORT, and mqtts:// in "
            "front for TLS."
        )
    return BrokerAddress(host, int(port), user or None, scheme == "mqtts")


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the source; one of QoS 1 stays with the broker until it is acknowledged."""

    payload: bytes | None  # None for one longer than a line may be
    number: int  # the broker's, unique among the unacknowledged
    qos: int
    redelivered: bool  # the broker has sent it before, and got no acknowledgment
    connection: int  # number of the connection that it came by


@dataclass(frozen=True, slots=True)
class Acknowledgment:
    """The broker has taken a prediction."""

    number: int  # as `Broker.publish` returned it


@dataclass(frozen=True, slots=True)
class SessionLoss:
    """The broker has forgotten which messages are unacknowledged."""


Event = Message | Acknowledgment | SessionLoss


class Broker:
    """A connection that reconnects; unacknowledged messages are sent again.

    With a source the broker keeps the session: it stores what comes while nobody is connected, and
    sends again what was not acknowledged, to the next process too.

    Args:
        address: address of the broker; the password is in EDGEDISTILL_MQTT_PASSWORD.
        topic: topic of the predictions.
        source: topic of incoming series, if any.
        patience_s: time that a prediction waits for room at the broker before it is dropped and
            counted; with a source none is dropped.
        waits: whether a broker that cannot be reached yet is waited for, in the background.
        log: callback for losses of the connection and their ends.

    Raises:
        MachineError: paho-mqtt is missing, or the broker cannot be reached or refuses.
        UsageError: the topic is a pattern.
    """

    def __init__(
        self,
        address: BrokerAddress,
        topic: str,
        *,
        source: str | None = None,
        patience_s: float = 0.0,
        waits: bool = False,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._topic = topic
        self._source = source
        self._patience_s = patience_s
        self._waits = waits
        self._log = log
        self._answered = threading.Event()
        self._refusal: str | None = None
        self._room = threading.Semaphore(_QUEUED)
        self._waiting = 0
        self._lock = threading.Lock()
        self._connection = 0
        self._is_away = False
        self._holds = False
        self._space = threading.Semaphore(_MESSAGES)
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.dropped = 0  # predictions that the broker did not take
        self.resent = 0  # predictions that it may have twice
        if not topic or set("+#\0") & set(topic):
            raise UsageError(f"{topic!r} is no topic to publish to. Give one without + and #.")
        if source is not None and not _is_filter(source):
            raise UsageError(
                f"{source!r} is no topic to subscribe to. + stands for a whole level, and # for "
                "all further ones, at the end."
            )
        self._client = self._connected()

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def publish(self, payload: str, *, subtopic: str = "", keep: bool = False) -> int | None:
        """Queue a message; it is sent in the background.

        Args:
            payload: text of the message.
            subtopic: suffix of the topic, such as "/plan".
            keep: retain the message at the broker for later subscribers.

        Returns:
            Number of the message, that of its `Acknowledgment`; None if it was dropped.
        """
        if self._source is None and not self._room.acquire(
            timeout=self._patience_s or None, blocking=self._patience_s > 0
        ):
            self.dropped += 1
            return None
        with self._lock:
            self._waiting += 1
        sent = self._client.publish(self._topic + subtopic, payload, qos=_QOS, retain=keep)
        return int(sent.mid)

    def next_event(self, timeout_s: float) -> Event | None:
        """Return the next event of a broker with a source; None if there is none in time."""
        try:
            event = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(event, Message):
            self._space.release()
        return event

    @property
    def has_events(self) -> bool:
        """Whether an event waits."""
        return not self._events.empty()

    def acknowledge(self, message: Message) -> bool:
        """Acknowledge a message; return False for one of an earlier connection.

        The broker will send that again, if it still knows it: its number may be another's by now.
        """
        with self._lock:
            if message.connection != self._connection or self._is_away:
                return False
            if message.qos:
                self._client.ack(message.number, message.qos)
            return True

    def hold_messages(self) -> bool:
        """Leave all further messages to the broker; return whether it is connected."""
        self._holds = True
        return not self._is_away

    def close(self) -> None:
        """Wait until the broker has everything, for ten seconds at most, and leave."""
        until = time.monotonic() + _REPLY_S
        self._log = lambda _: None
        self._holds = True
        if self._source is None:  # with a source, its series are unacknowledged: nothing is lost
            while self._waiting and time.monotonic() < until:
                time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()
        if self._source is None:
            self.dropped += self._waiting

    def _connected(self) -> Any:
        client = self._configured_client()
        try:
            client.connect(self._address.host, self._address.port, keepalive=_KEEPALIVE_S)
        except ValueError as error:
            raise self._unreachable(str(error)) from error
        except OSError as error:
            if not self._waits:
                raise self._unreachable(str(error)) from error
            self._wait_for_broker(str(error))
            client.connect_async(self._address.host, self._address.port, keepalive=_KEEPALIVE_S)
            client.loop_start()
            return client
        client.loop_start()
        if not self._answered.wait(_REPLY_S) and self._waits:
            self._wait_for_broker("it does not answer as a broker does")
        elif self._refusal is not None or not self._answered.is_set():
            client.loop_stop()
            raise self._unreachable(self._refusal or "it does not answer as a broker does")
        return client

    def _configured_client(self) -> Any:
        name = "" if self._source is None else _client_id(self._topic, self._source)
        client = _client(_paho(), name)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.reconnect_delay_set(*_RECONNECT_S)
        if self._address.user is not None:
            client.username_pw_set(self._address.user, os.environ.get(PASSWORD))
        if self._address.tls:
            client.tls_set()  # the system's certificates, or SSL_CERT_FILE
        return client

    def _wait_for_broker(self, reason: str) -> None:
        with self._lock:
            self._is_away = self._connection == 0
        self._answered.set()
        if self._is_away:
            self._log(f"Waiting for the broker at {self._address}: {reason}.")

    def _unreachable(self, reason: str) -> MachineError:
        return MachineError(
            f"The MQTT broker at {self._address} cannot be used: {reason}. Check the address, the "
            f"user, and the password in {PASSWORD}."
        )

    def _on_connect(self, client: Any, _data: object, flags: Any, *codes: Any) -> None:
        code = codes[0]  # version 2 of paho-mqtt adds properties
        if code != 0:
            self._refuse(str(_paho().connack_string(code)))
            return
        kept = flags["session present"] if isinstance(flags, dict) else flags.session_present
        with self._lock:
            self.resent += self._waiting if self._connection else 0
            self._connection += 1
            was_away, self._is_away = self._is_away, False
        if self._source is not None:
            if not kept:
                self._events.put(SessionLoss())
            client.subscribe(self._source, qos=_QOS)  # again: the session may be a new one
        if was_away:
            self._log(f"The broker at {self._address} is back.")
        elif self._source is None or kept:  # what is kept includes the subscription
            self._answered.set()

    def _refuse(self, reason: str) -> None:
        if self._answered.is_set():
            self._log(f"The broker at {self._address} refuses: {reason}.")
        else:
            self._refusal = reason
            self._answered.set()

    def _on_subscribe(self, _client: object, _data: object, _number: int, *codes: Any) -> None:
        if any(getattr(code, "value", code) >= _FAILURE for code in codes[0]):
            self._refuse(f"series may not be read from {self._source}")
        self._answered.set()  # from now on nothing that is sent is lost

    def _on_disconnect(self, *_: object) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if self._answered.is_set() and self._refusal is None and not was_away:
            what = f"up to {_QUEUED} predictions wait for it"
            what = what if self._source is None else "series wait there"
            self._log(f"The broker at {self._address} is away; {what}.")

    def _on_publish(self, _client: object, _data: object, number: int, *_: object) -> None:
        with self._lock:
            self._waiting -= 1
        if self._source is None:
            self._room.release()
        else:
            self._events.put(Acknowledgment(number))

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        if self._holds:
            return
        payload = message.payload if len(message.payload) <= MAX_LINE_BYTES else None
        while not self._space.acquire(timeout=_POLL_S):
            if self._holds:  # nobody will make room any more
                return
        self._events.put(
            Message(payload, message.mid, message.qos, bool(message.dup), self._connection)
        )


def _is_filter(text: str) -> bool:
    """Return whether topics can be subscribed to by it."""
    levels = text.removesuffix("/#").split("/") if text != "#" else []
    plain = all(level == "+" or not set("+#\0") & set(level) for level in levels)
    return bool(text) and plain


def _client_id(topic: str, source: str) -> str:
    """Return a name that is the same for every process of this machine with these topics."""
    machine = platform.node()
    with suppress(OSError):
        machine = Path("/etc/machine-id").read_text(encoding="ascii") or machine
    digest = hashlib.sha256("\n".join((machine, source, topic)).encode()).hexdigest()
    return f"edgedistill-{digest}"[:_ID_LENGTH]


def _paho() -> ModuleType:
    try:
        import paho.mqtt.client as paho
    except ImportError as error:
        raise MachineError(
            f"MQTT needs paho-mqtt, which cannot be loaded on this machine ({error}). Install it "
            "with: python -m pip install paho-mqtt (Debian: apt-get install python3-paho-mqtt)"
        ) from error
    module: ModuleType = paho
    return module


def _client(paho: ModuleType, name: str) -> Any:
    """Return a client that acknowledges nothing by itself; with a name the broker knows it again.

    Version 1.6 has no such option, and will have none: 1.6.1 is the last of its line.
    """
    if hasattr(paho, "CallbackAPIVersion"):
        version = paho.CallbackAPIVersion.VERSION2
        return paho.Client(version, client_id=name, clean_session=not name, manual_ack=True)

    class ManualClient(paho.Client):  # type: ignore[name-defined, misc]
        def _send_puback(self, _number: int) -> int:
            return 0

        def ack(self, number: int, _qos: int) -> None:
            super()._send_puback(number)

    return ManualClient(client_id=name, clean_session=not name)
