"""What two models of some precision may differ by and still be called alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgedistill.errors import ConfigError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # each coarser than those before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What two models may differ by and still be called alike; None: is not judged."""

    layers: float  # relative L2 error of a layer; tells where, not whether
    logits: float | None = None  # largest difference, over the largest |logit| (at least 1)
    agreement: float | None = None  # at least this share of series with the same class
    saliency: float | None = None  # at least this mean Pearson correlation of the maps

    def __post_init__(self) -> None:
        if not 0 < self.layers < math.inf:
            raise ConfigError(f"The tolerance is {self.layers}; give a number above 0.")


# FP32 resolves 6e-8, and sums of thousands of terms in another order lose two digits. FP16 has 11
# bits and BF16 has 8: rounding a weight and a value costs up to 1e-3 and 8e-3, and layers add up.
# What INT8 loses depends on the model, so its answers and reasons are judged; 5 % of a layer is
# several times what a good scale costs.
TOLERANCES = {
    "fp32": Tolerance(layers=1e-5, logits=1e-5),
    "fp16": Tolerance(layers=2e-3, logits=2e-3),
    "bf16": Tolerance(layers=1.6e-2, logits=1.6e-2),
    "int8": Tolerance(layers=0.05, agreement=0.99, saliency=0.99),
}


def precision_in(text: str) -> str:
    """Return the coarsest precision that a name such as "trt-fp16.onnx" holds; else FP32.

    >>> precision_in("trt-w8a16.onnx")
    'int8'
    """
    found = [name for name in PRECISIONS if name in text.replace("w8a16", "int8")]
    return found[-1] if found else PRECISIONS[0]
