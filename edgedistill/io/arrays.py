"""The types of our arrays, each by one name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
AnyFloats = NDArray[np.floating]
AnyInts = NDArray[np.integer]
AnyArray = NDArray[np.generic]
