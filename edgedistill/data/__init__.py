"""Series from files to arrays (N, C, T) with labels 0..K-1, split without leaks.

`load` reads; `prepare` splits, sizes and normalizes.
"""

from edgedistill import public_name
from edgedistill.data.facts import DataFacts
from edgedistill.data.series import RawSeries, Source
from edgedistill.data.sources import ReadOptions, load
from edgedistill.data.splits import Prepared, Split, prepare

__all__ = [
    "DataFacts",
    "Prepared",
    "RawSeries",
    "ReadOptions",
    "Source",
    "Split",
    "data_warnings",
    "load",
    "prepare",
    "stratified_series",
    "wav_files",
]
_HOMES = {
    "checks": ("data_warnings",),
    "splits": ("stratified_series",),
    "wav_folders": ("wav_files",),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
