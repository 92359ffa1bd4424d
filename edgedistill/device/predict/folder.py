"""Predictions over a folder: files that are moved in, results beside them.

::

    FOLDER/a.csv                 moved in, or copied: it is taken once nobody writes it any more
    FOLDER/working/a.csv         while it is predicted
    FOLDER/results/a.csv.jsonl   its predictions, whole or absent
    FOLDER/done/a.csv            the file itself, once its results are there
    FOLDER/failed/a.csv          or here, if it could not be read to its end

Nothing is overwritten: a second file of the name is `a~2.csv` in all of these. No file ends the
service, and none is tried for ever: what a service was killed over twice has failed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgedistill.device.predict.inputs import Item
from edgedistill.device.predict.output import JsonLines
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.readers import series_items
from edgedistill.device.predict.service import ALIVE, TICK_S, Service, notify
from edgedistill.errors import EdgeDistillError, MachineError
from edgedistill.io import files
from edgedistill.io.terminal import printable

_RESULTS: Final = "results"
_DONE: Final = "done"
_FAILED: Final = "failed"
_WORKING: Final = "working"
_AGAIN: Final = f"{_WORKING}/again"  # what a service was killed over once
_RETRY_S = 5.0  # after an error of the disk
_NAME_BYTES = 255  # of a file, on every file system of Linux
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
        log: callback for a line a file, and for errors of the disk, after which files wait.
        observe: callback for every result.

    Raises:
        MachineError: the folders for results cannot be made.
    """
    for name in (_RESULTS, _DONE, _FAILED, _WORKING, _AGAIN):
        _make(folder / name)
    worker = _Worker(folder, predictor, log, observe)
    wake = threading.Event()
    seen: dict[str, _State] = {}
    with service.signals(wake.set):
        predictor.warm_up()
        notify("READY=1")
        log(f"Watching {folder}.")
        worker.resume()
        while service.tick():
            now = worker.waiting()
            for name in sorted(name for name, state in now.items() if seen.get(name) == state):
                worker.take(name)
                if not service.tick():
                    return
            seen = now
            wake.wait(TICK_S)


class _Worker:
    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        log: Callable[[str], None],
        observe: Callable[[PredictionResult], None],
    ) -> None:
        self._folder = folder
        self._predictor = predictor
        self._log = log
        self._observe = observe
        self._numbers: dict[str, int] = {}  # of the last file of a name
        self._retry_at: dict[str, float] = {}
        self._said: dict[str, str] = {}  # last error of a name, to tell each once

    def waiting(self) -> dict[str, _State]:
        """Return the plain files in the folder, and the state that changes while one is written."""
        found = {}
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # it was taken back
                            found[entry.name] = _state(Path(entry.path))
        except OSError as error:
            self._postpone("", error)
            return {}
        return found

    def resume(self) -> None:
        """Finish what a killed service left: its second attempt, or none after that."""
        for path in _plain_files(self._folder / _AGAIN):
            self._attempt(path.name, path, "The service ended twice while it read the file.")
        for path in _plain_files(self._folder / _WORKING):
            self._attempt(path.name, path.replace(self._folder / _AGAIN / path.name))

    def take(self, name: str) -> None:
        """Predict a file, unless it has to wait."""
        source = self._folder / name
        if self._retry_at.get(name, 0.0) > time.monotonic():
            return
        if _is_being_written(source):
            self._tell(name, f"{name}: a process writes it; it is taken when that is over.")
            return
        claimed = self._folder / _WORKING / self._free_name(name)
        try:
            source.replace(claimed)
        except FileNotFoundError:  # it was taken back
            return
        except OSError as error:
            self._postpone(name, error)
            return
        if not self._attempt(name, claimed) and not os.path.lexists(source):
            with suppress(OSError):  # it stays where the next start looks
                claimed.replace(source)

    def _attempt(self, name: str, claimed: Path, failure: str | None = None) -> bool:
        """Predict a claimed file and move it on; return whether the disk let us."""
        try:
            if failure is None and self._result(claimed).exists():  # killed in between
                claimed.replace(self._folder / _DONE / claimed.name)
                return True
            predicted, unusable, is_whole = self._predict(claimed, failure)
            claimed.replace(self._folder / (_DONE if is_whole else _FAILED) / claimed.name)
        except (MachineError, OSError) as error:
            self._postpone(name, error)
            return False
        self._retry_at.pop(name, None)
        self._said.pop(name, None)
        ending = "" if is_whole else f"; see {_RESULTS}/{self._result(claimed).name}"
        self._log(
            printable(f"{claimed.name}: predicted {predicted}, could not use {unusable}{ending}.")
        )
        return True

    def _predict(self, claimed: Path, failure: str | None) -> tuple[int, int, bool]:
        """Write the results of a file; count predictions and errors, and say if it ended well."""
        predicted = unusable = 0
        is_whole = True
        state = _state(claimed)
        with (
            files.whole_file(self._result(claimed)) as partial,
            partial.open("w", encoding="utf-8") as out,
        ):
            write = JsonLines(self._predictor, out)
            for item in self._items(claimed) if failure is None else [_failed(failure)]:
                notify(ALIVE)  # a long file is work, not a hang
                result = self._predictor.predict_item(item)
                write(result)
                self._observe(result)
                predicted += result.prediction is not None
                unusable += result.prediction is None
                is_whole = is_whole and bool(item.place)
            if _state(claimed) != state:
                raise MachineError(f"{claimed.name} changed while it was read. It is read again.")
        return predicted, unusable, is_whole

    def _items(self, path: Path) -> Iterator[Item]:
        """Yield the series of a file; where it cannot be read further, an error without place."""
        predictor = self._predictor
        try:
            with path.open("rb") as stream:
                yield from series_items(
                    stream, predictor.channels, predictor.schema, predictor.class_names
                )
        except EdgeDistillError as error:
            yield _failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a file does to a reader, it is one file
            yield _failed(f"The file cannot be read: {type(error).__name__}: {error}")

    def _result(self, claimed: Path) -> Path:
        return self._folder / _RESULTS / _fitting(claimed.name, ".jsonl")

    def _free_name(self, name: str) -> str:
        """Return the name, or the next one that no earlier file has in any of the places."""
        stem, suffix = Path(name).stem, Path(name).suffix
        number = self._numbers.get(name, 0)
        while True:
            number += 1
            free = name if number == 1 else _fitting(stem, f"~{number}{suffix}")
            places = [self._folder / place / free for place in (_DONE, _FAILED, _WORKING, _AGAIN)]
            if not any(map(os.path.lexists, (*places, self._result(Path(free))))):
                self._numbers[name] = number - 1  # taken only once it has come to one of them
                return free

    def _postpone(self, name: str, error: Exception) -> None:
        self._retry_at[name] = time.monotonic() + _RETRY_S
        message = f"{name or self._folder}: {error} It is tried again every {_RETRY_S:g} s."
        self._tell(name, message)

    def _tell(self, name: str, message: str) -> None:
        """Log a message on a file, once until another one."""
        if self._said.get(name) != message:
            self._log(printable(message))
        self._said[name] = message


def _failed(error: str) -> Item:
    return Item(place={}, error=error)


def _fitting(name: str, ending: str) -> str:
    """Return a name with an ending; one that would be too long is cut, and told by its hash."""
    raw, room = os.fsencode(name), _NAME_BYTES - len(os.fsencode(ending))
    if len(raw) <= room:
        return name + ending
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: max(0, room - 9)].decode(errors="ignore") + f"~{digest}{ending}"


def _plain_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _state(path: Path) -> _State:
    facts = path.stat(follow_symlinks=False)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _is_being_written(path: Path) -> bool:
    """Return whether a process has the file open for writing, where the system tells.

    Source: fcntl(2): a read lease is refused then. It takes the owner of the file.
    """
    try:
        with path.open("rb") as stream:
            # Sent to us if somebody opens it just now; by default SIGIO, which would end us.
            fcntl.fcntl(stream, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(stream, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"Cannot make {folder}: {error.strerror}. Choose another folder, or change who may "
            "write there."
        ) from error
