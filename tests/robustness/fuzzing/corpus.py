"""Real files to start from: a small bundle of models in every form, and what belongs to it."""

from __future__ import annotations

import subprocess
import zipfile
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import signature
from edgedistill.bundle import writer as packing
from edgedistill.bundle.drift_reference import DriftLimits, Reference, features
from edgedistill.bundle.golden import Golden
from edgedistill.bundle.manifest import SIGNATURE
from edgedistill.device.drift.profile import Bins, Profile
from edgedistill.device.predict.predictor import Predictor
from edgedistill.device.validate import validate
from edgedistill.evaluation.contract import Contract
from edgedistill.io import archives, files
from edgedistill.preprocessing.transforms import fit
from edgedistill.report import to_json
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.saliency import occlusion
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import default_plan
from fuzzing.archives import Member

ZIP, FOLDER, SIGNERS = "bundle.zip", "bundle", "allowed_signers"
REPORT, PROFILE = "report.json", "profile.npz"
_SERIES, _GOLDEN = 32, 4


def make(folder: Path) -> None:
    """Fill a folder: series of a bundled set, small networks with drawn weights, a bundle of them.

    Torch and ONNX are imported here alone: what reads damaged files has neither.
    """
    import torch
    from aeon.datasets import load_italy_power_demand

    from edgedistill.export.export import export
    from edgedistill.models import ModelSpec
    from edgedistill.models import build as network
    from edgedistill.optimize.ort_format import to_ort
    from edgedistill.optimize.variants import variants

    recorded, labels = load_italy_power_demand(split="train")
    preprocessing = fit(list(recorded), length=None, sizing="resample", normalization="series")
    series = preprocessing.apply(list(recorded))[:_SERIES]
    models = []
    for family in ("fcn", "lstm"):
        torch.manual_seed(0)
        spec = ModelSpec(family=family, width=8, depth=1 if family == "lstm" else None)
        path = folder / f"{family}.onnx"
        export(network(spec, channels=1, classes=2, length=series.shape[2]), path, series)
        models += [(path, "fp32")]
    made = variants(folder / "fcn.onnx", series, folder, ["fp16", "int8"])
    models += [(variant.path, variant.precision) for variant in made]
    to_ort(folder / "fcn.onnx", folder / "fcn.ort", series)
    models += [(folder / "fcn.ort", "fp32")]
    entries = [
        bundle.Model(
            name=path.name.replace(".", "-"),
            path=path,
            runtime="onnxruntime",
            precision=precision,
            parameters=100,
            session=SessionSettings(),
        )
        for path, precision in models
    ]
    _write(folder, entries, preprocessing, series, labels[:_GOLDEN].astype(np.int64) - 1)


def _write(folder: Path, models: list[bundle.Model], preprocessing: Any, x: Any, y: Any) -> None:
    plan = default_plan(x.shape[2])
    seen = occlusion.explain(OrtRuntime(models[0].path).logits, x, plan)
    said = Explanation(seen.logits[:_GOLDEN], seen.kl[:_GOLDEN], seen.signed[:_GOLDEN])
    reference = Reference(features=features(x), logits=seen.logits, signed=seen.signed)
    packing.write(
        folder / ZIP,
        packing.BundleContents(
            name="Italy",
            created="2026-01-02T03:04:05+00:00",
            class_names=("winter", "summer"),
            preprocessing=preprocessing,
            plan=plan,
            contract=Contract(),
            chosen=models[0].name,
            models=models,
            golden=Golden(series=x[:_GOLDEN], labels=y, teacher=said, student=said),
            provenance=bundle.Provenance(
                recipe={"seed": 0}, versions={"numpy": "2"}, seeds={"teacher": 0}, data="0"
            ),
            reference=(reference, DriftLimits()),
        ),
    )
    profile = Profile(Bins.from_reference(reference))
    for index, one in enumerate(x):
        profile.add(one, seen.logits[index], seen.signed[index])
    profile.save(folder / PROFILE)
    archives.unpack(folder / ZIP, folder / FOLDER)
    _sign(folder)
    with bundle.open_bundle(folder / FOLDER) as opened:
        files.write_json(folder / REPORT, to_json(validate(opened, runs=20).report()))


def _sign(folder: Path) -> None:
    """Sign the bundle with a key of its own."""
    key = folder / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fuzzing", "-f", str(key)]
    subprocess.run(command, check=True)
    signature.sign(folder / FOLDER, key)
    (folder / SIGNERS).write_text(f"fuzzing {key.with_suffix('.pub').read_text()}")
    archives.pack(folder / FOLDER, folder / ZIP)


class Corpus:
    """What `make` made, read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.zip = (folder / ZIP).read_bytes()
        self.manifest: dict[str, Any] = files.read_json(folder / FOLDER / bundle.MANIFEST)
        with zipfile.ZipFile(folder / ZIP) as archive:
            self.members = [Member(n.encode(), archive.read(n), 8) for n in archive.namelist()]
        self.golden = (folder / FOLDER / bundle.GOLDEN).read_bytes()
        self.arrays = _arrays(folder / FOLDER / bundle.GOLDEN)
        self.profile = _arrays(folder / PROFILE)
        self.reference = _arrays(folder / FOLDER / bundle.REFERENCE)
        models = [folder / FOLDER / entry["file"] for entry in self.manifest["models"]]
        self.onnx = [path.read_bytes() for path in models if path.suffix == ".onnx"]
        self.ort = [path.read_bytes() for path in models if path.suffix == ".ort"]
        self.npz = [Member(b"x.npy", self.arrays["series"])]
        self.signature = (folder / FOLDER / SIGNATURE).read_bytes()
        self.signers = (folder / SIGNERS).read_bytes()
        self.session = asdict(SessionSettings())
        self.report: dict[str, Any] = files.read_json(folder / REPORT)
        self.series = np.load(folder / FOLDER / bundle.GOLDEN)["series"]

    @cached_property
    def predictor(self) -> Predictor:
        """Return the bundle's model, ready for recorded series."""
        with bundle.open_bundle(self.folder / FOLDER) as opened:  # a folder, which stays
            return Predictor(opened, OrtRuntime(opened.model().path), saliency=True)

    @cached_property
    def watched(self) -> tuple[Reference, DriftLimits, Bins]:
        """Return reference, limits and bins of drift."""
        with bundle.open_bundle(self.folder / FOLDER) as opened:
            reference, limits = opened.reference()
        return reference, limits, Bins.from_reference(reference)


def _arrays(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
