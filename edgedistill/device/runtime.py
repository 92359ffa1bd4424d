"""What a runtime is: something that gives the logits of a batch of series."""

from __future__ import annotations

from typing import Protocol

from edgedistill.bundle import Model
from edgedistill.device.ort import OrtRuntime
from edgedistill.errors import MachineError
from edgedistill.perturbation import Floats


class Runtime(Protocol):
    """A loaded model, whatever runs it."""

    @property
    def name(self) -> str:
        """Name of the runtime, such as "onnxruntime"."""

    def logits(self, series: Floats) -> Floats:
        """Return the logits of any number of series, (N, C, T) -> (N, K)."""

    def describe(self) -> dict[str, str]:
        """Return how the model is run: versions and settings, name to text."""


def start(model: Model, *, threads: int = 1) -> Runtime:
    """Load a bundle's model into the runtime that it was made for.

    Raises:
        MachineError: the runtime is unknown to this build, or not installed.
        ModelError: the runtime cannot load the model.
        UsageError: threads is below 1.
    """
    if model.runtime != OrtRuntime.name:
        raise MachineError(
            f"Model {model.name!r} is made for {model.runtime!r}, which this build cannot run. "
            f"Choose a model for {OrtRuntime.name!r} with --model, or install a newer edgedistill."
        )
    return OrtRuntime(model.path, threads=threads)
