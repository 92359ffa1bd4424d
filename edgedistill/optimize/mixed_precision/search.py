"""Mixed precision under the contract: the fewest nodes in float32 with which INT8 keeps it.

A node's sensitivity is what the contract measures, not the error of a tensor: how much nearer to
the teacher the model comes, in classes, probabilities and saliency, when that node alone stays
float in a model that is 8-bit elsewhere. The reverse, one 8-bit node in a float model, would
measure the loss of that node by itself; but errors add up, and the search starts from the model
that has all of them. Each of these measurements is a candidate already.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from edgedistill.errors import UsageError
from edgedistill.evaluation import preference
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.evaluation.preference import Preference
from edgedistill.io.arrays import Floats
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.execution import check_series
from edgedistill.optimize.mixed_precision.candidates import (
    Candidate,
    CandidateLog,
    Setting,
    log_key,
    pareto_front,
)
from edgedistill.optimize.passes.fold import fold
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
from edgedistill.optimize.student_file import load_student

# Evaluates a model file on held-out series against the teacher: all that the contract names, at
# least agreement, kl and latency_p50_ms, and saliency_pearson if there are maps.
Measure = Callable[[Path], Mapping[str, Estimate]]
_NEEDED = ("agreement", "kl", "latency_p50_ms")
_AS_SMALL = 1.01  # times a size: so much larger is no reason against a model


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """The settings of a search."""

    methods: tuple[Method, ...] = METHODS  # methods of calibration to try
    prefer: Preference = "balanced"  # what counts among models that keep the contract
    agreement_loss: float | None = None  # most that agreement may fall below the float model's
    saliency_loss: float | None = None  # the same for the correlation of maps
    # Seconds after which no new candidate is measured, None for no limit; the float model and the
    # first INT8 model always are.
    budget_s: float | None = None


_DEFAULTS = SearchOptions()


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The changes that one float node makes in an otherwise 8-bit model."""

    node: str
    agreement: float  # share of series, more is nearer to the teacher
    kl: float  # nats, less is nearer
    saliency_pearson: float | None
    loss: float  # the sum that nodes are ordered by; negative: the node does harm in 8 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The result of a search."""

    reference: Candidate  # the float model
    candidates: tuple[Candidate, ...]  # every INT8 model that was measured
    sensitivity: tuple[Sensitivity, ...]  # most sensitive first
    chosen: Candidate  # keeps the contract; if none does, the nearest to it
    terms: Contract  # contract that they were judged by
    complete: bool  # False: the time was spent before all was tried
    model: onnx.ModelProto  # of `chosen`

    @property
    def all_int8(self) -> Candidate:
        """Return the nearest model with all nodes in 8 bits."""
        plain = [candidate for candidate in self.candidates if not candidate.setting.keep]
        return min(plain, key=lambda c: rank(c, self.terms))

    @property
    def is_kept(self) -> bool:
        """Return whether the chosen model keeps the contract."""
        return self.chosen.keeps(self.terms)


def search(
    model: Path,
    calibration: Floats,
    measure: Measure,
    terms: Contract,
    *,
    folder: Path,
    context: str = "",
    options: SearchOptions = _DEFAULTS,
    observe: Observe = observe,
    on_progress: ProgressCallback = ignore_progress,
) -> Search:
    """Find the smallest, or fastest, INT8 model that keeps the contract.

    Args:
        model: path of the exported student.
        calibration: series of the training set, (N, C, T).
        measure: evaluates a file, see `Measure`.
        terms: contract to keep.
        folder: folder of the log from which a killed search resumes.
        context: hash of all that `measure` depends on; logs of another context are not used.
        options: settings of the search.
        observe: collects the histograms of the model's values, or returns cached ones.
        on_progress: progress callback.

    Raises:
        ModelError: the file is no model, or has nothing that can be quantized.
        UsageError: `measure` does not return all estimates that are needed.
    """
    check_series(calibration, "INT8 calibration")
    log = CandidateLog(folder, log_key(model, calibration, context))
    folded = fold(load_student(model, calibration).model)
    histograms = observe(folded, calibration)
    evaluator = _CandidateEvaluator(folded, histograms, measure, log, options.budget_s, on_progress)
    return _search(evaluator, terms, options)


def relative_contract(
    terms: Contract, reference: Candidate, *, agreement: float | None, saliency: float | None
) -> Contract:
    """Return the contract with thresholds no further below a model than these losses."""
    estimates = reference.estimates
    limits = {}
    if agreement is not None:
        limits["min_agreement"] = estimates["agreement"].value - agreement
    if saliency is not None and "saliency_pearson" in estimates:
        limits["min_saliency_pearson"] = estimates["saliency_pearson"].value - saliency
    before = {name: getattr(terms, name) for name in limits}
    tighter = {n: v if before[n] is None else max(v, before[n]) for n, v in limits.items()}
    return replace(terms, **tighter)


def select(candidates: Sequence[Candidate], terms: Contract, prefer: Preference) -> Candidate:
    """Choose, of those that keep the contract and are about smallest, the nearest to the teacher.

    A per cent of the size, or, if latency counts, five of the time, is no reason against a model
    that is nearer to the teacher. "balanced" is as "size" here, so that equal files give an equal
    choice: speed is weighed when one of all variants is chosen. If none keeps the contract, the one
    that misses it least is chosen.
    """
    keeping = [candidate for candidate in candidates if candidate.keeps(terms)]
    if not keeping:
        return min(candidates, key=lambda c: rank(c, terms))

    def cost(candidate: Candidate) -> float:
        return candidate.latency.value if prefer == "latency" else candidate.size_bytes

    tolerance = preference.AS_FAST if prefer == "latency" else _AS_SMALL
    limit = tolerance * min(cost(candidate) for candidate in keeping)
    return min((c for c in keeping if cost(c) <= limit), key=lambda c: (c.loss, cost(c)))


def rank(candidate: Candidate, terms: Contract) -> tuple[float, float]:
    """Return the distances from the contract and from the teacher; less is better."""
    return candidate.shortfall(terms), candidate.loss


def search_report(search: Search) -> dict[str, Any]:
    """Return the choice, all candidates, and the sensitivity of nodes, as plain values."""
    return {
        "complete": search.complete,
        "kept": search.is_kept,
        "contract": asdict(search.terms),
        "chosen": candidate_report(search.chosen, search),
        "float32": candidate_report(search.reference, search),
        "sensitivity": [asdict(each) for each in search.sensitivity],
        "front": [
            candidate_report(each, search)
            for each in pareto_front([search.reference, *search.candidates])
        ],
        "candidates": [candidate_report(each, search) for each in search.candidates],
    }


def candidate_report(candidate: Candidate, search: Search) -> dict[str, Any]:
    """Return the measures of a candidate, and the clauses that it breaks."""
    clauses = candidate.clauses(search.terms)
    return {
        **candidate.to_dict(),
        "kept": candidate.keeps(search.terms),
        "broken": [clause.name for clause in clauses if not clause.passed],
        "undecided": [clause.name for clause in clauses if not clause.decided],
    }


class _TimeIsUp(Exception):
    """The budget is spent; the measurements so far count."""


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
        self.nodes, self.is_static = nodes(folded), is_static(folded)
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
        """Return a measured candidate, from the log if it is there."""
        candidate = self._log.candidates.get(setting)
        if candidate is None:
            if len(self.evaluated) > 1 and self._end is not None and time.monotonic() > self._end:
                raise _TimeIsUp
            candidate = Candidate(setting, self._measured(self.build(setting)))
            self._log.add(candidate)
        if candidate not in self.evaluated:
            self.evaluated.append(candidate)
            self._on_progress("search", min(len(self.evaluated), self._steps - 1), self._steps)
        return candidate

    def sensitivity(self, base: Candidate, node: str) -> Sensitivity:
        """Measure the changes that one node in float makes."""
        alone = len(self.nodes) == 1  # then nothing is left in 8 bits
        kept = self.run(Setting(None) if alone else replace(base.setting, keep=frozenset({node})))
        change = {
            name: kept.estimates[name].value - before.value
            for name, before in base.estimates.items()
        }
        return Sensitivity(
            node=node,
            agreement=change["agreement"],
            kl=change["kl"],
            saliency_pearson=change.get("saliency_pearson"),
            loss=kept.loss - base.loss,
        )

    def build(self, setting: Setting) -> onnx.ModelProto:
        """Return the model of a setting."""
        if setting.method is None:
            return self._folded
        return quantize(self._folded, ranges(self._observed, setting.method), keep=setting.keep)

    def report_end(self) -> None:
        """Report the end of the search."""
        self._on_progress("search", self._steps, self._steps)

    def _measured(self, model: onnx.ModelProto) -> dict[str, Estimate]:
        with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
            path = Path(folder) / "candidate.onnx"
            path.write_bytes(model.SerializeToString())
            size = float(path.stat().st_size)
            estimates = {**self._measure(path), "size_bytes": Estimate(size, size, size)}
        missing = [name for name in _NEEDED if name not in estimates]
        if missing:
            raise UsageError(
                f"A search needs {', '.join(missing)} of every candidate, and measuring gave "
                f"{', '.join(sorted(estimates))}. Measure that too."
            )
        return estimates


def _search(evaluator: _CandidateEvaluator, terms: Contract, options: SearchOptions) -> Search:
    """Search among the candidates of an evaluator.

    First every method of calibration, with no node in float; from the best of them the sensitivity
    of every node; then nodes become float, the most sensitive first, until the contract is kept;
    last, each of those is tried in 8 bits again. Each candidate is a file that was measured.
    """
    reference = evaluator.run(Setting(None))
    terms = relative_contract(
        terms, reference, agreement=options.agreement_loss, saliency=options.saliency_loss
    )
    complete = True
    sensitivity: list[Sensitivity] = []
    try:
        # An LSTM has no calibrated ranges: it measures them as it runs.
        methods = options.methods if evaluator.is_static else options.methods[:1]
        plain = [evaluator.run(Setting(method)) for method in methods]
        base = min(plain, key=lambda c: rank(c, terms))
        sensitivity.extend(evaluator.sensitivity(base, node) for node in evaluator.nodes)
        sensitivity.sort(key=lambda node: node.loss)
        _mix(evaluator, base.setting, [one.node for one in sensitivity], terms)
    except _TimeIsUp:
        complete = False
    evaluator.report_end()
    candidates = [c for c in evaluator.evaluated if c.setting.method is not None]
    chosen = select(candidates, terms, options.prefer)
    return Search(
        reference=reference,
        candidates=tuple(candidates),
        sensitivity=tuple(sorted(sensitivity, key=lambda node: node.loss)),
        chosen=chosen,
        terms=terms,
        complete=complete,
        model=evaluator.build(chosen.setting),
    )


def _mix(
    evaluator: _CandidateEvaluator, base: Setting, order: Sequence[str], terms: Contract
) -> None:
    """Keep nodes float until the contract is kept, then drop those that were not needed."""
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
