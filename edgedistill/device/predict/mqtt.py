"""Predictions to an MQTT broker, and series from one, through paho-mqtt.

The one part of the device side that needs a package of its own, so it is imported only when a
broker is named. Version 1.6, which Debian 12 and JetPack 6 bring, and version 2 both do.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any, Final

from edgedistill.device.predict.inputs import MAX_LINE_BYTES
from edgedistill.device.predict.output import to_line, to_record
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import TICK_S, Service, notify
from edgedistill.errors import MachineError, UsageError

PASSWORD: Final = "EDGEDISTILL_MQTT_PASSWORD"  # noqa: S105 - the variable's name
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_QOS = 1  # at least once: the broker acknowledges
_QUEUED = 1_000  # messages that wait, either way
_REPLY_S = 10.0  # until the broker replies
_KEEPALIVE_S = 60


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


class Broker:
    """A connection that reconnects; unacknowledged messages are sent again.

    Args:
        address: address of the broker; the password is in EDGEDISTILL_MQTT_PASSWORD.
        topic: topic of the predictions.
        source: topic of incoming series, if any.
        patience_s: time that a prediction waits for room at the broker before it is dropped and
            counted.
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
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._address = address
        self._topic = topic
        self._source = source
        self._patience_s = patience_s
        self._log = log
        self._answered = threading.Event()
        self._refusal: str | None = None
        self._room = threading.Semaphore(_QUEUED)
        self._waiting = 0
        self._count = threading.Lock()
        self.messages: queue.Queue[bytes] = queue.Queue(_QUEUED)
        self.dropped = 0  # predictions that the broker did not take
        self.missed = 0  # messages that came faster than predictions
        if not topic or set("+#\0") & set(topic):
            raise UsageError(f"{topic!r} is no topic to publish to. Give one without + and #.")
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

    def publish(self, payload: str, *, subtopic: str = "", keep: bool = False) -> None:
        """Queue a message; it is sent in the background.

        Args:
            payload: text of the message.
            subtopic: suffix of the topic, such as "/plan".
            keep: retain the message at the broker for later subscribers.
        """
        if not self._room.acquire(timeout=self._patience_s or None, blocking=self._patience_s > 0):
            self.dropped += 1
            return
        with self._count:
            self._waiting += 1
        self._client.publish(self._topic + subtopic, payload, qos=_QOS, retain=keep)

    def close(self) -> None:
        """Wait until the broker has everything, for ten seconds at most, and leave."""
        until = time.monotonic() + _REPLY_S
        self._log = lambda _: None
        while self._waiting and time.monotonic() < until:
            time.sleep(0.01)
        self._client.disconnect()
        self._client.loop_stop()
        self.dropped += self._waiting

    def _connected(self) -> Any:
        client = _client(_paho())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        if self._address.user is not None:
            client.username_pw_set(self._address.user, os.environ.get(PASSWORD))
        if self._address.tls:
            client.tls_set()  # the system's certificates, or SSL_CERT_FILE
        try:
            client.connect(self._address.host, self._address.port, keepalive=_KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise self._unreachable(str(error)) from error
        client.loop_start()
        if not self._answered.wait(_REPLY_S) or self._refusal is not None:
            client.loop_stop()
            raise self._unreachable(self._refusal or "it does not answer as a broker does")
        return client

    def _unreachable(self, reason: str) -> MachineError:
        return MachineError(
            f"The MQTT broker at {self._address} cannot be used: {reason}. Check the address, the "
            f"user, and the password in {PASSWORD}."
        )

    def _on_connect(self, client: Any, _data: object, _flags: object, *codes: Any) -> None:
        code = codes[0]  # version 2 of paho-mqtt adds properties
        if code != 0:
            self._refusal = str(_paho().connack_string(code))
            self._answered.set()
            return
        if self._source is not None:
            client.subscribe(self._source, qos=_QOS)  # again after every loss of the connection
        if self._answered.is_set():
            self._log(f"The broker at {self._address} is back.")
        elif self._source is None:
            self._answered.set()

    def _on_subscribe(self, *_: object) -> None:
        self._answered.set()  # from now on nothing that is sent is lost

    def _on_disconnect(self, *_: object) -> None:
        if self._answered.is_set() and self._refusal is None:
            self._log(
                f"The broker at {self._address} is away; up to {_QUEUED} predictions wait for it."
            )

    def _on_publish(self, *_: object) -> None:
        with self._count:
            self._waiting -= 1
        self._room.release()

    def _on_message(self, _client: object, _data: object, message: Any) -> None:
        try:
            self.messages.put_nowait(message.payload)
        except queue.Full:
            self.missed += 1


def serve_messages(
    broker: Broker,
    predictor: Predictor,
    service: Service,
    *,
    log: Callable[[str], None],
    observe: Callable[[PredictionResult], None] = lambda _: None,
) -> None:
    """Predict each message of the broker's source, a series as on a line, until the service stops.

    Args:
        broker: broker with a source.
        predictor: predictor of the series.
        service: service that ends the loop.
        log: callback for the start of the work.
        observe: callback for every result.
    """
    lines = predictor.lines()
    with service.signals():
        predictor.warm_up()
        notify("READY=1")
        log("Answering messages.")
        while service.tick():
            try:
                payload = broker.messages.get(timeout=TICK_S)
            except queue.Empty:
                continue
            item = lines.item(payload if len(payload) <= MAX_LINE_BYTES else None)
            if item is not None:
                answer = predictor.predict_item(item)
                broker.publish(to_line(to_record(answer, predictor)))
                observe(answer)


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


def _client(paho: ModuleType) -> Any:
    if hasattr(paho, "CallbackAPIVersion"):
        return paho.Client(paho.CallbackAPIVersion.VERSION2)
    return paho.Client()
