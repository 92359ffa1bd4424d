"""The candidates of a search: settings of INT8 models, their measurements, and the log of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill import __version__
from edgedistill.errors import DataError
from edgedistill.evaluation import contract, preference
from edgedistill.evaluation.contract import Contract, ContractClause
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import Floats
from edgedistill.io.files import fingerprint, read_json, sha256, write_json
from edgedistill.optimize.quantization.calibration import Method

_RELATIVE = {"size_bytes", "latency_p95_ms"}  # clauses whose numbers are no shares
CANDIDATE_LOG = "candidates.json"


@dataclass(frozen=True, slots=True)
class Setting:
    """The setting that distinguishes a candidate; no method is the float model itself."""

    method: Method | None
    keep: frozenset[str] = frozenset()  # nodes that stay float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A setting and the measurements of its file."""

    setting: Setting
    estimates: Mapping[str, Estimate]

    @property
    def size_bytes(self) -> float:
        """Return the size of the file."""
        return self.estimates["size_bytes"].value

    @property
    def latency(self) -> Estimate:
        """Return the median latency in milliseconds."""
        return self.estimates["latency_p50_ms"]

    @property
    def quality(self) -> float:
        """Return the saliency agreement, or, of a teacher without maps, that of classes."""
        estimate = self.estimates.get("saliency_pearson", self.estimates["agreement"])
        return estimate.value

    @property
    def loss(self) -> float:
        """Return the distance from the teacher in all measured quantities."""
        return preference.loss(self.estimates)

    def clauses(self, terms: Contract) -> tuple[ContractClause, ...]:
        """Return the contract, clause by clause, with intervals."""
        return contract.judge(terms, self.estimates)

    def keeps(self, terms: Contract) -> bool:
        """Return whether every clause passes."""
        return contract.verdict(self.clauses(terms)) == "kept"

    def shortfall(self, terms: Contract) -> float:
        """Return the sum of the margins by which broken clauses are missed; 0 if none is."""
        broken = [clause for clause in self.clauses(terms) if not clause.passed]
        return sum(
            abs(clause.measured.value - clause.threshold)
            / (abs(clause.threshold) or 1.0 if clause.name in _RELATIVE else 1.0)
            for clause in broken
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "method": self.setting.method,
            "keep": sorted(self.setting.keep),
            "estimates": {
                name: [estimate.value, estimate.low, estimate.high]
                for name, estimate in self.estimates.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """Return the candidate of a `to_dict`."""
        estimates = {name: Estimate(*numbers) for name, numbers in values["estimates"].items()}
        return cls(Setting(values["method"], frozenset(values["keep"])), estimates)


class CandidateLog:
    """The candidates measured so far, on disk after each one: a killed search resumes from it."""

    def __init__(self, folder: Path, key: str) -> None:
        """Load the log that a search with this key left in a folder, or start one."""
        self._path, self._key = folder / CANDIDATE_LOG, key
        self.candidates: dict[Setting, Candidate] = {}
        try:
            log = read_json(self._path)
            if log["key"] == key:
                entries = [Candidate.from_dict(values) for values in log["measured"]]
                self.candidates = {entry.setting: entry for entry in entries}
        except (DataError, KeyError, TypeError):
            self.candidates = {}  # none yet, or damaged: measure anew

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate."""
        self.candidates[candidate.setting] = candidate
        entries = [entry.to_dict() for entry in self.candidates.values()]
        write_json(self._path, {"key": self._key, "measured": entries})


def log_key(model: Path, calibration: Floats, context: str) -> str:
    """Hash all that measurements depend on; the contract is no part, it only judges them.

    Args:
        model: the exported student.
        calibration: series that set the ranges, (N, C, T).
        context: hash of all else that the measurements depend on.
    """
    series = hashlib.sha256(calibration.tobytes()).hexdigest()
    return fingerprint([__version__, sha256(model), list(calibration.shape), series, context])


def pareto_front(candidates: list[Candidate]) -> list[Candidate]:
    """Return those that no other beats in size, latency and saliency agreement, smallest first.

    A latency beats another only if their intervals are apart: the clock is no reason to call
    one of two equal models slower.
    """
    best = [c for c in candidates if not any(_dominates(other, c) for other in candidates)]
    return sorted(best, key=lambda c: (c.size_bytes, -c.quality))


def _dominates(one: Candidate, other: Candidate) -> bool:
    no_worse = (
        one.size_bytes <= other.size_bytes
        and one.quality >= other.quality
        and one.latency.value <= other.latency.high
    )
    return no_worse and (
        one.size_bytes < other.size_bytes
        or one.quality > other.quality
        or one.latency.high < other.latency.low
    )
