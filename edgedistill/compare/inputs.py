"""Open two models to compare, and series for both."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.bundle.reader import MANIFEST, Bundle, open_bundle
from edgedistill.compare.activations import Network
from edgedistill.compare.comparison import ComparedModel, precision_in
from edgedistill.device.runtime import is_exact, start
from edgedistill.errors import UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.export.export import export
from edgedistill.io.arrays import Floats
from edgedistill.pipeline.run_folder import RunFolder, check_plan_length, recorded_plan
from edgedistill.pipeline.stages.data import prepare_data, read_source
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.recipe.recipe import Recipe
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.tensorrt import engine_cache
from edgedistill.runtimes.tensorrt.runtime import TensorRtRuntime
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.training.config import FACTS
from edgedistill.training.networks import open_classifier

SERIES = 100  # compared unless another number is asked for

_EXPORT_SERIES = 64  # on which torch and its export must agree
_SATURATES = "in INT8 that saturates on this processor, unlike a board's"
_NO_DATA = (
    "Name the data whose test series both are asked about, such as --data GunPoint. Only a bundle "
    "and a run bring their own."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonInput:
    """Two models, series and plan of a comparison."""

    first: ComparedModel
    second: ComparedModel
    series: Floats  # (N, C, T), preprocessed
    origin: str  # such as "30 test series of ItalyPowerDemand"
    plan: PerturbationPlan
    contract: Contract | None = None  # of the second model's bundle, else of the first one's


@dataclass(frozen=True, slots=True, kw_only=True)
class _SharedInput:
    """Series and plan that both models share."""

    series: Floats
    origin: str
    class_names: tuple[str, ...]
    plan: PerturbationPlan


@contextmanager
def open_comparison(
    first: Path,
    second: Path,
    *,
    models: tuple[str | None, str | None] = (None, None),
    recipe: Recipe | None = None,
    count: int = SERIES,
) -> Iterator[ComparisonInput]:
    """Open two models and series for them; temporary files are removed afterwards.

    Args:
        first: an ONNX file, the folder of a run (its student) or of its teacher or student, a
            bundle, or a plan that `edgedistill.device build` wrote.
        second: likewise.
        models: names of the models in bundles; None is the chosen one.
        recipe: recipe that names the data; needed without a bundle. A bundle prepares the series.
        count: largest number of series, spread evenly over all.

    Raises:
        UsageError: nothing that can be compared, no such model, or data is not named.
        DataError: data or a model that cannot be used, or that do not fit each other.
        IntegrityError: a bundle or an engine that cannot be trusted.
        MachineError: the runtime of a bundle's model, or of an engine, is missing.
    """
    if count < 1:
        raise UsageError(f"Got {count} series to compare on. Take 1 or more.")
    with ExitStack() as stack:
        opened = tuple(
            _unpacked(path, model, stack)
            for path, model in zip((first, second), models, strict=True)
        )
        shared = _shared_input(opened, recipe, count)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedistill-")))
        yield ComparisonInput(
            first=_open_model(first, opened[0], models[0], shared, scratch / "a.onnx"),
            second=_open_model(second, opened[1], models[1], shared, scratch / "b.onnx"),
            series=shared.series,
            origin=shared.origin,
            plan=shared.plan,
            contract=next((b.contract for b in reversed(opened) if isinstance(b, Bundle)), None),
        )


def _unpacked(path: Path, model: str | None, stack: ExitStack) -> Bundle | Path:
    """Open a bundle; of a run, if one of its models is named. Other paths stay as they are."""
    if not path.exists():
        raise UsageError(f"There is no {path}. Check the path.")
    if path.suffix.lower() == ".zip" or (path / MANIFEST).is_file():
        return stack.enter_context(open_bundle(path))
    if model is None:
        return path
    if not RunFolder(path).is_run():
        raise UsageError(f"{path} is no bundle, so it has no model {model!r} to choose.")
    return stack.enter_context(open_bundle(path))


def _shared_input(
    bundles: tuple[Bundle | Path, ...], recipe: Recipe | None, count: int
) -> _SharedInput:
    """Return the series of the first bundle, as it prepares them, or else of the recipe."""
    bundle = next((found for found in bundles if isinstance(found, Bundle)), None)
    if bundle is not None:
        return _own_series(bundle, recipe, count)
    if recipe is None:
        raise UsageError(_NO_DATA)
    data = prepare_data(recipe)
    length = data.length
    recorded = recorded_plan(*(found for found in bundles if isinstance(found, Path)))
    series = data.test.x[_evenly_spaced(len(data.test.x), count)]
    return _SharedInput(
        series=series,
        origin=f"{len(series)} test series of {data.name}",
        class_names=data.class_names,
        plan=check_plan_length(recorded or perturbation_plan(recipe, length), length),
    )


def _own_series(bundle: Bundle, recipe: Recipe | None, count: int) -> _SharedInput:
    if recipe is None:
        series = bundle.golden().series
        series = series[_evenly_spaced(len(series), count)]
        origin = f"golden series of {bundle.name}"
    else:
        source = read_source(recipe)
        raw, split = (source.train, "") if source.test is None else (source.test, "test ")
        rows = _evenly_spaced(len(raw.labels), count)
        series = bundle.preprocessing.apply([raw.series[row] for row in rows])
        origin = f"{split}series of {source.name}"
    return _SharedInput(
        series=series,
        origin=f"{len(series)} {origin}",
        class_names=bundle.class_names,
        plan=bundle.plan,
    )


def _open_model(
    path: Path, source: Bundle | Path, model: str | None, shared: _SharedInput, scratch: Path
) -> ComparedModel:
    if isinstance(source, Bundle):
        return _bundle_model(path, source, model)
    return _compared_model(source, shared, scratch)


def _bundle_model(path: Path, bundle: Bundle, name: str | None) -> ComparedModel:
    """Return a bundle's model in ONNX Runtime; one for TensorRT with its device's rounding."""
    model = bundle.model(name)
    network = Network(model.path) if model.path.suffix == ".onnx" else None
    emulate = network is not None and model.runtime != OrtRuntime.name
    return ComparedModel(
        name=f"{path}, {model.name}" + ("" if is_exact(model) else f" ({_SATURATES})"),
        classifier=network if network is not None and emulate else start(model),
        network=network,
        precision=precision_in(model.precision) if network is None else network.precision,
    )


def _compared_model(path: Path, shared: _SharedInput, scratch: Path) -> ComparedModel:
    """Return the model of a file or folder; `scratch` takes the export of a torch module."""
    if path.suffix.lower() == ".onnx":
        file = Network(path)
        return ComparedModel(
            name=str(path), classifier=file, network=file, precision=file.precision
        )
    if path.suffix.lower() == Path(engine_cache.PLAN).suffix:
        return _engine(path)
    run = RunFolder(path)
    folder = run.student if run.is_run() else path
    if not (folder / FACTS).is_file():
        raise UsageError(
            f"{path} is nothing that can be compared. Name an .onnx file, the folder of a run, a "
            "folder with a network that `train` or `distill` wrote, a bundle (a folder or a .zip), "
            "or an engine.plan that a board built."
        )
    network = open_classifier(folder, shared.class_names, shared.series)
    export(network.module, scratch, shared.series[:_EXPORT_SERIES])
    return ComparedModel(name=str(path), classifier=network, network=Network(scratch))


def _engine(path: Path) -> ComparedModel:
    """Return an engine, with the precision in the name of its source file."""
    engine = engine_cache.read(path)
    return ComparedModel(
        name=str(path),
        classifier=TensorRtRuntime(engine),
        precision=precision_in(engine.model),
    )


def _evenly_spaced(total: int, count: int) -> list[int]:
    """Return at most `count` of `total` indices, evenly apart: sets are often sorted by class."""
    return [int(row) for row in np.linspace(0, total - 1, min(count, total))]
