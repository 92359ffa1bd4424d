"""Report of a search: every candidate with its measures, as plain values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgedistill.optimize.mixed_precision.candidates import Candidate, pareto_front
from edgedistill.optimize.mixed_precision.search import Search


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
