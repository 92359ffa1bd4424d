"""Open the teacher that a recipe names: a file, a factory, an estimator or logits."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import joblib
import numpy as np

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.arrays import Floats
from edgedistill.models.spec import Argument
from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.classifier import (
    NoteCallback,
    SoftmaxClassifier,
    check_series,
    ignore_notes,
    output_kind,
    single_kind,
)
from edgedistill.teachers.columns import (
    ReorderedClassifier,
    SingleLogitClassifier,
    column_order,
)
from edgedistill.teachers.estimator import EstimatorClassifier
from edgedistill.teachers.factory import load_module
from edgedistill.teachers.onnx import OnnxClassifier
from edgedistill.teachers.table import read_table
from edgedistill.teachers.torch import TorchClassifier, narrow_to_logits

_TABLE = ".npz"
_PROBED = 16  # series that a teacher is tried on before it gets the rest
_RANDOM = 1e-3  # of the largest logit: between two runs on the same series no rounding errors
_OTHER_BATCH = 0.02  # likewise, between two batches; dynamic 8 bits have scales of the batch
_ROUNDING = 1e-5  # of sums that cancel to nearly zero in all logits
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
    arguments: Mapping[str, Argument] | None = None,
    trust: bool = False,
    columns: Sequence[str] | None = None,
    on_note: NoteCallback = ignore_notes,
) -> Classifier:
    """Return the teacher that `spec` names, tried on real series.

    Args:
        spec: `model.onnx`, `package.module:factory`, `estimator.joblib`, or `logits.npz`.
        class_names: class names of the data set, in the order of the labels 0..K-1.
        train: all training series, (N, C, T), preprocessed, in the order of their file (only a file
            of logits needs all, and the order).
        test: all test series, likewise.
        weights: path of the safetensors for the module that the factory makes.
        arguments: what the factory gets besides the sizes of the data.
        trust: whether a joblib file may run the code it contains.
        columns: class names of the teacher, in the order of its columns; None: that of
            `class_names`, or an estimator's own.
        on_note: reports how an output or a file was understood, where there was a choice.

    Raises:
        UsageError: no such kind of teacher, `weights` beside a file, joblib without trust, or
            `columns` other than the classes.
        ModelError: it cannot be read, or gives other than K finite logits for these series.
    """
    check_series(train)
    if weights is not None and ":" not in spec:
        raise UsageError(f"Weights go with a factory; {spec} brings its own. Leave out {weights}.")
    if arguments and ":" not in spec:
        raise UsageError(
            f"Arguments go with a factory, and {spec} is none. Leave out {', '.join(arguments)}."
        )
    order = None if columns is None else column_order(columns, class_names)
    make = _maker(spec, class_names, train, test, weights, arguments, trust, on_note)
    second = (columns or class_names)[-1]
    tried = train if Path(spec).suffix.lower() == _TABLE else _probe(train)
    teacher = _with_columns(make, tried, len(class_names), second, on_note)
    return teacher if order is None or columns is None else _reordered(teacher, order, columns)


def _maker(
    spec: str,
    class_names: Sequence[str],
    train: Floats,
    test: Floats | None,
    weights: Path | None,
    arguments: Mapping[str, Argument] | None,
    trust: bool,
    on_note: NoteCallback,
) -> Callable[[int], Classifier]:
    """Return a function from a number of columns to the teacher; it raises on a wrong one."""
    suffix = Path(spec).suffix.lower()
    if suffix == _TABLE:
        table = read_table(_existing(spec), train=train, test=test, on_note=on_note)
        return lambda _: table
    if suffix == ".onnx":
        return lambda columns: _load_onnx(_existing(spec), columns, on_note)
    if suffix == ".joblib":
        estimator = _load_joblib(_existing(spec), class_names, trust=trust)
        return lambda _: estimator
    if ":" not in spec:
        raise UsageError(_unknown(spec))
    classes, (_, channels, length) = len(class_names), train.shape
    sizes = {"channels": channels, "classes": classes, "length": length}
    module = load_module(spec, weights=weights, arguments=arguments, on_note=on_note, **sizes)
    module = narrow_to_logits(module, _probe(train), classes, spec, on_note)
    return lambda columns: TorchClassifier(module, classes=columns, name=spec)


def _probe(train: Floats) -> Floats:
    """Return series from all of a file, which may be sorted by class."""
    chosen: Floats = train[np.linspace(0, len(train) - 1, min(len(train), _PROBED)).astype(int)]
    return chosen


def _with_columns(
    make: Callable[[int], Classifier],
    x: Floats,
    classes: int,
    second: str,
    on_note: NoteCallback,
) -> Classifier:
    """Return the teacher once it has run on real series; of two classes, one column will do."""
    teacher = make(classes)
    try:
        outputs = _outputs(teacher, x, classes)
    except ModelError:
        single = _single_logit(make(1), x, second, on_note) if classes == 2 else None
        if single is None:
            raise
        return single
    if output_kind(outputs, teacher.name) == "probabilities":
        on_note(f"{teacher.name} gives probabilities p; its logits are log(p + 1e-6).")
        return SoftmaxClassifier(teacher)
    if single_kind(outputs) == "probabilities":
        on_note(f"The values of {teacher.name} lie in 0 to 1; they were taken for logits.")
    return teacher


def _single_logit(
    teacher: Classifier, x: Floats, second: str, on_note: NoteCallback
) -> Classifier | None:
    """Return a binary classifier of one column; None where it does not give one."""
    try:
        outputs = _outputs(teacher, x, 1)
    except ModelError:
        return None
    is_probability = single_kind(outputs) == "probabilities"
    kind = "probability" if is_probability else "logit"
    on_note(f"The one column of {teacher.name} was taken for the {kind} of the class {second!r}.")
    return SingleLogitClassifier(teacher, probabilities=is_probability)


def _outputs(teacher: Classifier, x: Floats, classes: int) -> Floats:
    """Return the outputs for real series, which must be the same each time, in any batch.

    Raises:
        ModelError: they are not, or not those of `classes` columns.
    """
    if teacher.classes != classes:
        raise ModelError(
            f"{teacher.name} holds logits of {teacher.classes} classes; the data set has "
            f"{classes}. Make it from this data set."
        )
    outputs, again = teacher.logits(x), teacher.logits(x)
    difference = float(np.abs(outputs - again).max())
    if difference > _RANDOM * float(np.abs(outputs).max()):
        raise ModelError(
            f"The teacher {teacher.name} gives other logits for the same series when it is run "
            f"again (up to {difference:.3g} apart): something in it is random, such as an initial "
            "state from torch.randn, or a dropout that stays on in evaluation. Make it the same "
            "each time, with zeros or a seed."
        )
    _check_batches(teacher, x, outputs)
    return outputs


def _check_batches(teacher: Classifier, x: Floats, outputs: Floats) -> None:
    """Refuse a teacher whose outputs for a series, (N, K), depend on what is run with it."""
    parts = [teacher.logits(part) for part in (x[:1], x[1:]) if len(part)]
    difference = float(np.abs(outputs - np.concatenate(parts)).max())
    if difference > _OTHER_BATCH * float(np.abs(outputs).max()) + _ROUNDING:
        raise ModelError(
            f"The teacher {teacher.name} gives other logits for the same series when other series "
            f"are run with it (up to {difference:.3g} apart): something in it is computed over the "
            "batch, such as a batch norm in training mode, or a scaling by the largest value of "
            "all series. Compute it of each series alone, or with constants of the training."
        )


def _reordered(teacher: Classifier, order: list[int], columns: Sequence[str]) -> Classifier:
    if isinstance(teacher, EstimatorClassifier) and teacher.named_order is not None:
        if order == teacher.named_order:
            return teacher
        raise UsageError(
            f"teacher.class_names lists {', '.join(columns)}, but {teacher.name} names its classes "
            "itself, in another order, and its columns follow that. Leave teacher.class_names out."
        )
    return ReorderedClassifier(teacher, order) if order != sorted(order) else teacher


def _load_onnx(path: Path, columns: int, on_note: NoteCallback) -> OnnxClassifier:
    teacher = OnnxClassifier(path, classes=columns)
    first, *others = teacher.outputs
    if others:
        on_note(f"Of the outputs of {path.name}, {first} is the logits, not {', '.join(others)}.")
    return teacher


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
