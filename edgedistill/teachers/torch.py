"""A torch module as a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgedistill.attribution.incremental.propagation import IncrementalModel, record
from edgedistill.errors import ModelError
from edgedistill.io.arrays import Floats, Ints
from edgedistill.teachers.classifier import (
    NoteCallback,
    check_logits,
    check_series,
    describe_error,
    ignore_notes,
)

_BATCH = 256  # series at once; bounds the memory of thousands of perturbed copies


class TorchClassifier:
    """A module that maps (N, C, T) to (N, K), in evaluation mode and without gradients.

    It computes where the module's parameters are.
    """

    can_explain = True

    def __init__(self, module: nn.Module, *, classes: int, name: str = "torch") -> None:
        self.module = module.eval()
        self.classes = classes
        self.name = name
        self._graph = record(module)

    @torch.no_grad()
    def logits(self, x: Floats) -> Floats:
        """Return logits, (N, K) float32, of series, (N, C, T) float32.

        Raises:
            ShapeError: the series are not (N, C, T).
            ModelError: the module gives something other than K finite logits a series.
        """
        check_series(x)
        self.module.eval()  # it may have been trained in between
        first = next(self.module.parameters(), torch.empty(0))
        parts = []
        for start in range(0, len(x), _BATCH):
            batch = torch.tensor(x[start : start + _BATCH])  # a copy: modules write into it
            output = self._run(batch.to(device=first.device, dtype=first.dtype))
            if not isinstance(output, torch.Tensor) or output.is_meta:
                raise ModelError(
                    f"The teacher {self.name} gives a {_describe(output)}. "
                    "Wrap it in a module that returns the logits alone, (N, K)."
                )
            if not output.is_floating_point():
                raise ModelError(
                    f"The teacher {self.name} gives {str(output.dtype).removeprefix('torch.')}, no "
                    "real numbers: classes or votes, say. Give the logits they are made from."
                )
            if len(batch) == 1 and output.numel() == self.classes:
                output = output.reshape(1, -1)  # a module that ends in squeeze() drops this axis
            parts.append(output.float().cpu().numpy())
        logits: Floats = np.concatenate(parts)
        check_logits(logits, name=self.name, count=len(x), classes=self.classes)
        return logits

    def _run(self, batch: Tensor) -> object:
        try:
            return self.module(batch)
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"The teacher {self.name} cannot take series of shape {tuple(batch.shape)} "
                f"(N, C, T): {describe_error(error)}. Run it on such a batch yourself to see more."
            ) from error

    @torch.no_grad()
    def changes(self, x: Floats, starts: Ints, patches: Floats) -> Floats:
        """Return the change of the logits by each window, computed incrementally.

        Args:
            x: series, (N, C, T).
            starts: first step of each window, (W,), or (N, W) if every series has its own.
            patches: values that replace each window, (N, W, C, w).

        Returns:
            (N, W, K) float32.
        """
        self.module.eval()
        first = next(self.module.parameters(), torch.empty(0))
        model = IncrementalModel(self.module, torch.tensor(x).to(first), graph=self._graph)
        begins = torch.from_numpy(np.atleast_2d(starts)).to(first.device)
        result = model.changes(begins, torch.from_numpy(patches).to(first))
        changes: Floats = result.changes.float().cpu().numpy()
        return changes


class SelectedOutput(nn.Module):
    """One output of a module that gives several: (N, K), also of one column given as (N,)."""

    def __init__(self, module: nn.Module, key: str | int | None, *, is_attribute: bool) -> None:
        super().__init__()
        self.module = module
        self.key = key
        self.is_attribute = is_attribute

    def forward(self, x: Tensor) -> Tensor:
        """Return the selected output of series, (N, C, T)."""
        output = _select(self.module(x), self.key, is_attribute=self.is_attribute)
        return output.reshape(-1, 1) if output.ndim <= 1 else output


@torch.no_grad()
def narrow_to_logits(
    module: nn.Module, x: Floats, classes: int, name: str, on_note: NoteCallback = ignore_notes
) -> nn.Module:
    """Return a module that gives the logits alone, where it gives a tuple, a list or a mapping.

    Taken is what is named "logits"; else of a tuple the first tensor (N, K), of a mapping the only
    one. Of two classes, a tensor of one column is taken where there is none of two.

    Args:
        module: module to run once, in evaluation mode.
        x: series, (N, C, T).
        classes: K.
        name: name of the teacher, for messages.
        on_note: reports what was taken.

    Raises:
        ModelError: none of its outputs can be the logits.
    """
    classifier = TorchClassifier(module, classes=classes, name=name)
    first = next(module.parameters(), torch.empty(0))
    output = classifier._run(torch.tensor(x).to(first))
    if isinstance(output, Tensor):
        is_flat = classes == 2 and output.shape == (len(x),)
        return SelectedOutput(module, None, is_attribute=False) if is_flat else module
    outputs = _named_outputs(output)
    key = _logits_key(outputs, len(x), classes, is_mapping=isinstance(output, Mapping))
    if key is None:
        seen = ", ".join(f"{k} {tuple(v.shape)}" for k, v in outputs.items()) or "no tensors"
        raise ModelError(
            f"The teacher {name} gives a {type(output).__name__} ({seen}), and which of it are the "
            f"logits, ({len(x)}, {classes}), cannot be told. Name it 'logits', or wrap the module "
            "in one that returns the logits alone."
        )
    on_note(f"Of the outputs of {name} ({', '.join(map(str, outputs))}), {key} is the logits.")
    is_attribute = not isinstance(output, Mapping | tuple | list)
    return SelectedOutput(module, key, is_attribute=is_attribute)


def _describe(output: object) -> str:
    if isinstance(output, Tensor):
        return "tensor without values, on the device 'meta': load its weights first"
    return type(output).__name__


def _named_outputs(output: object) -> dict[str | int, Tensor]:
    """Return the tensors of an output by key, index or attribute."""
    if isinstance(output, Mapping):
        items = list(output.items())
    elif isinstance(output, tuple | list):
        items = list(enumerate(output))
        names = getattr(output, "_fields", ())
        if "logits" in names:
            items = [(names.index("logits"), output[names.index("logits")])]
    else:
        items = [("logits", getattr(output, "logits", None))]
    return {key: value for key, value in items if isinstance(value, Tensor)}


def _logits_key(
    outputs: Mapping[str | int, Tensor], count: int, classes: int, *, is_mapping: bool
) -> str | int | None:
    if "logits" in outputs:
        return "logits"
    for shapes in ({(count, classes)}, {(count, 1), (count,)} if classes == 2 else set()):
        keys = [key for key, value in outputs.items() if tuple(value.shape) in shapes]
        if keys:
            return None if is_mapping and len(keys) > 1 else keys[0]
    return None


def _select(output: Any, key: str | int | None, *, is_attribute: bool) -> Tensor:
    if key is not None:
        output = getattr(output, str(key)) if is_attribute else output[key]
    tensor: Tensor = output
    return tensor
