"""Subjects of a board: inputs of `predict`, and files in the folder of the releases."""

from __future__ import annotations

import json
import shutil
from io import BufferedReader, BytesIO, StringIO
from pathlib import Path
from random import Random

from edgedistill.bundle import signature
from edgedistill.bundle.manifest import SIGNATURE
from edgedistill.bundle.reader import MANIFEST
from edgedistill.device.drift.comparison import compare
from edgedistill.device.drift.profile import load
from edgedistill.device.predict.output import CsvRows, JsonLines, Table
from edgedistill.device.predict.readers import series_items, window_items
from edgedistill.device.releases import layout as releases
from edgedistill.device.releases import switch
from edgedistill.device.releases.installation import Request, install
from edgedistill.errors import IntegrityError
from edgedistill.io import files
from edgedistill.report import from_json
from fuzzing.archives import npy, strange_npz, strange_zip, zipped
from fuzzing.corpus import PROFILE, SIGNERS, Corpus
from fuzzing.mutations import damaged, damaged_json, damaged_lines
from fuzzing.subject import Subject, to_bytes

_NAME = "italy-0123456789ab"
_RECORD = {
    "format": releases.FORMAT,
    "name": _NAME,
    "bundle": "Italy",
    "model": None,
    "threads": 1,
    "provider": "cpu",
    "installed": "2026-01-02T03:04:05Z",
    "sha256": "0" * 64,
    "signer": "me@example.org",
    "program": None,
}


def _lines(corpus: Corpus) -> list[bytes]:
    """Return the same series as `predict` takes them, in every form."""
    rows = [one[0].tolist() for one in corpus.series]
    texts = [separator.join(map(str, rows[0])) for separator in (",", "\t", ";", " ", ", ")]
    values = [rows[1], [rows[2]], {"id": "a", "series": rows[3]}, {"id": 7, "series": [rows[0]]}]
    header = ",".join(["id", *(f"t{step}" for step in range(len(rows[0])))])
    return [line.encode() for line in (*texts, *map(json.dumps, values), header, "1,NaN,?,,2")]


def _predict(data: bytes, _: Path, corpus: Corpus) -> None:
    """Predict all series of a stream, and write the results in every form."""
    predictor = corpus.predictor
    writers = [
        JsonLines(predictor, StringIO()),
        CsvRows(predictor, StringIO(), StringIO()),
        Table(predictor, StringIO(), StringIO()),
    ]
    stream = BufferedReader(BytesIO(data))  # type: ignore[arg-type]  # it is raw enough
    for item in series_items(stream, predictor.channels):
        answer = predictor.predict_item(item)
        for write in writers:
            write(answer)


def _steps(random: Random, corpus: Corpus) -> bytes:
    values = corpus.series[0, 0].tolist()
    lines = [b"x", *(str(value).encode() for value in values), b"[1.5]", b"NaN", b"1,2", b""]
    sound = b"\n".join(str(value).encode() for value in values)
    return sound + b"\n" + damaged_lines(lines, random)


def _slide(data: bytes, _: Path, corpus: Corpus) -> None:
    predictor = corpus.predictor
    windows = predictor.windows(None, 4)
    stream = BufferedReader(BytesIO(data))  # type: ignore[arg-type]  # as above
    for item in window_items(stream, predictor.channels, windows):
        predictor.predict_item(item)


def _read_release(data: bytes, folder: Path, _: Corpus) -> None:
    root = releases.Root(folder)
    root.folder(_NAME).mkdir(parents=True)
    (root.folder(_NAME) / releases.RECORD).write_bytes(data)
    releases.resolve(root.folder(_NAME))
    root.release(_NAME)


def _settle(data: bytes, folder: Path, _: Corpus) -> None:
    root = releases.Root(folder)
    root.journal.write_bytes(data)
    switch.recover_interrupted_switch(root)


def _read_report(data: bytes, folder: Path, _: Corpus) -> None:
    (folder / releases.REPORT).write_bytes(data)
    from_json(files.read_json(folder / releases.REPORT))


def _compare(data: bytes, folder: Path, corpus: Corpus) -> None:
    """Compare a damaged profile with the reference, and write the whole report."""
    (folder / PROFILE).write_bytes(data)
    reference, limits, bins = corpus.watched
    found = compare(load(folder / PROFILE, bins), reference, limits, ("winter", "summer"))
    json.dumps(found.to_dict(), allow_nan=False)


def _verify(signed: bytes | None, signers: bytes | None, folder: Path, corpus: Corpus) -> None:
    """Verify the bundle's signature, with one of its files or with other signers."""
    for name in (MANIFEST, SIGNATURE):
        shutil.copyfile(corpus.folder / "bundle" / name, folder / name)
    shutil.copyfile(corpus.folder / SIGNERS, folder / SIGNERS)
    if signed is not None:
        (folder / SIGNATURE).write_bytes(signed)
    if signers is not None:
        (folder / SIGNERS).write_bytes(signers)
    signature.verify(folder, folder / SIGNERS)


def _install(data: bytes, folder: Path, corpus: Corpus) -> None:
    """Install an archive that must be signed: of a refused one nothing is left."""
    path, root = folder / "upload.zip", releases.Root(folder / "root")
    path.write_bytes(data)
    try:
        install(root, path, Request(allowed_signers=corpus.folder / SIGNERS))
    except IntegrityError:
        left = list(root.releases.glob("*"))
        assert not left, f"{left} is left"
        raise


def _upload(random: Random, corpus: Corpus) -> bytes:
    return (
        damaged(corpus.zip, random)
        if random.random() < 0.5
        else strange_zip(corpus.members, random)
    )


def _x(corpus: Corpus) -> dict[str, bytes]:
    return {"x": npy("<f4", corpus.series.shape, corpus.series.tobytes())}


SUBJECTS = (
    Subject(
        name="predict, lines of series",
        inputs=12_000,
        makes=lambda random, corpus: damaged_lines(_lines(corpus), random),
        reads=_predict,
        sound=lambda corpus: b"\n".join(_lines(corpus)),
    ),
    Subject(
        name="predict, lines of time steps",
        inputs=5_000,
        makes=_steps,
        reads=_slide,
        sound=lambda corpus: b"\n".join(str(v).encode() for v in corpus.series[0, 0].tolist()),
    ),
    Subject(
        name="predict, NPZ",
        inputs=8_000,
        makes=lambda random, corpus: strange_npz(_x(corpus), random),
        reads=_predict,
        sound=lambda corpus: zipped(corpus.npz),
    ),
    Subject(
        name="release.json",
        inputs=4_000,
        makes=lambda random, _: damaged_json(_RECORD, random),
        reads=_read_release,
        sound=lambda _: to_bytes(_RECORD),
    ),
    Subject(
        name="switching.json",
        inputs=3_000,
        makes=lambda random, _: damaged_json({"from": "a", "to": "b"}, random),
        reads=_settle,
        sound=lambda _: to_bytes({"from": None, "to": "b"}),
    ),
    Subject(
        name="report.json",
        inputs=5_000,
        makes=lambda random, corpus: damaged_json(corpus.report, random),
        reads=_read_report,
        sound=lambda corpus: to_bytes(corpus.report),
    ),
    Subject(
        name="drift's profile",
        inputs=5_000,
        makes=lambda random, corpus: strange_npz(corpus.profile, random),
        reads=_compare,
        sound=lambda corpus: (corpus.folder / PROFILE).read_bytes(),
    ),
    Subject(
        name="SSH signature",
        inputs=2_000,
        makes=lambda random, corpus: damaged(corpus.signature, random),
        reads=lambda data, folder, corpus: _verify(data, None, folder, corpus),
        sound=lambda corpus: corpus.signature,
    ),
    Subject(
        name="allowed signers",
        inputs=1_000,
        makes=lambda random, corpus: damaged(corpus.signers, random),
        reads=lambda data, folder, corpus: _verify(None, data, folder, corpus),
        sound=lambda corpus: corpus.signers,
    ),
    Subject(
        name="installation of an archive",
        inputs=3_000,
        makes=_upload,
        reads=_install,
        sound=lambda corpus: corpus.zip,
    ),
)
