"""Series from files to arrays (N, C, T) with labels 0..K-1, split without leaks.

`load` reads; `prepare` splits, sizes and normalizes.
"""

from edgedistill.data.series import RawSeries, Source
from edgedistill.data.sources import ReadOptions, load
from edgedistill.data.splits import Prepared, Split, prepare

__all__ = ["Prepared", "RawSeries", "ReadOptions", "Source", "Split", "load", "prepare"]
