"""Files that come into a folder leave whole results, and move on."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.predict import folder as folder_module
from edgedistill.device.predict.folder import watch
from edgedistill.device.predict.predictor import PredictionResult, Predictor
from edgedistill.device.predict.service import Service
from edgedistill.device.runtime import start
from edgedistill.errors import MachineError

GOOD = "1," * 23 + "2\n"


@pytest.fixture
def predictor(italy) -> Iterator[Predictor]:
    """The bundle's model."""
    with open_bundle(italy) as bundle:
        yield Predictor(bundle, start(bundle.model()))


@contextmanager
def _watching(
    service: Service, folder: Path, predictor: Predictor
) -> Iterator[tuple[list[str], list[PredictionResult]]]:
    """Watch in a thread; yield what is told and observed."""
    told: list[str] = []
    observed: list[PredictionResult] = []
    thread = threading.Thread(
        target=watch,
        args=(folder, predictor, service),
        kwargs={"log": told.append, "observe": observed.append},
    )
    thread.start()
    try:
        _until(lambda: told)
        yield told, observed
    finally:
        service.end()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def watching(
    threaded_service: Service, predictor: Predictor
) -> Callable[[Path], AbstractContextManager]:
    """Watch a folder."""
    return lambda folder: _watching(threaded_service, folder, predictor)


def _until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _results(folder: Path, name: str) -> list[dict]:
    text = (folder / "results" / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_files_of_every_kind(watching, tmp_path):
    """What was there before and what comes later; bad lines are in the results."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(GOOD + "what\n")

    with watching(folder) as (told, observed):
        np.savez(tmp_path / "b.npz", x=np.arange(48.0).reshape(2, 24))
        (tmp_path / "b.npz").rename(folder / "b.npz")
        _until(lambda: (folder / "done" / "b.npz").exists())

    assert ["error" in answer for answer in _results(folder, "a.csv")] == [False, True]
    assert [answer["row"] for answer in _results(folder, "b.npz")] == [0, 1]
    assert "a.csv: predicted 1, could not use 1." in told
    assert len(observed) == 4
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["a.csv", "b.npz"]


def test_a_file_that_cannot_be_read_is_a_result_too(watching, tmp_path):
    """Otherwise it would be tried for ever."""
    (tmp_path / "x.npz").write_bytes(b"PK, but no zip")

    with watching(tmp_path):
        _until(lambda: (tmp_path / "failed" / "x.npz").exists())

    (answer,) = _results(tmp_path, "x.npz")
    assert "no NPZ" in answer["error"]


def test_reader_that_fails_ends_nothing(watching, tmp_path, monkeypatch):
    """Whatever a file does to it: the file has failed, with what it was."""

    def series_items(stream: object, *_: object) -> Iterator[None]:
        raise RecursionError("too deep")
        yield

    monkeypatch.setattr(folder_module, "series_items", series_items)
    (tmp_path / "x.csv").write_text(GOOD)

    with watching(tmp_path):
        _until(lambda: (tmp_path / "failed" / "x.csv").exists())

    (answer,) = _results(tmp_path, "x.csv")
    assert answer == {"error": "The file cannot be read: RecursionError: too deep"}


def test_same_name_again_overwrites_nothing(watching, tmp_path):
    """Nor does a folder of that name stand in the way, nor a name of 255 bytes."""
    (tmp_path / "done" / "a.csv").mkdir(parents=True)
    long = "é" * 124 + "ab.csv"  # 254 bytes: too long for a result of its own name
    with watching(tmp_path):
        for count in (1, 2):
            for name in ("a.csv", long, "b" * 249):
                (tmp_path / name).write_text(GOOD * count)
            _until(lambda: not [path for path in tmp_path.iterdir() if path.is_file()])

    lines = [len(path.read_text().splitlines()) for path in (tmp_path / "results").iterdir()]
    assert sorted(lines) == [1, 1, 1, 2, 2, 2]
    sizes = [path.stat().st_size // len(GOOD) for path in _files(tmp_path / "done")]
    assert sorted(sizes) == [1, 1, 1, 2, 2, 2]
    assert {"a~2.csv", "a~3.csv"} < {path.name for path in _files(tmp_path / "done")}
    assert _results(tmp_path, "a~3.csv")


def test_file_that_is_still_open_is_not_taken(watching, tmp_path):
    """A copy that pauses for longer than half a second is no whole file."""
    with watching(tmp_path) as (told, _):
        with (tmp_path / "slow.csv").open("w") as slow:
            slow.write(GOOD)
            slow.flush()
            _until(lambda: "slow.csv: a process writes it; it is taken when that is over." in told)
            assert (tmp_path / "slow.csv").exists()
            slow.write(GOOD)
        _until(lambda: (tmp_path / "done" / "slow.csv").exists())

    assert len(_results(tmp_path, "slow.csv")) == 2


def test_file_that_changes_while_it_is_read_is_read_again(watching, predictor, tmp_path):
    """Where the system does not tell who has it open."""
    told: list[str] = []
    (tmp_path / "a.csv").write_text(GOOD)

    def append(result: PredictionResult) -> None:
        if result.item.place["line"] == 1:
            with (tmp_path / "working" / "a.csv").open("a") as stream:
                stream.write(GOOD)

    worker = folder_module._Worker(tmp_path, predictor, told.append, append)
    for name in ("working", "done", "results"):
        (tmp_path / name).mkdir()
    worker.take("a.csv")

    assert "changed while it was read" in told[0]
    assert list((tmp_path / "results").iterdir()) == []
    assert (tmp_path / "a.csv").read_text() == GOOD * 2


def test_killed_service_tries_once_more(watching, tmp_path):
    """What it was killed over is predicted at the next start, and has failed at the one after."""
    for place, name in (("working", "once.csv"), ("working/again", "twice.csv")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_text(GOOD)

    with watching(tmp_path):
        _until(lambda: (tmp_path / "done" / "once.csv").exists())

    assert "class" in _results(tmp_path, "once.csv")[0]
    assert (tmp_path / "failed" / "twice.csv").exists()
    assert "ended twice" in _results(tmp_path, "twice.csv")[0]["error"]


def test_file_whose_results_are_whole_is_not_predicted_again(watching, tmp_path):
    """The service was killed before it could move the file."""
    for place in ("working", "results"):
        (tmp_path / place).mkdir()
    (tmp_path / "working" / "a.csv").write_text(GOOD)
    (tmp_path / "results" / "a.csv.jsonl").write_text("{}\n")

    with watching(tmp_path):
        _until(lambda: (tmp_path / "done" / "a.csv").exists())

    assert _results(tmp_path, "a.csv") == [{}]


def test_a_file_is_taken_when_it_stopped_changing(watching, tmp_path):
    """One that is copied in slowly is not read by half; hidden ones and folders are left alone."""
    (tmp_path / ".hidden.csv").write_text(GOOD)
    (tmp_path / "folder").mkdir()

    with watching(tmp_path), (tmp_path / "slow.csv").open("w") as slow:
        for _ in range(12):
            slow.write(GOOD)
            slow.flush()
            time.sleep(0.2)
        assert not (tmp_path / "results" / "slow.csv.jsonl").exists()
        slow.close()
        _until(lambda: (tmp_path / "done" / "slow.csv").exists())

    assert len(_results(tmp_path, "slow.csv")) == 12
    assert (tmp_path / ".hidden.csv").exists()


def test_full_disk_leaves_no_half_result(watching, full_disk, monkeypatch):
    """The file waits for room, and the service goes on."""
    monkeypatch.setattr(folder_module, "_RETRY_S", 0.1)
    for place in ("results", "done", "failed", "working/again"):
        (full_disk / place).mkdir(parents=True)
    (full_disk / "filler").rename(full_disk / ".filler")
    os.truncate(full_disk / ".filler", 8 << 10)
    (full_disk / "a.csv").write_text(GOOD * 60)

    with watching(full_disk) as (told, _):
        _until(lambda: any("disk is full" in line for line in told))
        assert list((full_disk / "results").iterdir()) == []
        assert (full_disk / "a.csv").exists()
        (full_disk / ".filler").unlink()
        _until(lambda: (full_disk / "done" / "a.csv").exists())

    assert len(_results(full_disk, "a.csv")) == 60
    assert len([line for line in told if "a.csv" in line and "disk is full" in line]) == 1


def test_folder_that_cannot_be_created(predictor, tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")

    with pytest.raises(MachineError, match="Choose another folder"):
        watch(tmp_path / "file", predictor, Service(tmp_path), log=lambda _: None)
