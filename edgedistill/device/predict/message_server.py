"""Predictions over MQTT: a series each message, its answer to another topic.

A series is acknowledged once the broker has its answer. Until then the broker keeps it, and sends
it again after a crash, a restart or a loss of the connection: none is lost, some are answered
twice. An answer to a series that was sent before is marked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edgedistill.device.predict.mqtt import Acknowledgment, Broker, Message, SessionLoss
from edgedistill.device.predict.output import to_line, to_record
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import TICK_S, Service, notify

_GRACE_S: Final = 10.0  # for answers under way when the service stops


def serve_messages(
    broker: Broker,
    predictor: Predictor,
    service: Service,
    *,
    log: Callable[[str], None],
    observe: Callable[[PredictionResult], None] = lambda _: None,
) -> None:
    """Predict each message of the broker's source, a series as on a line, until the service stops.

    Series that were received by then are answered; the others stay with the broker.

    Args:
        broker: broker with a source.
        predictor: predictor of the series.
        service: service that ends the loop.
        log: callback for the start and the end of the work.
        observe: callback for every result.
    """
    server = _MessageServer(broker, predictor, observe)
    with service.signals():
        predictor.warm_up()
        notify("READY=1")
        log("Answering messages.")
        while service.tick():
            server.run(lambda: service.stopped, TICK_S)
        if broker.hold_messages():
            server.run(lambda: server.is_idle, _GRACE_S)
    log(
        f"Answered {server.answered} series. The broker had sent {server.repeated} of them before; "
        f"{broker.resent} answers were sent to it again."
    )


class _MessageServer:
    def __init__(
        self, broker: Broker, predictor: Predictor, observe: Callable[[PredictionResult], None]
    ) -> None:
        self._broker = broker
        self._predictor = predictor
        self._observe = observe
        self._lines = predictor.lines()
        self._unacknowledged: dict[int, Message] = {}  # by its number
        self._published: dict[int, int | None] = {}  # number of a message, by that of its answer
        self._taken: set[int] = set()  # numbers of those whose answer the broker has
        self.answered = 0
        self.repeated = 0

    @property
    def is_idle(self) -> bool:
        """Whether every series that was received is answered and acknowledged."""
        return not (self._published or self._broker.has_events)

    def run(self, is_over: Callable[[], bool], seconds: float) -> None:
        """Handle events until it is over, for a time at most."""
        until = time.monotonic() + seconds
        while not is_over() and (left := until - time.monotonic()) > 0:
            event = self._broker.next_event(min(left, TICK_S))
            if isinstance(event, Message):
                self._answer(event)
            elif isinstance(event, Acknowledgment):
                self._acknowledge(self._published.pop(event.number, None))
            elif isinstance(event, SessionLoss):
                self._forget()

    def _answer(self, message: Message) -> None:
        earlier = self._unacknowledged.get(message.number)
        self._unacknowledged[message.number] = message
        if earlier is not None and message.redelivered and earlier.payload == message.payload:
            if message.number in self._taken:
                self._acknowledge(message.number)
            return  # its answer exists, or is on the way
        self._taken.discard(message.number)
        item = self._lines.item(message.payload)
        if item is None:
            self._acknowledge(message.number)
            return
        result = self._predictor.predict_item(item)
        record = to_record(result, self._predictor)
        if message.redelivered:
            self.repeated += 1
            record["redelivered"] = True
        number = self._broker.publish(to_line(record))
        assert number is not None  # noqa: S101 - for the type checker: with a source none is dropped
        self._published[number] = message.number
        self.answered += 1
        self._observe(result)

    def _acknowledge(self, number: int | None) -> None:
        """Acknowledge a message that is answered, now or when the broker sends it again."""
        if number is None or number not in self._unacknowledged:
            return
        self._taken.add(number)
        if self._broker.acknowledge(self._unacknowledged[number]):
            self._taken.remove(number)
            del self._unacknowledged[number]

    def _forget(self) -> None:
        """Answers under way have nothing to acknowledge any more; numbers begin anew."""
        self._unacknowledged.clear()
        self._taken.clear()
        self._published = dict.fromkeys(self._published)
