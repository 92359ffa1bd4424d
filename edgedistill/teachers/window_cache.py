"""Cache of a teacher's logits of perturbed series, on disk.

Temporal saliency distillation as published runs the teacher at every step on windows drawn
anew. The cache holds many windows of each series with the teacher's logits of them, and a
step draws among these. It depends on neither the student nor the loss, so all students of
a teacher share one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgedistill_kernels as kernels
import numpy as np
from numpy.typing import NDArray

from edgedistill.errors import ConfigError, DataError
from edgedistill.io.arrays import Doubles, Floats, Ints
from edgedistill.io.files import fingerprint, read_json, write_json
from edgedistill.saliency.classifier import (
    MEMORY_BYTES,
    BatchSizer,
    Classifier,
    WindowBatch,
    batched_logits,
)
from edgedistill.saliency.occlusion import BATCH_COPIES
from edgedistill.saliency.perturbation import (
    PerturbationPlan,
    donor_patches,
    draw_donors,
    draw_starts,
    start_count,
)
from edgedistill.teachers.classifier import check_logits

FACTS = "bank.json"
UNIFORM = 0.5  # share of the draws that ignore the map, so that every window is drawn some time
_ARRAYS = ("starts", "donors", "logits", "clean")
_INDEX, _LOGIT = np.dtype(np.int32), np.dtype(np.float32)
_NPY: Any = np.lib.format  # NumPy's stubs lack the types of its functions
_HEADER_BYTES = 128  # of an .npy file
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class WindowCache:
    """Windows of M series, and a teacher's logits with and without them.

    The arrays may be maps of files that are larger than memory.
    """

    starts: NDArray[np.int32]  # (M, B)
    donors: NDArray[np.int32]  # whose stretch stands in the window, rows of the series, (M, B)
    logits: Floats  # of the perturbed copies, (M, B, K)
    clean: Floats  # of the series, (M, K)
    width: int  # w, steps

    def pick(self, rows: Ints, windows: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Draw windows of some rows, (N,), without replacement.

        Returns:
            Indices of the arrays, (N, 1) and (N, W).
        """
        order = rng.random((len(rows), self.starts.shape[1])).argsort(axis=1)
        return rows[:, None], order[:, :windows]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCacheSpec:
    """Which windows of which series a cache holds; equal specs draw equal windows."""

    series: Floats  # training and validation series, (M, C, T)
    labels: Ints  # (M,)
    donor_count: int  # of the first rows, the donors; validation series are none
    width: int  # w, steps
    number: int  # B, windows a series
    start_weights: Doubles | None = (
        None  # of the starts, (M, T - w + 1); None: all alike and distinct
    )
    seed: int = 0

    def key(self) -> str:
        """Return a hash of the spec."""
        drawn = [] if self.start_weights is None else [self.start_weights]
        parts: list[NDArray[Any]] = [self.series, self.labels, *drawn]
        hashes = [hashlib.sha256(part.tobytes()).hexdigest() for part in parts]
        return fingerprint(
            [*hashes, self.series.shape, self.donor_count, self.width, self.number, self.seed]
        )

    def draw(self, rows: slice) -> tuple[Ints, Ints]:
        """Return starts and donors for some rows, (n, B) each.

        Raises:
            DataError: the window does not fit the series, or no donor is of another class.
        """
        rng = np.random.default_rng((self.seed, rows.start))
        labels = self.labels[rows]
        length = self.series.shape[2]
        if self.start_weights is None:
            starts = draw_starts(len(labels), self.number, length=length, width=self.width, rng=rng)
        else:
            starts = draw_weighted_starts(self.start_weights[rows], self.number, rng)
        return starts, draw_donors(labels, self.labels[: self.donor_count], self.number, rng)


def start_probabilities(kl: Floats, plan: PerturbationPlan, width: int) -> Doubles:
    """Return the probability of each start for a window of each series.

    Half of it is the same for all starts; the other half is in proportion to the map,
    interpolated linearly from the middles of the plan's windows to those of the drawn windows,
    and constant beyond the outermost middles. Our choice.

    Args:
        kl: maps of the series, never negative, (N, W); all alike where a map is 0 everywhere.
        plan: perturbation plan of the maps.
        width: w, steps of the drawn windows.

    Returns:
        Probabilities, (N, T - w + 1); each row sums to 1.

    Raises:
        DataError: the window does not fit the series.
    """
    number = start_count(plan.length, width)
    known, asked = plan.starts + plan.width / 2, np.arange(number) + width / 2
    scores = np.stack([np.interp(asked, known, row) for row in kl])
    total = scores.sum(axis=1, keepdims=True)
    shares = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / number)
    found: Doubles = UNIFORM / number + (1 - UNIFORM) * shares
    return found


def draw_weighted_starts(start_weights: Doubles, windows: int, rng: np.random.Generator) -> Ints:
    """Draw window starts for each sample, with replacement, by their probabilities.

    Args:
        start_weights: probabilities of the starts, (N, places).
        windows: W, draws for each sample.

    Returns:
        (N, W).
    """
    steps = start_weights.cumsum(axis=1)
    drawn = rng.random((len(start_weights), windows)) * steps[:, -1:]  # which rounds to beside 1
    pairs = zip(steps, drawn, strict=True)
    found = np.stack([np.searchsorted(step, at, side="right") for step, at in pairs])
    starts: Ints = np.minimum(found, start_weights.shape[1] - 1)
    return starts


def affordable_windows(
    limit_mib: float, *, requested: int, minimum: int, series: int, classes: int
) -> int:
    """Return the number of windows of each series that a bound on disk space allows.

    Args:
        limit_mib: bound on the size of the cache, MiB.
        requested: wanted windows of each series.
        minimum: windows of each series that a step draws, so that fewer are of no use.
        series: M, number of series.
        classes: K, number of classes.

    Raises:
        ConfigError: the bound allows fewer than `minimum`.
    """
    window = series * (2 * _INDEX.itemsize + classes * _LOGIT.itemsize)  # bytes
    beside = series * classes * _LOGIT.itemsize + len(_ARRAYS) * _HEADER_BYTES
    number = min(requested, int((limit_mib * _MIB - beside) // window))
    if number < minimum:
        needed = math.ceil(100 * (minimum * window + beside) / _MIB) / 100
        raise ConfigError(
            f"bank_mib is {limit_mib:g}, but {minimum} windows of each of {series} series take "
            f"{needed:g} MiB. Raise bank_mib, lower windows, or set bank to 0 to ask the teacher "
            "at every step."
        )
    return number


def write_window_cache(
    folder: Path,
    teacher: Classifier,
    plan: WindowCacheSpec,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute a teacher's logits of every window of a spec and write them into an existing folder.

    Args:
        folder: existing folder for the .npy files.
        teacher: classifier that takes any series.
        plan: spec of the windows.
        on_progress: callback with the number of finished series, and M.

    Raises:
        DataError: the windows cannot be drawn.
        MachineError: the teacher runs out of memory on a single copy.
        ModelError: the teacher gives something other than K finite logits a copy.
    """
    count, group = len(plan.series), max(1, BATCH_COPIES // plan.number)
    shape = count, plan.number
    batch = _call_batch(teacher, plan)
    clean = teacher.logits(plan.series)
    np.save(folder / "clean.npy", clean, allow_pickle=False)
    with (
        _npy_writer(folder / "starts.npy", _INDEX, shape) as add_starts,
        _npy_writer(folder / "donors.npy", _INDEX, shape) as add_donors,
        _npy_writer(folder / "logits.npy", _LOGIT, (*shape, teacher.classes)) as add_logits,
    ):
        for first in range(0, count, group):
            rows = slice(first, min(first + group, count))
            starts, donors = plan.draw(rows)
            add_starts(starts)
            add_donors(donors)
            add_logits(_copy_logits(teacher, plan, rows, starts, donors, clean[rows], batch))
            if on_progress is not None:
                on_progress(rows.stop, count)
    write_json(folder / FACTS, {"width": plan.width})


def open_window_cache(folder: Path) -> WindowCache:
    """Open the cache of a folder that `write_window_cache` filled, its arrays mapped, not read.

    Raises:
        DataError: the folder does not hold a whole cache.
    """
    try:
        starts, donors, logits, clean = (
            np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
        )
        cache = WindowCache(starts, donors, logits, clean, int(read_json(folder / FACTS)["width"]))
        _check(cache)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} does not hold a bank of a teacher's answers ({error}). Delete the folder; "
            "it is made anew."
        ) from error
    return cache


def _check(cache: WindowCache) -> None:
    kinds = [array.dtype for array in (cache.starts, cache.donors, cache.logits, cache.clean)]
    if kinds != [_INDEX, _INDEX, _LOGIT, _LOGIT]:
        raise ValueError(f"arrays of {', '.join(map(str, kinds))}")
    shapes = cache.starts.shape, cache.donors.shape, cache.logits.shape[:2]
    if len(set(shapes)) > 1 or cache.clean.shape != (len(cache.starts), *cache.logits.shape[2:]):
        raise ValueError(f"arrays of shapes {shapes} beside clean logits {cache.clean.shape}")


@contextmanager
def _npy_writer(
    path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> Iterator[Callable[[NDArray[np.generic]], None]]:
    """Yield a function that appends rows to an .npy file of a fixed shape.

    Written through a memory map, a full disk would end the process without a message.
    """
    header = {
        "descr": _NPY.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    with path.open("wb") as stream:
        _NPY.write_array_header_1_0(stream, header)

        def add(rows: NDArray[np.generic]) -> None:
            stream.write(rows.astype(dtype).tobytes())

        yield add


def _call_batch(teacher: Classifier, plan: WindowCacheSpec) -> BatchSizer:
    """Return the size of one call: in patches where changes are computed, else in copies."""
    _, channels, length = plan.series.shape
    step_bytes = channels * plan.series.itemsize
    if teacher.changes is not None:
        return BatchSizer(max(BATCH_COPIES, plan.number), step_bytes * plan.width, MEMORY_BYTES)
    return BatchSizer(BATCH_COPIES, step_bytes * (length + plan.width), MEMORY_BYTES)


def _copy_logits(
    teacher: Classifier,
    plan: WindowCacheSpec,
    rows: slice,
    starts: Ints,
    donors: Ints,
    clean: Floats,
    batch: BatchSizer,
) -> Floats:
    """Return the teacher's logits for all copies of some rows, (n, B, K)."""
    series = plan.series[rows]

    def logits(piece: WindowBatch) -> Floats:
        where = piece.rows, piece.windows
        patches = donor_patches(plan.series, donors[where], starts[where], plan.width)
        return _window_logits(
            teacher, series[piece.rows], clean[piece.rows], starts[where], patches
        )

    found = batched_logits(logits, len(series), plan.number, batch)
    flat = found.reshape(math.prod(starts.shape), -1)
    check_logits(flat, name=teacher.name, count=len(flat), classes=teacher.classes)
    return found


def _window_logits(
    teacher: Classifier, series: Floats, clean: Floats, starts: Ints, patches: Floats
) -> Floats:
    """Return the logits of n series with m windows each, (n, m, K)."""
    if teacher.changes is not None:
        changed: Floats = clean[:, None] + teacher.changes(series, starts, patches)
        return changed
    copies = kernels.perturb(series, starts, patches)  # (n, m, C, T)
    return teacher.logits(copies.reshape(-1, *series.shape[1:])).reshape(*starts.shape, -1)
