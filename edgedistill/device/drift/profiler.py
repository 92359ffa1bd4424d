"""A profile kept in a file while predictions come in."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from edgedistill.bundle.drift_reference import Reference
from edgedistill.device.drift.profile import Bins, Profile, load
from edgedistill.errors import MachineError, UsageError
from edgedistill.io.arrays import Floats

SAVE_S: Final = 60.0  # between writes: what a power cut may lose


class Profiler:
    """Count what is predicted; write it now and then, and in the end.

    An observer of a `Predictor`. A file that is there is added to. One of another bundle, such as
    the release before, is moved aside: a service must start all the same.

    Args:
        path: of the profile.
        reference: of the bundle that predicts.
        log: hears of what a person should know.

    Raises:
        DataError: the file that is there is no profile.
    """

    def __init__(
        self, path: Path, reference: Reference, *, log: Callable[[str], None] = print
    ) -> None:
        self._path = path
        self._log = log
        self._saved_s = time.monotonic()
        bins = Bins.from_reference(reference)
        self.profile = Profile(bins)
        if not path.exists():
            return
        try:
            self.profile = load(path, bins)
        except UsageError:
            aside = _free(path)
            path.rename(aside)
            log(f"{path} was kept with another bundle; it is {aside} now, and a new one begins.")

    def __call__(self, series: Floats, logits: Floats, signed: Floats | None) -> None:
        """Count one prediction: the model's input (C, T), its logits (K,), its map (W,)."""
        self.profile.add(series, logits, signed)
        if time.monotonic() - self._saved_s < SAVE_S:
            return
        self._saved_s = time.monotonic()
        try:
            self.profile.save(self._path)
        except MachineError as error:  # predictions matter more; the end says it again if it stays
            self._log(f"The profile was not written: {error}")

    def __enter__(self) -> Profiler:
        """Refuse a place that cannot be written before anything is predicted."""
        self.profile.save(self._path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what was counted."""
        self.profile.save(self._path)


def _free(path: Path) -> Path:
    """Return a name beside a file that nothing has."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return aside
