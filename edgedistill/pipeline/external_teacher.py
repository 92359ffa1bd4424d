"""A teacher that a recipe brings: opened, checked, and recognized again when it has changed.

A hash of its files says that none of them changed; it does not say that the teacher is the same.
A factory may read any file, and an estimator runs the code of installed packages. So a key also
holds what the teacher returns for a fixed probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from edgedistill.data import Prepared, Split
from edgedistill.data.splits import stratified_series
from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import fingerprint, sha256
from edgedistill.pipeline.stages.data import read_source
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import StudentSection, TeacherSection
from edgedistill.saliency.classifier import Classifier
from edgedistill.teachers.class_order import check_class_order
from edgedistill.teachers.classifier import NoteCallback, ignore_notes
from edgedistill.teachers.row_order import check_row_order

_PROBE_SERIES = 16  # real ones; as many perturbed copies
_PROBE_SUMS = 8
_PROBE_STEPS = 1024  # of a sum's size, between two values that count as different
_ORDER_SERIES = 1000  # of each split, at most

# What a probe returned, by data set: each command prepares its own, and computes a key several
# times.
_probed: WeakKeyDictionary[Prepared, dict[str, list[int]]] = WeakKeyDictionary()


def load_external_teacher(
    recipe: Recipe, data: Prepared, on_note: NoteCallback = ignore_notes
) -> Classifier:
    """Return the teacher that a recipe brings.

    Raises:
        ModelError: it brings none, or one that cannot be read or does not fit the data.
        UsageError: it names no teacher.
    """
    from edgedistill.teachers.loader import load as load_teacher  # loads torch, as below

    section = recipe.teacher
    if section.source is None:
        raise ModelError("The recipe brings no teacher. Set teacher.source, or train one.")
    train, test = data.train.x, None
    if Path(section.source).suffix.lower() == ".npz":  # rows in the order of the data files
        source, apply = read_source(recipe), data.preprocessing.apply
        train = apply(source.train.series)
        test = None if source.test is None else apply(source.test.series)
    return load_teacher(
        section.source,
        class_names=data.class_names,
        train=train,
        test=test,
        weights=None if section.weights is None else Path(section.weights),
        arguments=section.arguments,
        trust=section.trust,
        columns=section.class_names,
        on_note=on_note,
    )


def check_columns(
    teacher: Classifier,
    splits: Sequence[Split],
    class_names: Sequence[str],
    *,
    setting: str | None = "teacher.class_names",
    allows_chance: bool = False,
    on_note: NoteCallback = ignore_notes,
) -> None:
    """Refuse a teacher whose columns stand in another order than the classes.

    An estimator that names its classes has no order to check.

    Args:
        teacher: teacher as it was opened, without names of its columns.
        splits: series to check it on, at most 1,000 of each.
        class_names: class names, in the order of the labels.
        setting: recipe key that names its columns; None where there is none.
        allows_chance: whether a teacher that is no better than chance passes.
        on_note: reports another order that is likely, but not sure.

    Raises:
        ModelError: another order fits clearly better, or the teacher is no better than chance.
    """
    from edgedistill.teachers.estimator import EstimatorClassifier

    if isinstance(teacher, EstimatorClassifier) and teacher.named_order is not None:
        return
    rows = [np.linspace(0, len(s.y) - 1, min(len(s.y), _ORDER_SERIES)).astype(int) for s in splits]
    logits = [teacher.logits(s.x[kept]) for s, kept in zip(splits, rows, strict=True)]
    labels = [s.y[kept] for s, kept in zip(splits, rows, strict=True)]
    check_class_order(
        teacher.name,
        np.concatenate(logits),
        np.concatenate(labels),
        class_names,
        setting=setting,
        allows_chance=allows_chance,
        on_note=on_note,
    )


def check_rows(
    teacher: Classifier,
    data: Prepared,
    *,
    setting: str | None = "teacher.class_names",
    on_note: NoteCallback = ignore_notes,
) -> None:
    """Refuse a file of logits whose rows stand in another order than the series.

    Args:
        teacher: teacher as it was opened; one that is no file of logits has no rows.
        data: series of the file, split.
        setting: recipe key with which the rows are taken as they are; None where there is none.
        on_note: reports rows that are no better than chance, but too few to refuse.

    Raises:
        ModelError: the rows of the training or the test series stand in another order.
    """
    from edgedistill.teachers.columns import unwrapped
    from edgedistill.teachers.table import TableClassifier

    if not isinstance(unwrapped(teacher), TableClassifier):
        return
    fitted = (data.train, data.validation)
    x, y = (np.concatenate([getattr(s, axis) for s in fitted]) for axis in ("x", "y"))
    parts = {
        "training": (teacher.logits(x), y),
        "test": (teacher.logits(data.test.x), data.test.y),
    }
    check_row_order(teacher.name, parts, data.class_names, setting=setting, on_note=on_note)


def external_hashes(section: TeacherSection | StudentSection) -> list[Any]:
    """Return the hashes of a network's files: weights, tensors in other files, source."""
    if section.source is None and section.weights is None:
        return []
    from edgedistill.inspection import external_data
    from edgedistill.teachers.factory import source_hashes

    named = [Path(name) for name in (section.source, section.weights) if name is not None]
    files = [path for path in named if path.is_file()]
    files += [other for path in files for other in external_data(path) if other.is_file()]
    hashes: list[Any] = [sha256(path) for path in files]
    sources = source_hashes(section.source or "")
    return [*hashes, sources] if sources else hashes


def probe_outputs(recipe: Recipe, data: Prepared) -> list[int]:
    """Return what an external teacher gives for a fixed probe, as a few rounded numbers.

    The probe are training series, and copies of them without their middle third. The first number
    is the power of two below the size of all logits together, each other one a
    sum of all logits under fixed signs, in steps of 1/1024 of its usual size: another order of the
    columns, or a change of the logits of a thousandth, changes some, while what another number of
    threads or another CPU does to a logit, a millionth, practically never crosses a step. Where it
    does, stages are made again.
    """
    key = fingerprint([recipe.teacher.model_dump(mode="json"), external_hashes(recipe.teacher)])
    outputs = _probed.setdefault(data, {})
    if key not in outputs:
        teacher = load_external_teacher(recipe, data)
        outputs[key] = _rounded_sums(teacher.logits(_probe(data, perturbs=teacher.can_explain)))
    return outputs[key]


def _probe(data: Prepared, *, perturbs: bool) -> Floats:
    series = stratified_series(data.train, _PROBE_SERIES, 0)
    if not perturbs:
        return series
    copies = series.copy()
    middle = slice(data.length // 3, 2 * data.length // 3 + 1)
    copies[..., middle] = series.mean(axis=2, keepdims=True)
    return np.concatenate([series, copies])


def _rounded_sums(logits: Floats) -> list[int]:
    values = logits.astype(np.float64).ravel()
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_PROBE_SUMS, len(values)))
    size = float(np.sqrt((values**2).sum()))
    # A power of two, because a size that is computed anew each time would move all steps.
    exponent = int(np.floor(np.log2(size))) if size else 0
    sums: list[int] = np.rint(signs @ values / 2.0**exponent * _PROBE_STEPS).astype(int).tolist()
    return [exponent, *sums]
