"""Time limit of a model's calls in ONNX Runtime: a `Loop` may never end.

ONNX Runtime looks at the flag `RunOptions.terminate` before every node, also of a loop's body. So a
thread that sets it stops what no timeout of the caller could.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

from edgedistill.errors import ModelError, UsageError

CALL_LIMIT_S: Final = 60.0
_CHECKS: Final = 20  # of the clock, in the time of the limit
_LONGEST_WAIT_S: Final = 1.0


class CallLimit:
    """Limit on the time of each call of a session, while `watching` is entered.

    Args:
        ort: the module `onnxruntime`.
        limit_s: seconds that one call may take.

    Raises:
        UsageError: the limit is not above 0.
    """

    def __init__(self, ort: ModuleType, limit_s: float) -> None:
        if not limit_s > 0:
            raise UsageError(f"The time limit is {limit_s:g} s; give more than 0.")
        self.limit_s = limit_s
        self.options: Any = ort.RunOptions()
        self._deadline = math.inf
        self._done = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[CallLimit]:
        """Watch the clock in a thread, until left."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Limit one call, which runs with `options`.

        Args:
            name: file name of the model, for the message.

        Raises:
            ModelError: the call was stopped.
        """
        self._deadline = time.monotonic() + self.limit_s
        try:
            yield
        except Exception as error:
            if self.options.terminate:
                raise ModelError(
                    f"{name} did not answer within {self.limit_s:g} s and was stopped: it may loop "
                    "without end. If it is only slow here, give it longer: `validate --time-limit`."
                ) from error
            raise
        finally:
            self._deadline = math.inf

    def _watch(self) -> None:
        while not self._done.wait(min(self.limit_s / _CHECKS, _LONGEST_WAIT_S)):
            if time.monotonic() > self._deadline:
                self.options.terminate = True
                return
