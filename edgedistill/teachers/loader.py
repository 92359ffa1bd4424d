"""From what a recipe says about a teacher to the teacher."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path

import joblib

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.arrays import Floats
from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.classifier import SoftmaxClassifier, are_probabilities, check_series
from edgedistill.teachers.estimator import EstimatorClassifier
from edgedistill.teachers.factory import load_module
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.table import read_table
from edgedistill.teachers.torch import TorchClassifier

_PROBED = 16  # series that a teacher is tried on before it is trusted with the rest
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
        class_names: of the data set, in the order of the labels 0..K-1.
        train: all training series, (N, C, T), preprocessed, in the order of their file (only a file
            of logits needs all, and the order).
        test: the same of the test set.
        weights: safetensors for the module that the factory makes.
        trust: whether a joblib file may run the code it contains.

    Raises:
        UsageError: no such kind of teacher, `weights` beside a file, or joblib without trust.
        ModelError: it cannot be read, or gives other than K finite logits for these series.
    """
    check_series(train)
    suffix = Path(spec).suffix.lower()
    if weights is not None and ":" not in spec:
        raise UsageError(f"Weights go with a factory; {spec} brings its own. Leave out {weights}.")
    teacher: Classifier
    if suffix == ".npz":
        teacher = read_table(_existing(spec), train=train, test=test)
    elif suffix == ".onnx":
        teacher = OnnxClassifier(_existing(spec), classes=len(class_names))
    elif suffix == ".joblib":
        teacher = _load_joblib(_existing(spec), class_names, trust=trust)
    elif ":" in spec:
        _, channels, length = train.shape
        classes = len(class_names)
        module = load_module(
            spec, weights=weights, channels=channels, classes=classes, length=length
        )
        teacher = TorchClassifier(module, classes=classes, name=spec)
    else:
        raise UsageError(_unknown(spec))
    return _checked(teacher, train[:_PROBED], len(class_names))


def _checked(teacher: Classifier, x: Floats, classes: int) -> Classifier:
    """Return the teacher once it has answered for real series; wrap one of probabilities."""
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
