"""Files that come into a folder leave whole results, and move on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgedistill.bundle.reader import open_bundle
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
        _until(lambda: (tmp_path / "done" / "x.npz").exists())

    (answer,) = _results(tmp_path, "x.npz")
    assert "no NPZ" in answer["error"]


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
        _until(lambda: (tmp_path / "done" / "slow.csv").exists())

    assert len(_results(tmp_path, "slow.csv")) == 12
    assert (tmp_path / ".hidden.csv").exists()


def test_a_full_disk_leaves_no_half_result(predictor, full_disk):
    """The file stays where it is, for the next start."""
    (full_disk / "filler").write_bytes(bytes(8 << 10))
    (full_disk / "a.csv").write_text(GOOD * 60)
    service = Service(full_disk)
    end = threading.Timer(20, service.stop)
    end.start()

    with pytest.raises(MachineError, match="disk is full"):
        watch(full_disk, predictor, service, log=lambda _: None)
    end.cancel()

    assert (full_disk / "a.csv").exists()
    assert list((full_disk / "results").iterdir()) == []


def test_folder_that_cannot_be_created(predictor, tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")

    with pytest.raises(MachineError, match="Choose another folder"):
        watch(tmp_path / "file", predictor, Service(tmp_path), log=lambda _: None)
