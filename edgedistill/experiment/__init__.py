"""Experiments: data sets times methods times seeds, as one table; resumed after a kill.

plan -> a teacher for each set -> a student for each method and seed -> results.csv -> report
"""

from edgedistill import public_name

__all__ = [
    "PAGE",
    "RESULTS",
    "Row",
    "load",
    "plan",
    "read_published",
    "report",
    "run",
    "student_scores",
    "write_report",
]
_HOMES = {
    "jobs": ("student_scores",),
    "plan": ("load",),
    "report": ("PAGE", "write_report"),
    "results": ("RESULTS", "Row", "read_published"),
    "run": ("run",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
