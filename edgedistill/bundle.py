"""The bundle: everything a device needs to run a student and to prove that it is the right one.

A folder, or the same folder as one zip: `manifest.json`, the models, the golden set.
What each field means stands in `bundle.schema.json` beside this file. Opening a bundle
verifies it; the hashes show damage and exchanged files, but not a forger who writes
a manifest of his own. NumPy only.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill import files, manifest
from edgedistill.contract import Contract
from edgedistill.errors import EdgeDistillError, IntegrityError, UsageError
from edgedistill.golden import Golden, load_golden, save_golden
from edgedistill.perturbation import PerturbationPlan
from edgedistill.preprocess import Preprocessing
from edgedistill.session import SessionSettings

MANIFEST = manifest.MANIFEST
GOLDEN = "golden.npz"
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

    @property
    def name(self) -> str:
        """Name that was given to the bundle."""
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
        try:
            found = load_golden(self.root / self.manifest["golden"])
            found.check(self.plan, len(self.class_names))
        except EdgeDistillError as error:
            raise IntegrityError(f"The golden set of {self.name} is unusable: {error}") from error
        return found


def write(
    path: Path,
    *,
    name: str,
    created: str,
    class_names: Sequence[str],
    preprocessing: Preprocessing,
    plan: PerturbationPlan,
    contract: Contract,
    chosen: str,
    models: Sequence[Model],
    golden: Golden,
    provenance: Provenance,
) -> None:
    """Write a bundle, whole or not at all: a zip if `path` ends in .zip, else a folder.

    Args:
        path: new, or a bundle that is replaced.
        name: for people, such as the name of the data.
        created: ISO 8601, UTC; the only thing that differs when equal contents are written twice.
        class_names: in the order of the logits, (K,).
        preprocessing: what made the model's input from recorded series.
        plan: of the golden set's saliency.
        contract: what the device judges.
        chosen: name of the model that runs unless another is asked for.
        models: at least the chosen one.
        golden: held-out series with the recorded answers.
        provenance: where all this comes from.

    Raises:
        UsageError: `path` is taken by something else.
        ShapeError: the golden set does not fit the plan or the classes.
        IntegrityError: the parts do not make a bundle that could be opened again.
        MachineError: the disk refuses.
    """
    _check_target(path)
    golden.check(plan, len(class_names))
    facts = {
        "format": manifest.FORMAT,
        "name": name,
        "created": created,
        "class_names": list(class_names),
        "preprocessing": preprocessing.to_dict(),
        "plan": plan.to_dict(),
        "contract": asdict(contract),
        "chosen": chosen,
        "models": [_entry(model) for model in models],
        "golden": GOLDEN,
        "provenance": asdict(provenance),
    }
    _put(path, lambda root: _fill(root, facts, models, golden))


def write_tuned(bundle: Bundle, path: Path, sessions: Mapping[str, SessionSettings]) -> None:
    """Write a copy of an open bundle in which models have other session settings.

    Args:
        bundle: stays as it is, unless `path` is its own.
        path: as for `write`.
        sessions: settings by the name of a model; the others keep theirs.

    Raises:
        UsageError: `path` is taken by something else, or there is no such model.
        MachineError: the disk refuses.
    """
    _check_target(path)
    chosen = {bundle.model(name).name: settings for name, settings in sessions.items()}
    models = [
        {**entry, "session": chosen[entry["name"]].to_dict()} if entry["name"] in chosen else entry
        for entry in bundle.manifest["models"]
    ]

    def fill(root: Path) -> None:
        shutil.copytree(bundle.root, root, copy_function=shutil.copyfile, dirs_exist_ok=True)
        files.write_json(root / MANIFEST, {**bundle.manifest, "models": models})
        _verified(root, root)

    _put(path, fill)


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """Verify a bundle and yield it; a zip is unpacked into a folder that goes afterwards.

    Raises:
        UsageError: there is nothing at `path`.
        IntegrityError: it is no bundle, of a version this build does not read, damaged,
            or holds anything that the manifest does not list.
    """
    if path.is_dir():
        yield _verified(path, path)
    elif path.exists():
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as scratch:
            root = Path(scratch) / "bundle"
            files.unpack(path, root)
            yield _verified(root, path)
    else:
        raise UsageError(f"There is no bundle at {path}. Check the path.")


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
        files.pack(Path(scratch), partial)


def _fill(root: Path, facts: dict[str, Any], models: Sequence[Model], golden: Golden) -> None:
    for model, entry in zip(models, facts["models"], strict=True):
        target = root / entry["file"]
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(model.path, target)
    save_golden(golden, root / GOLDEN)
    files.write_json(root / MANIFEST, {**facts, "files": manifest.fingerprints(root)})
    _verified(root, root)  # what could not be opened again is never left behind


def _verified(root: Path, path: Path) -> Bundle:
    """Return the bundle in `root`, which came from `path`."""
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
        )
    except (EdgeDistillError, TypeError, ValueError) as error:
        raise IntegrityError(f"The manifest of {path} makes no sense: {error}") from error


def _entry(model: Model) -> dict[str, Any]:
    entry = {
        "name": model.name,
        "file": f"models/{model.name}{model.path.suffix}",
        "runtime": model.runtime,
        "precision": model.precision,
        "size_bytes": model.size_bytes,
        "parameters": model.parameters,
    }
    if model.session is not None:  # builds before tuning refuse a field that they do not know
        entry["session"] = model.session.to_dict()
    return entry


def _model(root: Path, entry: Mapping[str, Any]) -> Model:
    return Model(
        name=entry["name"],
        path=root / entry["file"],
        runtime=entry["runtime"],
        precision=entry["precision"],
        parameters=entry["parameters"],
        session=SessionSettings.from_dict(entry["session"]) if "session" in entry else None,
    )


def _check_target(path: Path) -> None:
    """Refuse to replace what is no bundle: writing a folder removes the one that was there."""
    taken = path.is_dir() if path.suffix == ".zip" else path.exists()
    if taken and not (path / MANIFEST).is_file():
        raise UsageError(f"{path} exists and is no bundle. Name a new path for the bundle.")
