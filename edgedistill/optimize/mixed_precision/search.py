"""Mixed precision under the contract: the fewest nodes in float32 with which INT8 keeps it.

A node's sensitivity is what the contract measures, not the error of a tensor: how much nearer to
the teacher the model comes, in classes, probabilities and saliency, when that node alone stays
float in a model that is 8-bit elsewhere. The other way round, one 8-bit node in a float model,
would tell what a node loses by itself; but errors meet, and the first question of the search is
what to give back in the model that lost them. Each of these measurements is a candidate already.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx

from edgedistill.errors import UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import Floats
from edgedistill.io.progress import ProgressCallback
from edgedistill.optimize.execution import check_series
from edgedistill.optimize.mixed_precision.candidates import (
    Candidate,
    CandidateLog,
    Setting,
    log_key,
)
from edgedistill.optimize.passes.graph import fold, load, strip
from edgedistill.optimize.quantization.calibration import (
    METHODS,
    Histogram,
    Method,
    Observe,
    observe,
    ranges,
)
from edgedistill.optimize.quantization.int8 import quantize
from edgedistill.optimize.quantization.nodes import is_static, nodes

Measure = Callable[[Path], Mapping[str, Estimate]]

_NEEDED = ("agreement", "kl", "latency_p50_ms")
_AS_GOOD = {"size": 1.01, "latency": 1.05}  # so much larger or slower is no reason against a model


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What keeping one node float changes in an otherwise 8-bit model."""

    node: str
    agreement: float  # share of series, more is nearer to the teacher
    kl: float  # nats, less is nearer
    saliency_pearson: float | None
    loss: float  # the sum that nodes are ordered by; negative: the node does harm in 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """All that a search found."""

    reference: Candidate  # the float model
    candidates: tuple[Candidate, ...]  # every INT8 model that was measured
    sensitivity: tuple[Sensitivity, ...]  # most sensitive first
    chosen: Candidate  # what keeps the contract; if none does, what comes nearest
    terms: Contract  # what was asked of them
    complete: bool  # False: the time was spent before all was tried
    model: onnx.ModelProto  # of `chosen`

    @property
    def all_int8(self) -> Candidate:
        """Return the nearest model with all nodes in 8 bits."""
        plain = [candidate for candidate in self.candidates if not candidate.setting.keep]
        return min(plain, key=lambda c: rank(c, self.terms))

    @property
    def is_kept(self) -> bool:
        """Return whether the chosen model keeps what was asked."""
        return self.chosen.keeps(self.terms)


def search(
    model: Path,
    calibration: Floats,
    measure: Measure,
    terms: Contract,
    *,
    folder: Path,
    context: str = "",
    methods: Sequence[Method] = METHODS,
    prefer: Literal["size", "latency"] = "size",
    agreement_loss: float | None = None,
    saliency_loss: float | None = None,
    budget_s: float | None = None,
    observe: Observe = observe,
    on_progress: ProgressCallback = lambda *_: None,
) -> Search:
    """Find the smallest, or fastest, INT8 model that keeps the contract.

    First every way to read ranges, with nothing in float; from the best of them the sensitivity of
    every node; then nodes become float, the most sensitive first, until the contract is kept; last,
    each of those is tried in 8 bits again. Each candidate is a file that was measured.

    Args:
        model: the exported student.
        calibration: series of the training set, (N, C, T).
        measure: of a model file, all that the contract names, on held-out series against the
            teacher; at least agreement, kl and latency_p50_ms, and saliency_pearson if there are
            maps.
        terms: the contract.
        folder: for the journal from which a killed search goes on.
        context: of what `measure` depends on; journals of others are not taken up.
        methods: ways to read ranges.
        prefer: what counts among models that keep the contract.
        agreement_loss: if there is one, agreement may also not fall further below the float
            model's.
        saliency_loss: the same for the correlation of maps.
        budget_s: seconds after which no new candidate is measured; the float model and the first
            INT8 model always are. None has no end.
        observe: collects what the model's values are on the series, or knows it.
        on_progress: progress.

    Raises:
        ModelError: the file is no model, or has nothing that can be quantized.
        UsageError: `measure` does not give what is needed.
    """
    check_series(calibration, "INT8 calibration")
    journal = CandidateLog(folder, log_key(model, calibration, context))
    folded = strip(fold(load(model)))
    bench = _CandidateEvaluator(
        folded, observe(folded, calibration), measure, journal, budget_s, on_progress
    )
    reference = bench.run(Setting(None))
    terms = relative_contract(terms, reference, agreement=agreement_loss, saliency=saliency_loss)
    complete = True
    sensitivity: list[Sensitivity] = []
    try:
        ways = methods if is_static(folded) else methods[:1]  # an LSTM finds its ranges as it runs
        base = min((bench.run(Setting(way)) for way in ways), key=lambda c: rank(c, terms))
        sensitivity.extend(bench.sensitivity(base, node) for node in bench.nodes)
        sensitivity.sort(key=lambda found: found.loss)
        _mix(bench, base.setting, [found.node for found in sensitivity], terms)
    except _TimeIsUp:
        complete = False
    bench.report_end()
    candidates = [c for c in bench.evaluated if c.setting.method is not None]
    chosen = select(candidates, terms, prefer)
    return Search(
        reference=reference,
        candidates=tuple(candidates),
        sensitivity=tuple(sorted(sensitivity, key=lambda found: found.loss)),
        chosen=chosen,
        terms=terms,
        complete=complete,
        model=bench.build(chosen.setting),
    )


def relative_contract(
    terms: Contract, reference: Candidate, *, agreement: float | None, saliency: float | None
) -> Contract:
    """Return the contract with thresholds no further below a model than these losses."""
    found = reference.estimates
    limits = {}
    if agreement is not None:
        limits["min_agreement"] = found["agreement"].value - agreement
    if saliency is not None and "saliency_pearson" in found:
        limits["min_saliency_pearson"] = found["saliency_pearson"].value - saliency
    before = {name: getattr(terms, name) for name in limits}
    tighter = {n: v if before[n] is None else max(v, before[n]) for n, v in limits.items()}
    return replace(terms, **tighter)


def select(
    candidates: Sequence[Candidate], terms: Contract, prefer: Literal["size", "latency"]
) -> Candidate:
    """Return what to take: of those that keep the contract and are about smallest, the nearest.

    A per cent of the size, or five of the time, is no reason against a model that is nearer to
    the teacher. If none keeps the contract, what misses it least is taken.
    """
    keeping = [candidate for candidate in candidates if candidate.keeps(terms)]
    if not keeping:
        return min(candidates, key=lambda c: rank(c, terms))

    def cost(candidate: Candidate) -> float:
        return candidate.size_bytes if prefer == "size" else candidate.latency.value

    limit = _AS_GOOD[prefer] * min(cost(candidate) for candidate in keeping)
    return min((c for c in keeping if cost(c) <= limit), key=lambda c: (c.loss, cost(c)))


def rank(candidate: Candidate, terms: Contract) -> tuple[float, float]:
    """Return what is missing to the contract, and to the teacher; less is better."""
    return candidate.shortfall(terms), candidate.loss


class _TimeIsUp(Exception):
    """The budget is spent; what was measured counts."""


class _CandidateEvaluator:
    """Builds candidates and measures each once, within the time there is."""

    def __init__(
        self,
        folded: onnx.ModelProto,
        observed: dict[str, Histogram],
        measure: Measure,
        log: CandidateLog,
        budget_s: float | None,
        on_progress: ProgressCallback,
    ) -> None:
        self.nodes = nodes(folded)
        self.evaluated: list[Candidate] = []
        self._folded, self._measure, self._log, self._on_progress = (
            folded,
            measure,
            log,
            on_progress,
        )
        self._observed = observed
        self._end = None if budget_s is None else time.monotonic() + budget_s
        self._steps = 1 + len(METHODS) + 3 * len(self.nodes)  # at most

    def run(self, setting: Setting) -> Candidate:
        """Return a measured candidate, from the journal if it is there."""
        known = self._log.candidates.get(setting)
        if known is None:
            if len(self.evaluated) > 1 and self._end is not None and time.monotonic() > self._end:
                raise _TimeIsUp
            known = Candidate(setting, self._measured(self.build(setting)))
            self._log.add(known)
        if known not in self.evaluated:
            self.evaluated.append(known)
            self._on_progress("search", min(len(self.evaluated), self._steps - 1), self._steps)
        return known

    def sensitivity(self, base: Candidate, node: str) -> Sensitivity:
        """Return what one node in float changes."""
        alone = len(self.nodes) == 1  # then nothing is left in 8 bits
        found = self.run(Setting(None) if alone else replace(base.setting, keep=frozenset({node})))
        change = {
            name: found.estimates[name].value - before.value
            for name, before in base.estimates.items()
        }
        return Sensitivity(
            node=node,
            agreement=change["agreement"],
            kl=change["kl"],
            saliency_pearson=change.get("saliency_pearson"),
            loss=found.loss - base.loss,
        )

    def build(self, setting: Setting) -> onnx.ModelProto:
        """Return the model of a setting."""
        if setting.method is None:
            return self._folded
        return quantize(self._folded, ranges(self._observed, setting.method), keep=setting.keep)

    def report_end(self) -> None:
        """Tell that the search is over."""
        self._on_progress("search", self._steps, self._steps)

    def _measured(self, model: onnx.ModelProto) -> dict[str, Estimate]:
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
            path = Path(folder) / "candidate.onnx"
            path.write_bytes(model.SerializeToString())
            size = float(path.stat().st_size)
            found = {**self._measure(path), "size_bytes": Estimate(size, size, size)}
        missing = [name for name in _NEEDED if name not in found]
        if missing:
            raise UsageError(
                f"A search needs {', '.join(missing)} of every candidate, and measuring gave "
                f"{', '.join(sorted(found))}. Measure that too."
            )
        return found


def _mix(
    evaluator: _CandidateEvaluator, base: Setting, order: Sequence[str], terms: Contract
) -> None:
    """Give nodes back until the contract is kept, then see which of them were not needed."""
    for keep in _growing(order):
        if evaluator.run(replace(base, keep=keep)).keeps(terms):
            break
    else:
        return
    for node in reversed([name for name in order if name in keep]):
        fewer = keep - {node}
        if evaluator.run(replace(base, keep=fewer)).keeps(terms):
            keep = fewer


def _growing(order: Sequence[str]) -> Iterator[frozenset[str]]:
    """Yield the sets from none to all but one of the nodes."""
    for number in range(len(order)):
        yield frozenset(order[:number])
