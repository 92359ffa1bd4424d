"""Subjects of a bundle: its manifest, its zip, its golden set, its models, and their engines."""

from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from edgedistill.bundle import reader as bundle
from edgedistill.bundle.drift_reference import load_reference
from edgedistill.bundle.golden import load_golden
from edgedistill.io import archives, files
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.runtimes.tensorrt import engine_cache
from fuzzing.archives import strange_npz, strange_zip
from fuzzing.corpus import Corpus
from fuzzing.messages import damaged_model, keeps_outside
from fuzzing.mutations import damaged, damaged_json
from fuzzing.subject import Reads, Subject, to_bytes

_HOLE = "what is put in later"
_PREPROCESSINGS: tuple[dict[str, Any], ...] = (  # ways to prepare series that the bundle has not
    {},
    {"sizing": "pad"},
    {"normalization": "train", "mean": [0.5], "std": [2.0]},
    {"channels": 8, "features": "log_mel", "sample_rate_hz": 8000},
)
_PLAN = b"stands in for an engine"


def _damaged_manifest(random: Random, corpus: Corpus) -> bytes:
    """Return a manifest that is damaged anywhere, or in what makes sense of its series alone."""
    if random.random() < 0.5:
        return damaged_json(corpus.manifest, random)
    part = random.choice(
        ("preprocessing", "plan", "contract", "models", "class_names", "reference")
    )
    sound = corpus.manifest[part]
    if part == "preprocessing":
        sound = {**sound, **random.choice(_PREPROCESSINGS)}
    return to_bytes({**corpus.manifest, part: _HOLE}).replace(
        to_bytes(_HOLE), damaged_json(sound, random)
    )


def _read_manifest(data: bytes, folder: Path, corpus: Corpus) -> None:
    """Open a bundle with sound files and a damaged manifest; read all its parts."""
    root = folder / "bundle"
    shutil.copytree(corpus.folder / "bundle", root, copy_function=shutil.copyfile)
    (root / bundle.MANIFEST).write_bytes(data)
    _open(root)


def _read_zip(data: bytes, folder: Path, _: Corpus) -> None:
    path = folder / "bundle.zip"
    path.write_bytes(data)
    _open(path)


def _open(path: Path) -> None:
    with bundle.open_bundle(path) as found:
        found.golden()
        if "reference" in found.manifest:
            found.reference()
        found.model()
        channels = found.preprocessing.input_channels
        found.preprocessing.apply([np.linspace(-1, 1, 48).reshape(1, -1).repeat(channels, axis=0)])


def _unpack(data: bytes, folder: Path, _: Corpus) -> None:
    """Unpack an archive: nothing is left of a refused one, and no link of an accepted one."""
    path, target = folder / "archive.zip", folder / "unpacked"
    path.write_bytes(data)
    try:
        archives.unpack(path, target)
    finally:
        left = {entry.name for entry in folder.iterdir()} - {"archive.zip", "unpacked"}
        assert not left, f"{left} is left"
    assert not any(path.is_symlink() for path in target.rglob("*"))


def _read_golden(data: bytes, folder: Path, _: Corpus) -> None:
    path = folder / "golden.npz"
    path.write_bytes(data)
    load_golden(path)


def _read_reference(data: bytes, folder: Path, _: Corpus) -> None:
    path = folder / "reference.npz"
    path.write_bytes(data)
    load_reference(path)


def _run_model(suffix: str) -> Reads:
    def run(data: bytes, folder: Path, corpus: Corpus) -> None:
        path = folder / f"model{suffix}"
        path.write_bytes(data)
        OrtRuntime(path).logits(corpus.series[:2])
        assert suffix == ".ort" or not keeps_outside(data), "another file was read"

    return run


def _read_session(data: bytes, folder: Path, _: Corpus) -> None:
    (folder / "session.json").write_bytes(data)
    values = files.read_json(folder / "session.json")
    if isinstance(values, dict):  # the manifest's own check
        SessionSettings.from_dict(values)


def _read_engine(data: bytes, folder: Path, _: Corpus) -> None:
    (folder / engine_cache.FACTS).write_bytes(data)
    (folder / engine_cache.PLAN).write_bytes(_PLAN)
    found = engine_cache.read(folder / engine_cache.PLAN)
    found.check(replace(found.place, version="10.3.0"))


def _engine(_: Corpus) -> Any:
    return {
        "format": engine_cache.FORMAT,
        "sha256": sha256(_PLAN).hexdigest(),
        "model": "student.onnx",
        "model_sha256": "0" * 64,
        "place": {
            "library": "tensorrt",
            "version": "10.3.0",
            "gpu": "Orin",
            "compute_capability": "8.7",
            "multiprocessors": 8,
            "power_mode": "15W (0)",
        },
        "options": {"version_compatible": True},
        "gpu_fallback": [],
        "warnings": [],
    }


SUBJECTS = (
    Subject(
        name="manifest, values",
        inputs=12_000,
        makes=_damaged_manifest,
        reads=_read_manifest,
        sound=lambda corpus: to_bytes(corpus.manifest),
    ),
    Subject(
        name="manifest, bytes",
        inputs=6_000,
        makes=lambda random, corpus: damaged(to_bytes(corpus.manifest), random),
        reads=_read_manifest,
        sound=lambda corpus: to_bytes(corpus.manifest),
    ),
    Subject(
        name="bundle's zip, bytes",
        inputs=5_000,
        makes=lambda random, corpus: damaged(corpus.zip, random),
        reads=_read_zip,
        sound=lambda corpus: corpus.zip,
    ),
    Subject(
        name="zip, members by hand",
        inputs=12_000,
        makes=lambda random, corpus: strange_zip(corpus.members, random),
        reads=_unpack,
        sound=lambda corpus: corpus.zip,
    ),
    Subject(
        name="golden set, bytes",
        inputs=5_000,
        makes=lambda random, corpus: damaged(corpus.golden, random),
        reads=_read_golden,
        sound=lambda corpus: corpus.golden,
    ),
    Subject(
        name="golden set, arrays by hand",
        inputs=10_000,
        makes=lambda random, corpus: strange_npz(corpus.arrays, random),
        reads=_read_golden,
        sound=lambda corpus: corpus.golden,
    ),
    Subject(
        name="drift's reference",
        inputs=5_000,
        makes=lambda random, corpus: strange_npz(corpus.reference, random),
        reads=_read_reference,
        sound=lambda corpus: (corpus.folder / "bundle" / bundle.REFERENCE).read_bytes(),
    ),
    Subject(
        name="ONNX, fields",
        inputs=5_000,
        makes=damaged_model,
        reads=_run_model(".onnx"),
        sound=lambda corpus: corpus.onnx[0],
        native=True,
    ),
    Subject(
        name="ONNX, bytes",
        inputs=6_000,
        makes=lambda random, corpus: damaged(random.choice(corpus.onnx), random),
        reads=_run_model(".onnx"),
        sound=lambda corpus: corpus.onnx[0],
        native=True,
    ),
    Subject(
        name=".ort, bytes",
        inputs=3_000,
        makes=lambda random, corpus: damaged(random.choice(corpus.ort), random),
        reads=_run_model(".ort"),
        sound=lambda corpus: corpus.ort[0],
        native=True,
    ),
    Subject(
        name="session settings",
        inputs=6_000,
        makes=lambda random, corpus: damaged_json(corpus.session, random),
        reads=_read_session,
        sound=lambda corpus: to_bytes(corpus.session),
    ),
    Subject(
        name="engine's facts",
        inputs=5_000,
        makes=lambda random, corpus: damaged_json(_engine(corpus), random),
        reads=_read_engine,
        sound=lambda corpus: to_bytes(_engine(corpus)),
    ),
)
