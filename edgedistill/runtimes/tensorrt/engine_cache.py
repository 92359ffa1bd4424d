"""Build TensorRT engines, and cache them on disk.

An engine runs on the GPU and the TensorRT version that built it. So it is kept in a folder
named after both, the model and the options: `engine.plan`, and beside it `engine.json`,
which describes the plan before TensorRT loads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from edgedistill.errors import DataError, IntegrityError, UsageError
from edgedistill.io import files
from edgedistill.io.vendor_tools import power_mode
from edgedistill.runtimes.tensorrt.bindings import Library
from edgedistill.runtimes.tensorrt.builder import BuildOptions, serialize
from edgedistill.runtimes.tensorrt.cuda_driver import find_gpu

FORMAT: Final = "edgedistill.engine/2"
PLAN: Final = "engine.plan"
FACTS: Final = "engine.json"
ANY_GPU: Final = "any"  # what TensorRT-RTX builds for a compute capability alone
_LONGEST_PART = 10  # digits of a part of a version; Python refuses to read thousands
_NAME_DIGITS = 16  # of a hash that names a file: no two of one cache will meet


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """The library, version and GPU that an engine is valid for."""

    library: str  # "tensorrt" or "tensorrt_rtx"
    version: str
    gpu: str
    compute_capability: str
    multiprocessors: int = 0  # in use: all Orins have one name; 0: not known
    power_mode: str = ""  # of a Jetson: kernels are chosen by their times in it

    def __str__(self) -> str:
        count = f", {self.multiprocessors} multiprocessors" if self.multiprocessors else ""
        mode = f", power mode {self.power_mode}" if self.power_mode else ""
        return (
            f"{self.library} {self.version} on GPU {self.gpu}, compute capability "
            f"{self.compute_capability}{count}{mode}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A serialized engine and its facts."""

    plan: Path
    sha256: str  # of the plan
    model: str  # name of the ONNX file
    model_sha256: str
    place: EngineTarget
    options: BuildOptions
    gpu_fallback: tuple[str, ...]  # layers that a DLA core leaves to the GPU
    warnings: tuple[str, ...] = ()  # of the parser and the builder

    def check(self, here: EngineTarget) -> None:
        """Refuse an engine that TensorRT cannot load here, with a clear message.

        Raises:
            IntegrityError: built by another version or for another GPU, or damaged.
        """
        if not _fits(self, here):
            raise IntegrityError(
                f"{self.plan} was built by {self.place}; this is {here}. An engine runs only "
                "where it was built: build it here, with python -m edgedistill.device build BUNDLE."
            )
        if files.sha256(self.plan) != self.sha256:
            raise IntegrityError(
                f"{self.plan} is not the plan that {FACTS} beside it describes. Remove its folder "
                "and build again."
            )


@dataclass(frozen=True, slots=True)
class PreparedEngine:
    """An engine, and whether it was there."""

    engine: Engine
    how: str  # "found in the cache", or why it was built


def default_cache() -> Path:
    """Return the default cache folder of engines."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgedistill" / "engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """A cache of engines: build options and folder."""

    options: BuildOptions = field(default_factory=BuildOptions)
    cache: Path = field(default_factory=default_cache)
    log: Callable[[str], None] | None = None  # called before a build, which takes minutes

    def find(self, model: Path, here: EngineTarget) -> Engine | None:
        """Return the engine of a model for this place if it was built before.

        Raises:
            DataError: half of it is missing.
            IntegrityError: it is damaged.
        """
        folder = self._folder(files.sha256(model), here)
        if not folder.exists():
            return None
        engine = read(folder / PLAN)
        engine.check(here)
        return engine

    def build(self, model: Path, library: Library, here: EngineTarget) -> Engine:
        """Build the engine of a model for this place and keep it.

        Raises:
            ModelError: TensorRT refuses the file.
            MachineError: no such DLA core, or the cache cannot be written.
            UsageError: TensorRT-RTX does not support the compute capability.
        """
        if self.log is not None:
            self.log(
                f"Building the engine of {model.name} for {here}; this can take minutes, once."
            )
        digest = files.sha256(model)
        folder = self._folder(digest, here)
        built = serialize(
            library,
            model,
            self.options,
            timing=self.cache / f"timing-{_name(asdict(here))}.cache",
            compute_capability=here.compute_capability if here.gpu == ANY_GPU else None,
        )
        with files.whole_folder(folder) as partial:
            (partial / PLAN).write_bytes(built.plan)
            facts = {
                "format": FORMAT,
                "sha256": files.sha256(partial / PLAN),
                "model": model.name,
                "model_sha256": digest,
                "place": asdict(here),
                "options": asdict(self.options),
                "gpu_fallback": list(built.gpu_fallback),
                "warnings": list(built.warnings),
            }
            files.write_json(partial / FACTS, facts)
        return read(folder / PLAN)

    def others(self, model: Path) -> tuple[Engine, ...]:
        """Return the engines of a model for any place and any options, but no damaged ones."""
        found = []
        for plan in sorted(self.cache.glob(f"{files.sha256(model)[:_NAME_DIGITS]}-*/{PLAN}")):
            with suppress(DataError, IntegrityError):
                found.append(read(plan))
        return tuple(found)

    def _folder(self, model_sha256: str, here: EngineTarget) -> Path:
        key = {"place": asdict(here), "options": asdict(self.options)}
        return self.cache / f"{model_sha256[:_NAME_DIGITS]}-{_name(key)}"


def engine_target(library: Library, *, compute_capability: str | None = None) -> EngineTarget:
    """Return the target of an engine that is built here.

    Args:
        library: TensorRT.
        compute_capability: compute capability of a GPU elsewhere; TensorRT-RTX only.

    Raises:
        MachineError: there is no GPU, or no driver.
        UsageError: TensorRT itself builds for the GPU that is here alone.
    """
    if compute_capability is None:
        gpu = find_gpu()
        return EngineTarget(
            library=library.name,
            version=library.version,
            gpu=gpu.name,
            compute_capability=gpu.compute_capability,
            multiprocessors=gpu.multiprocessors,
            power_mode=power_mode(),
        )
    if not library.is_rtx:
        raise UsageError(
            f"TensorRT {library.version} builds for the GPU that is here, not for compute "
            f"capability {compute_capability}. Leave it out; only TensorRT-RTX can be told one."
        )
    return EngineTarget(library.name, library.version, ANY_GPU, compute_capability)


def read(plan: Path) -> Engine:
    """Return the engine of a plan file from the facts beside it.

    Raises:
        DataError: the plan or the facts are missing.
        IntegrityError: the facts are none of ours, or of another format.
    """
    path = plan.with_name(FACTS)
    facts = files.read_json(path)
    if not plan.is_file():
        raise DataError(f"There is no plan at {plan}. Build the engine again.")
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise IntegrityError(f"{path} is not of format {FORMAT}. Build the engine again.")
    try:
        return Engine(
            plan=plan,
            sha256=_text(facts["sha256"]),
            model=_text(facts["model"]),
            model_sha256=_text(facts["model_sha256"]),
            place=_place(dict(facts["place"])),
            options=BuildOptions(**facts["options"]),
            gpu_fallback=tuple(_text(layer) for layer in facts["gpu_fallback"]),
            warnings=tuple(_text(warning) for warning in facts["warnings"]),
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise IntegrityError(f"{path} is damaged: {error!r}. Build the engine again.") from error


def _place(facts: dict[str, Any]) -> EngineTarget:
    count = facts.pop("multiprocessors")
    if type(count) is not int:
        raise TypeError(f"{count!r} stands where a whole number belongs")
    texts = {key: _text(value) for key, value in facts.items()}
    return EngineTarget(**texts, multiprocessors=count)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} stands where a text belongs")
    return value


def _fits(engine: Engine, here: EngineTarget) -> bool:
    there = engine.place
    same_gpu = there.gpu in {here.gpu, ANY_GPU}
    if there.library != here.library or not same_gpu:
        return False
    if there.compute_capability != here.compute_capability:
        return False
    if there.gpu != ANY_GPU and (there.multiprocessors, there.power_mode) != (
        here.multiprocessors,
        here.power_mode,
    ):
        return False
    if not engine.options.version_compatible:
        return there.version == here.version
    built, wanted = _release(there.version), _release(here.version)
    return bool(built) and built[0] == wanted[0] and built <= wanted


def _release(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    return tuple(int(part) for part in parts if part.isdecimal() and len(part) < _LONGEST_PART)


def _name(value: Any) -> str:
    return files.fingerprint(value)[:_NAME_DIGITS]
