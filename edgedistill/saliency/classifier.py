"""The classifier protocol: something that gives logits for series.

Networks of torch, ONNX Runtime, TensorRT, fitted estimators, files of logits and the emulation of
a device are classifiers, whoever is the teacher or the student among them. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edgedistill.io.arrays import Floats, Ints

LogitsFn = Callable[[Floats], Floats]  # series (N, C, T) -> logits (N, K)
# Series (N, C, T), starts (W,) or (N, W), patches (N, W, C, w) -> how windows change the logits,
# (N, W, K)
ChangesFn = Callable[[Floats, Ints, Floats], Floats]


class Classifier(Protocol):
    """Something that gives logits for series."""

    @property
    def name(self) -> str:
        """Name for messages and reports."""

    @property
    def classes(self) -> int:
        """K; 0 where a model file leaves it open."""

    @property
    def can_explain(self) -> bool:
        """Whether it takes any series, perturbed ones too; a file of logits takes its own only."""

    @property
    def changes(self) -> ChangesFn | None:
        """Computes the logits of perturbed copies faster; None where each copy is run."""

    def logits(self, x: Floats, /) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32."""
