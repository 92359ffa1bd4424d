"""The bundle: everything a device needs to run a student and to prove that it is the right one.

A folder, or the same folder as one zip: `manifest.json`, the models, the golden set.
What each field means stands in `schema.json` beside this file. Opening a bundle
verifies it; the hashes show damage and exchanged files, but not a forger who writes
a manifest of his own. NumPy only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.bundle import manifest
from edgedistill.bundle.location import locate
from edgedistill.errors import EdgeDistillError, IntegrityError, UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.formats.schema import InputSchema
from edgedistill.preprocessing.transforms import Preprocessing
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.saliency.perturbation import PerturbationPlan

if TYPE_CHECKING:  # who predicts opens a bundle, and starts faster without the golden set
    from edgedistill.bundle.drift_reference import DriftLimits, Reference
    from edgedistill.bundle.golden import Golden

MANIFEST = manifest.MANIFEST
GOLDEN = "golden.npz"
REFERENCE = "reference.npz"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file and what it is."""

    name: str  # unique in a bundle; letters, digits, dot, dash, underscore
    path: Path  # the file, with the suffix of its format
    runtime: str  # what runs it: "onnxruntime" or "tensorrt"
    precision: str  # "fp32", "fp16", "bf16", "int8", "w8a16"
    parameters: int
    session: SessionSettings | None = None  # None: was not tuned

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} cannot name a model's file. Use at most 64 letters, digits, dots, "
                "dashes and underscores."
            )

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a bundle comes from."""

    recipe: Mapping[str, Any]  # as it was run, JSON-able
    versions: Mapping[str, str]  # of Python and the packages that made it
    seeds: Mapping[str, int]
    data: str  # fingerprint of the series it was made from


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle, readable while `open_bundle` is entered."""

    root: Path
    manifest: Mapping[str, Any]  # as it stands in the file
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    plan: PerturbationPlan
    contract: Contract
    models: tuple[Model, ...]
    input_schema: InputSchema | None = None  # None: nothing is known of the training files

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return str(self.manifest["name"])

    @property
    def chosen(self) -> str:
        """Name of the model that was chosen under the contract."""
        return str(self.manifest["chosen"])

    def model(self, name: str | None = None) -> Model:
        """Return a model by name, or the chosen one.

        Raises:
            UsageError: there is no such model.
        """
        wanted = self.chosen if name is None else name
        for model in self.models:
            if model.name == wanted:
                return model
        raise UsageError(
            f"{self.name} holds no model {wanted!r}. Choose one of "
            f"{', '.join(model.name for model in self.models)}."
        )

    def golden(self) -> Golden:
        """Return the golden set.

        Raises:
            IntegrityError: its arrays are damaged or do not fit the plan and the classes.
        """
        from edgedistill.bundle.golden import load_golden

        try:
            found = load_golden(self.root / self.manifest["golden"])
            found.check(self.plan, len(self.class_names))
        except EdgeDistillError as error:
            raise IntegrityError(f"The golden set of {self.name} is unusable: {error}") from error
        return found

    def reference(self) -> tuple[Reference, DriftLimits]:
        """Return the drift reference and the limits of drift.

        Raises:
            UsageError: the bundle has none.
            IntegrityError: its arrays are damaged or do not fit the plan and the classes.
        """
        from edgedistill.bundle.drift_reference import DriftLimits, load_reference

        entry = self.manifest.get("reference")
        if entry is None:
            raise UsageError(
                f"{self.name} has no reference to measure drift from: too few series were held "
                "out, or it was made by an older edgedistill. Make the bundle anew with more."
            )
        try:
            found = load_reference(self.root / entry["file"])
            found.check(self.plan, self.preprocessing.channels, len(self.class_names))
            return found, DriftLimits.from_dict(entry["limits"])
        except EdgeDistillError as error:
            raise IntegrityError(f"The reference of {self.name} is unusable: {error}") from error


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Verify a bundle and yield it; a zip is unpacked into a temporary folder.

    Args:
        path: path of a bundle, a folder or a zip, or of the folder of a run that has one.

    Raises:
        ContractError: a run whose contract is broken has no bundle.
        UsageError: there is nothing at `path`.
        IntegrityError: it is no bundle, of a version this build does not read, damaged,
            or holds anything that the manifest does not list.
    """
    path = locate(path)
    if path.is_dir():
        yield verified(path, path)
    elif path.exists():
        import tempfile  # here with what reads archives: a release is a folder

        from edgedistill.io import archives

        with tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch:
            root = Path(scratch) / "bundle"
            archives.unpack(path, root)
            yield verified(root, path)
    else:
        raise UsageError(f"There is no bundle at {path}. Check the path.")


def verified(root: Path, path: Path) -> Bundle:
    """Return the bundle in a folder, all of it verified.

    Args:
        root: the folder.
        path: where it came from, for messages.

    Raises:
        IntegrityError: as for `open_bundle`.
    """
    if MANIFEST not in manifest.contents(root, path):
        raise IntegrityError(
            f"{path} is no bundle: it has no {MANIFEST}. Make one with `edgedistill bundle`."
        )
    facts = manifest.read(root / MANIFEST)
    manifest.check_files(root, path, facts["files"])
    try:
        return Bundle(
            root=root,
            manifest=facts,
            class_names=tuple(facts["class_names"]),
            preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
            plan=PerturbationPlan.from_dict(facts["plan"]),
            contract=Contract.from_dict(facts["contract"]),
            models=tuple(_model(root, entry) for entry in facts["models"]),
            input_schema=InputSchema.from_dict(facts["input"]) if "input" in facts else None,
        )
    except (EdgeDistillError, TypeError, ValueError, OverflowError) as error:
        raise IntegrityError(f"The manifest of {path} makes no sense: {error}") from error


def _model(root: Path, entry: Mapping[str, Any]) -> Model:
    return Model(
        name=entry["name"],
        path=root / entry["file"],
        runtime=entry["runtime"],
        precision=entry["precision"],
        parameters=entry["parameters"],
        session=SessionSettings.from_dict(entry["session"]) if "session" in entry else None,
    )
