"""Predictions over a folder: files that are moved in, results beside them.

::

    FOLDER/a.csv                 moved in, or copied: it is taken once it stopped changing
    FOLDER/results/a.csv.jsonl   its predictions, whole or absent
    FOLDER/done/a.csv            the file itself, once its results are there

A service that is killed leaves a file where it was, and takes it again when it is back.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.output import JsonLines
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.readers import series_items
from edgedistill.device.predict.service import ALIVE, TICK_S, Service, notify
from edgedistill.errors import DataError, MachineError
from edgedistill.io import files

RESULTS: Final = "results"
DONE: Final = "done"
_State = tuple[int, int, int]  # inode, bytes, time of the last change


def watch(
    folder: Path,
    predictor: Predictor,
    service: Service,
    *,
    log: Callable[[str], None],
    observe: Callable[[PredictionResult], None] = lambda _: None,
) -> None:
    """Predict the files moved into a folder until the service stops; a begun file is finished.

    Args:
        folder: folder to watch, created if missing; names with a leading dot are ignored.
        predictor: predictor of the series.
        service: service that ends the loop.
        log: callback for a line a file.
        observe: callback for every result.

    Raises:
        MachineError: results cannot be written.
    """
    for name in (RESULTS, DONE):
        _make(folder / name)
    wake = threading.Event()
    seen: dict[str, _State] = {}
    with service.signals(wake.set):
        predictor.warm_up()
        notify("READY=1")
        log(f"Watching {folder}.")
        while service.tick():
            now = _waiting(folder)
            for name in sorted(name for name, state in now.items() if seen.get(name) == state):
                log(_predict_file(folder, name, predictor, observe))
                if not service.tick():
                    return
            seen = now
            wake.wait(TICK_S)


def _predict_file(
    folder: Path, name: str, predictor: Predictor, observe: Callable[[PredictionResult], None]
) -> str:
    failed = predicted = 0
    with (
        files.whole_file(folder / RESULTS / f"{name}.jsonl") as partial,
        partial.open("w", encoding="utf-8") as out,
    ):
        write = JsonLines(predictor, out)
        for item in _items(folder / name, predictor):
            notify(ALIVE)  # a long file is work, not a hang
            answer = predictor.predict_item(item)
            write(answer)
            observe(answer)
            predicted += answer.prediction is not None
            failed += answer.prediction is None
    with suppress(FileNotFoundError):  # it was taken back
        (folder / name).replace(folder / DONE / name)
    return f"{name}: predicted {predicted}, could not use {failed}."


def _items(path: Path, predictor: Predictor) -> Iterator[Item]:
    """Yield the series of a file; one that cannot be read at all is a single error."""
    try:
        with path.open("rb") as stream:
            yield from series_items(
                stream, predictor.channels, predictor.schema, predictor.class_names
            )
    except (DataError, MachineError, OSError) as error:
        yield Item(place={}, error=str(error))


def _waiting(folder: Path) -> dict[str, _State]:
    """Return the plain files in a folder, and the state that changes while one is written."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                facts = entry.stat(follow_symlinks=False)
                found[entry.name] = facts.st_ino, facts.st_size, facts.st_mtime_ns
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"Cannot make {folder}: {error.strerror}. Choose another folder, or change who may "
            "write there."
        ) from error
