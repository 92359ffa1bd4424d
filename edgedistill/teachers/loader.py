"""Open the teacher that a recipe names: a file, a factory, an estimator or logits."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pickle
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import joblib
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.arrays import Floats
from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.classifier import SoftmaxClassifier, are_probabilities, check_series
from edgedistill.teachers.estimator import EstimatorClassifier
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.table import read_table
from edgedistill.teachers.torch import TorchClassifier

_SHOWN = 5  # names of tensors in a message
_PROBED = 16  # series that a teacher is tried on before it gets the rest
_JOBLIB_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    ImportError,
    pickle.UnpicklingError,
    zlib.error,
)


def load(
    spec: str,
    *,
    class_names: Sequence[str],
    train: Floats,
    test: Floats | None = None,
    weights: Path | None = None,
    trust: bool = False,
) -> Classifier:
    """Return the teacher that `spec` names, tried on real series.

    Args:
        spec: `model.onnx`, `package.module:factory`, `estimator.joblib`, or `logits.npz`.
        class_names: class names of the data set, in the order of the labels 0..K-1.
        train: all training series, (N, C, T), preprocessed, in the order of their file (only a file
            of logits needs all, and the order).
        test: all test series, likewise.
        weights: path of the safetensors for the module that the factory makes.
        trust: whether a joblib file may run the code it contains.

    Raises:
        UsageError: no such kind of teacher, `weights` beside a file, or joblib without trust.
        ModelError: it cannot be read, or gives other than K finite logits for these series.
    """
    check_series(train)
    if weights is not None and ":" not in spec:
        raise UsageError(f"Weights go with a factory; {spec} brings its own. Leave out {weights}.")
    suffix, classes = Path(spec).suffix.lower(), len(class_names)
    teacher: Classifier
    if suffix == ".npz":
        teacher = read_table(_existing(spec), train=train, test=test)
    elif suffix == ".onnx":
        teacher = OnnxClassifier(_existing(spec), classes=classes)
    elif suffix == ".joblib":
        teacher = _load_joblib(_existing(spec), class_names, trust=trust)
    elif ":" in spec:
        teacher = _load_factory(spec, weights, train, classes)
    else:
        raise UsageError(_unknown(spec))
    return _checked(teacher, train[:_PROBED], classes)


def load_module(
    spec: str, *, weights: Path | None, channels: int, classes: int, length: int
) -> nn.Module:
    """Return the module that `package.module:factory` makes, with `weights` in it.

    The factory gets those of `channels`, `classes` and `length` that it has parameters for. Modules
    of the current folder can be named too. Without weights the module stays as the factory made it.

    Raises:
        UsageError: no such module or factory, or the weights are no safetensors file.
        ModelError: the factory makes no `nn.Module`, or the weights do not fit it exactly.
    """
    factory = _find(spec)
    offered = {"channels": channels, "classes": classes, "length": length}
    module = factory(**_accepted(factory, offered))
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{spec} makes a {type(module).__name__}. A factory returns a torch.nn.Module."
        )
    if weights is not None:
        _fill(module, weights)
    return module


def _checked(teacher: Classifier, x: Floats, classes: int) -> Classifier:
    """Return the teacher once it has run on real series; wrap one of probabilities."""
    if teacher.classes != classes:
        raise ModelError(
            f"{teacher.name} holds logits of {teacher.classes} classes; the data set has "
            f"{classes}. Make it from this data set."
        )
    try:
        outputs = teacher.logits(x)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The teacher {teacher.name} cannot take series of shape {x.shape} (N, C, T): {error}"
        ) from error
    return SoftmaxClassifier(teacher) if are_probabilities(outputs) else teacher


def _load_factory(spec: str, weights: Path | None, series: Floats, classes: int) -> TorchClassifier:
    _, channels, length = series.shape
    module = load_module(spec, weights=weights, channels=channels, classes=classes, length=length)
    return TorchClassifier(module, classes=classes, name=spec)


def _load_joblib(path: Path, class_names: Sequence[str], *, trust: bool) -> EstimatorClassifier:
    if not trust:
        raise UsageError(
            f"Loading {path} runs whatever code it contains. If you made the file yourself or "
            "trust who did, allow it with --trust; otherwise bring the teacher as ONNX."
        )
    try:
        estimator = joblib.load(path)
    except _JOBLIB_ERRORS as error:
        raise ModelError(
            f"Cannot load {path}: {type(error).__name__}: {error}. Save the estimator again "
            "with the versions of scikit-learn and aeon that are installed here."
        ) from error
    return EstimatorClassifier(estimator, class_names=class_names, name=path.name)


def _existing(spec: str) -> Path:
    path = Path(spec)
    if not path.is_file():
        raise ModelError(f"There is no file {path}. Check the path of the teacher.")
    return path


def _unknown(spec: str) -> str:
    if Path(spec).suffix.lower() in {".pt", ".pth", ".pkl", ".pickle"}:
        return (
            f"{spec} is a pickle, which runs code when it is opened, so it is not read. Save the "
            "weights with safetensors and name the factory of the module as package.module:factory."
        )
    return (
        f"{spec!r} names no teacher. Give an .onnx file, package.module:factory, a .joblib file or "
        "an .npz of logits."
    )


def _find(spec: str) -> Callable[..., object]:
    module_name, _, name = spec.partition(":")
    try:
        with _current_folder_importable():
            module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(
            f"Cannot import {module_name!r} of the teacher {spec!r}: {error}. "
            "Install its package, or run in the folder that holds it."
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(
            f"{module_name} has no factory {name!r}.{_near(name, module)} Name a function or class "
            "that returns the module."
        )
    found: Callable[..., object] = factory
    return found


def _near(name: str, module: ModuleType) -> str:
    near = difflib.get_close_matches(name, dir(module), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Make `my_model:build` importable from the current folder, as under `python -m`."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _accepted(factory: Callable[..., object], offered: dict[str, int]) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return offered
    return {name: value for name, value in offered.items() if name in parameters}


def _fill(module: nn.Module, weights: Path) -> None:
    if weights.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{weights} is no .safetensors file, and pickled weights run code when they are "
            "opened. Save them with safetensors.torch.save_file(module.state_dict(), path)."
        )
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"Cannot read {weights}: {error}. Copy or save it again.") from error
    problems = _misfits(module.state_dict(), tensors)
    if problems:
        raise ModelError(
            f"{weights} does not fit the module: {'; '.join(problems)}. "
            "Give the weights of this very architecture."
        )
    module.load_state_dict(tensors)


def _misfits(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    groups = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": shapes,
    }
    return [f"{len(g)} {kind} ({_some(g)})" for kind, g in groups.items() if g]


def _some(names: list[str]) -> str:
    more = "" if len(names) <= _SHOWN else ", ..."
    return ", ".join(names[:_SHOWN]) + more
