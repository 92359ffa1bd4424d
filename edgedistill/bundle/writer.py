"""Writing bundles: whole or not at all, and never one that could not be opened again.

NumPy only: a board stores its tuned session settings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill.bundle import manifest
from edgedistill.bundle.drift_reference import DriftLimits, Reference, save_reference
from edgedistill.bundle.golden import Golden, save_golden
from edgedistill.bundle.reader import (
    GOLDEN,
    MANIFEST,
    REFERENCE,
    Bundle,
    Model,
    Provenance,
    open_bundle,
    verified,
)
from edgedistill.errors import ContractError, UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.formats.schema import InputSchema
from edgedistill.io import archives, files
from edgedistill.preprocessing.transforms import Preprocessing
from edgedistill.saliency.perturbation import PerturbationPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleContents:
    """Everything that a bundle is written from."""

    name: str  # for people, such as the name of the data
    created: str  # ISO 8601, UTC; all that differs when equal contents are written twice
    class_names: Sequence[str]  # in the order of the logits, (K,)
    preprocessing: Preprocessing  # what made the model's input from recorded series
    plan: PerturbationPlan  # of the golden set's saliency
    contract: Contract  # what the device judges
    chosen: str  # name of the model that runs by default
    models: Sequence[Model]  # at least the chosen one
    golden: Golden  # held-out series with the recorded outputs
    provenance: Provenance  # where all this comes from
    reference: tuple[Reference, DriftLimits] | None = None  # of drift, and what counts as such
    input_schema: InputSchema | None = None  # how files are read; None of sounds

    def check(self) -> None:
        """Refuse parts that do not fit together.

        Raises:
            ShapeError: the golden set or the reference does not fit the plan or the classes.
        """
        self.golden.check(self.plan, len(self.class_names))
        if self.reference is not None:
            channels = self.preprocessing.channels
            self.reference[0].check(self.plan, channels, len(self.class_names))

    def facts(self) -> dict[str, Any]:
        """Return the manifest, without the hashes of the files."""
        facts: dict[str, Any] = {
            "format": manifest.FORMAT,
            "name": self.name,
            "created": self.created,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.to_dict(),
            "plan": self.plan.to_dict(),
            "contract": asdict(self.contract),
            "chosen": self.chosen,
            "models": [_entry(model) for model in self.models],
            "golden": GOLDEN,
            "provenance": asdict(self.provenance),
        }
        # Earlier versions refuse an unknown field.
        if self.input_schema is not None:
            facts["input"] = self.input_schema.to_dict()
        if self.reference is not None:
            facts["reference"] = {"file": REFERENCE, "limits": asdict(self.reference[1])}
        return facts


def write(path: Path, contents: BundleContents) -> None:
    """Write a bundle, whole or not at all: a zip if `path` ends in .zip, else a folder.

    Args:
        path: new, or a bundle that is replaced.
        contents: what it is written from.

    Raises:
        UsageError: `path` is taken by something else.
        ShapeError: the golden set or the reference does not fit the plan or the classes.
        IntegrityError: the parts do not make a bundle that could be opened again.
        MachineError: the disk refuses.
    """
    _check_target(path)
    contents.check()
    _put(path, lambda root: _fill(root, contents))


def write_until_kept(
    path: Path,
    write_with: Callable[[int], None],
    is_kept: Callable[[Bundle], bool],
    *,
    golden: int,
    most: int,
) -> None:
    """Write a bundle with as many golden series as it takes to keep its contract when validated.

    A few series cannot always stand for the whole test split: a share of 64 moves in
    steps of 1/64. Then more of them have to travel.

    Args:
        path: path of the bundle.
        write_with: writes the bundle with a number of golden series.
        is_kept: validates the written bundle.
        golden: number of golden series to begin with.
        most: number of held-out series.

    Raises:
        ContractError: the bundle breaks its contract with all of them; it is not left.
    """
    while True:
        write_with(golden)
        with open_bundle(path) as bundle:
            if is_kept(bundle):
                return
        if golden >= most:
            path.unlink()
            raise ContractError(
                "The model keeps the contract when it is measured here, but its bundle does not "
                "when it is validated. Run `edgedistill compress` again; if it happens again, "
                "leave more room in the contract."
            )
        golden *= 2


def rewrite(bundle: Bundle, path: Path, change: Callable[[Path], None]) -> None:
    """Write a changed copy of an open bundle, without its signature.

    Args:
        bundle: stays as it is, unless `path` is its own.
        path: path of the copy, as for `write`.
        change: function of the copy's folder that edits it.

    Raises:
        UsageError: `path` is taken by something else.
        IntegrityError: what was changed makes no bundle.
        MachineError: the disk refuses.
    """
    _check_target(path)

    def fill(root: Path) -> None:
        shutil.copytree(bundle.root, root, copy_function=shutil.copyfile, dirs_exist_ok=True)
        (root / manifest.SIGNATURE).unlink(missing_ok=True)
        change(root)
        verified(root, root)

    _put(path, fill)


def _put(path: Path, fill: Callable[[Path], None]) -> None:
    """Have a folder filled, and put it, or a zip of it, in the place of `path`."""
    if path.suffix != ".zip":
        with files.whole_folder(path) as partial:
            fill(partial)
        return
    with (
        files.whole_file(path) as partial,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch,
    ):
        fill(Path(scratch))
        archives.pack(Path(scratch), partial)


def _fill(root: Path, contents: BundleContents) -> None:
    facts = contents.facts()
    for model, entry in zip(contents.models, facts["models"], strict=True):
        target = root / entry["file"]
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(model.path, target)
    save_golden(contents.golden, root / GOLDEN)
    if contents.reference is not None:
        save_reference(contents.reference[0], root / REFERENCE)
    files.write_json(root / MANIFEST, {**facts, "files": manifest.fingerprints(root)})
    verified(root, root)  # what could not be opened again is never left behind


def _entry(model: Model) -> dict[str, Any]:
    entry = {
        "name": model.name,
        "file": f"models/{model.name}{model.path.suffix}",
        "runtime": model.runtime,
        "precision": model.precision,
        "size_bytes": model.size_bytes,
        "parameters": model.parameters,
    }
    if model.session is not None:  # earlier versions refuse an unknown field
        entry["session"] = model.session.to_dict()
    return entry


def _check_target(path: Path) -> None:
    """Refuse to replace a folder that is no bundle."""
    taken = path.is_dir() if path.suffix == ".zip" else path.exists()
    if taken and not (path / MANIFEST).is_file():
        raise UsageError(f"{path} exists and is no bundle. Name a new path for the bundle.")
