"""Series through a real broker and a real service with a fault on the way; the lost are counted.

A sensor sends series at a rate, the service answers them, a consumer takes the answers. All three
and the broker are connected by QoS 1, and the broker keeps its sessions on disk.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from faults import bundles
from faults.mosquitto import Mosquitto

_SETTINGS = (
    "allow_anonymous true",
    "max_queued_messages 0",  # by default Mosquitto drops what is beyond 1,000
    "persistence true",
)
_SILENCE_S = 8.0  # without an answer: there will be none any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Outcome of a flow of series."""

    sent: int  # that the broker acknowledged
    lost: int  # without an answer
    duplicates: int  # answers beyond the first of a series
    marked: int  # answers that say that their series was sent again
    unmarked: int  # other duplicates than those and equal answers
    seconds: float  # from the first series to the last answer


class Line:
    """A broker, a sensor, the service and a consumer.

    Args:
        mosquitto: path of the broker's program.
        folder: new folder for everything.
        starts: whether the broker runs before the service.
    """

    def __init__(self, mosquitto: str, folder: Path, *, starts: bool = True) -> None:
        folder.mkdir(parents=True)
        for name, seed in (("one", 1), ("two", 2)):
            bundles.write(folder / f"{name}.zip", name, seed)
        self._folder = folder
        self.switch("one")
        settings = (*_SETTINGS, f"persistence_location {folder}/")
        self.broker = Mosquitto(mosquitto, folder, *settings, starts=starts)
        self._answers: Counter[str] = Counter()
        self._payloads: defaultdict[str, set[bytes]] = defaultdict(set)
        self._marked: Counter[str] = Counter()
        self._last = time.monotonic()
        self._sensor, self._consumer = self._client("sensor"), self._client("consumer")
        self._consumer.on_connect = lambda client, *_: client.subscribe("answers", qos=1)
        self._consumer.on_message = self._take
        self._log = (folder / "service.log").open("wb")
        self.start()

    def start(self) -> None:
        """Start the service."""
        command = [sys.executable, "-m", "edgedistill.device", "predict", self._folder / "current"]
        command += ["--mqtt", self.broker.address, "--subscribe", "series", "--topic", "answers"]
        self._service = subprocess.Popen([str(word) for word in command], stderr=self._log)

    def kill(self) -> None:
        """Kill the service, and start it again."""
        self._service.kill()
        self._service.wait()
        self.start()

    def restart(self) -> None:
        """Stop the service as systemd does, and start it again."""
        self._service.send_signal(signal.SIGTERM)
        # One that still starts dies of the signal, which systemd takes for an orderly end, too.
        if self._service.wait(30) not in {0, -signal.SIGTERM}:
            raise AssertionError(f"The service ended with {self._service.returncode} on SIGTERM.")
        self.start()

    def switch(self, release: str = "two") -> None:
        """Make another release current."""
        (self._folder / ".next").symlink_to(f"{release}.zip")
        (self._folder / ".next").replace(self._folder / "current")

    def restart_broker(self, pause_s: float = 0.0) -> None:
        """Stop the broker, and start it after a pause."""
        self.broker.stop()
        time.sleep(pause_s)
        self.broker.start()

    def flow(
        self, count: int, rate: float, *faults: Callable[[], None], absent_s: float = 0.0
    ) -> Flow:
        """Send series, do the faults at equal distances meanwhile, and count the answers.

        Args:
            count: number of series.
            rate: series a second.
            faults: functions that do something bad.
            absent_s: time until the broker comes, where it does not run yet.
        """
        if absent_s:
            time.sleep(absent_s)
            self.broker.start()
        for client in (self._consumer, self._sensor):
            client.connect("127.0.0.1", self.broker.port)
            client.loop_start()
        self._wait_for_service()
        begin = time.monotonic()
        sent: list[int] = []
        acknowledged: set[int] = set()
        self._sensor.on_publish = lambda _client, _data, number, *_: acknowledged.add(number)
        thread = threading.Thread(target=self._send, args=(count, rate, sent))
        thread.start()
        for number, fault in enumerate(faults, start=1):
            while len(sent) < count * number / (len(faults) + 1):
                time.sleep(0.005)
            fault()
        thread.join()
        self._last = time.monotonic()
        while len(self._answers) < count and time.monotonic() - self._last < _SILENCE_S:
            time.sleep(0.05)
        seconds = self._last - begin
        time.sleep(1)  # for duplicates of the last ones
        return self._count(len(acknowledged & set(sent)), count, seconds)

    def close(self) -> None:
        """End everything."""
        for client in (self._consumer, self._sensor):
            client.disconnect()
            client.loop_stop()
        self._service.kill()
        self._service.wait()
        self.broker.stop()
        self._log.close()

    def memory_mib(self) -> float:
        """Return the largest resident memory of the service so far."""
        text = Path(f"/proc/{self._service.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) / 1024

    def _count(self, acknowledged: int, count: int, seconds: float) -> Flow:
        return Flow(
            sent=acknowledged,
            lost=sum(f"s{number}" not in self._answers for number in range(count)),
            duplicates=sum(times - 1 for times in self._answers.values()),
            marked=sum(self._marked.values()),
            unmarked=sum(
                len(self._payloads[name]) - 1 for name in self._answers if not self._marked[name]
            ),
            seconds=seconds,
        )

    def _client(self, name: str) -> Any:
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=name, clean_session=name == "sensor"
        )
        client.reconnect_delay_set(1, 1)
        client.max_inflight_messages_set(1_000)
        return client

    def _wait_for_service(self) -> None:
        """Until the broker knows the service's subscription, what it gets goes to nobody."""
        probe = {"id": "probe", "series": [0.0] * bundles.LENGTH}
        until = time.monotonic() + 60
        while not self._answers["probe"]:
            assert time.monotonic() < until, (self._folder / "service.log").read_text()
            self._sensor.publish("series", json.dumps(probe), qos=1)
            time.sleep(0.2)
        time.sleep(1)
        self._answers.clear()

    def _send(self, count: int, rate: float, sent: list[int]) -> None:
        begin = time.monotonic()
        for number in range(count):
            series = [float((number * step) % 7) for step in range(bundles.LENGTH)]
            payload = json.dumps({"id": f"s{number}", "series": series})
            sent.append(self._sensor.publish("series", payload, qos=1).mid)
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))

    def _take(self, _client: object, _data: object, message: Any) -> None:
        answer = json.loads(message.payload)
        self._answers[answer["id"]] += 1
        self._payloads[answer["id"]].add(message.payload)
        self._marked[answer["id"]] += bool(answer.get("redelivered"))
        self._last = time.monotonic()
