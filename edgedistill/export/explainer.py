"""One ONNX file with a student and its saliency: logits, and the scores of time steps.

The perturbation plan is part of the graph, so a board needs nothing of ours to explain a
prediction: it hands over a series and reads logits and a saliency map.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from edgedistill.attribution.incremental.layers import UnsupportedModule
from edgedistill.attribution.incremental.onnx_graph import (
    FollowedChanges,
    PerturbedCopies,
    window_scores,
)
from edgedistill.errors import ShapeError, VerificationError
from edgedistill.export.export import INPUT, OUTPUT, evaluation_copy, torch_logits, trace
from edgedistill.io import files
from edgedistill.io.arrays import Floats, Ints
from edgedistill.optimize.execution import TOLERANCE, assert_close, check_series, errors, logits
from edgedistill.optimize.passes.fold import fold
from edgedistill.optimize.passes.graph import load
from edgedistill.optimize.passes.opset import OPSET
from edgedistill.saliency.occlusion import explain, time_map
from edgedistill.saliency.perturbation import PerturbationPlan, baseline_patches

SALIENCY, WINDOWS = "saliency", "window_saliency"
METADATA = "edgedistill.saliency"  # key of the plan in the file's metadata_props

_COPIES = 512  # perturbed copies that the check holds at once
_LEAST_SAVING = 2.0  # of multiply-accumulates; gathers and masks in ONNX Runtime eat up less
Form = Literal["incremental", "general"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerFacts:
    """Facts of an exported explainer, and its errors against the library's own maps."""

    form: Form
    reason: str  # why the general form was taken; empty for the other
    saving: float  # multiply-accumulates of the general form over those of the incremental one
    windows: int
    nodes: int
    size_bytes: int
    opset: int
    max_abs_error_logits: float
    max_abs_error: float  # of the saliency map and of the window scores
    largest_score: float  # of the sample, to judge that error by


class Explainer(nn.Module):
    """Map series (N, C, T) to logits (N, K), saliency (N, T) and window saliency (N, W)."""

    averages: Tensor
    spread: Tensor

    def __init__(self, network: nn.Module, plan: PerturbationPlan) -> None:
        """Keep the plan as constants.

        Args:
            network: `FollowedChanges` or `PerturbedCopies` of the plan's windows.
            plan: windows, baseline and temperature.
        """
        super().__init__()
        self.network, self.plan = network, plan
        eye = np.eye(len(plan.starts), dtype=np.float32)
        self.register_buffer("spread", torch.from_numpy(time_map(eye, plan)))  # (W, T)
        self.register_buffer("averages", _averages(plan))  # (T, W), or (T, 1)

    def forward(self, series: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the map over time and the scores of the windows."""
        level = series @ self.averages  # (N, C, W), or (N, C, 1) if all windows share it
        found, changes = self.network(series, level)
        scores = window_scores(found, changes, temperature=self.plan.temperature)
        return found, scores @ self.spread, scores


def export_explainer(
    model: nn.Module,
    path: Path,
    sample: Floats,
    plan: PerturbationPlan,
    *,
    tolerance: float = TOLERANCE,
) -> ExplainerFacts:
    """Write a model and its saliency as ONNX, for any N.

    `series` (N, C, T) to `logits` (N, K), `saliency` (N, T) and `window_saliency` (N, W), what
    `occlusion.explain` gives as `kl` and `occlusion.time_map` makes of it. The file is compared
    with both, with the model in float64, before it takes its name: on any miss there is no
    file.

    Args:
        model: model in any mode and on any device; it stays as it is.
        path: path of the ONNX file.
        sample: real series, (N, C, T).
        plan: windows, baseline and temperature; they become part of the file.
        tolerance: largest difference of a logit, over the largest |logit| (at least 1). For small
            changes a score is about their square, so an error of a logit's change is worth
            that times the root of the score; scores may miss by no more.

    Raises:
        DataError: the sample is empty or not finite.
        ModelError: the model does not take the sample, gives no finite logits, or cannot be
            exported.
        ShapeError: the plan is for series of another length.
        VerificationError: ONNX Runtime gives other logits or another saliency than the library.
    """
    _check_sample(sample, plan)
    module = evaluation_copy(model)
    torch_logits(module, sample[:1])  # refuses series that the model does not take
    chosen = _choose_network(module, sample[:1], plan)
    proto = _graph(chosen, sample, plan)
    with files.whole_file(path) as partial:
        partial.write_bytes(proto.SerializeToString())
        misses = _verify(module, partial, sample, plan, tolerance)
    return _facts(chosen, proto, path, plan, misses)


@dataclass(frozen=True, slots=True)
class _ChosenNetwork:
    """The cheaper of both forms."""

    network: nn.Module
    reason: str  # as in `ExplainerFacts`
    saving: float

    @property
    def form(self) -> Form:
        return "general" if self.reason else "incremental"


@dataclass(frozen=True, slots=True)
class _Misses:
    """The largest errors of a file against the library."""

    logits: float
    scores: float
    largest_score: float


def _check_sample(sample: Floats, plan: PerturbationPlan) -> None:
    check_series(sample, "check of the explainer")
    if sample.shape[2] != plan.length:
        raise ShapeError(
            f"Got series of {sample.shape[2]} steps for a plan of {plan.length}. Make the plan "
            "for the length that the model takes."
        )


def _choose_network(module: nn.Module, sample: Floats, plan: PerturbationPlan) -> _ChosenNetwork:
    starts = torch.from_numpy(plan.starts)
    whole = PerturbedCopies(module, plan.length, starts, plan.width)
    try:
        followed = FollowedChanges(module, torch.from_numpy(sample), starts, plan.width)
    except UnsupportedModule as error:
        return _ChosenNetwork(whole, str(error), 1.0)
    saving = followed.saving
    if saving < _LEAST_SAVING:
        reason = f"following the changes saves only {saving:.2f}x"
        return _ChosenNetwork(whole, reason, saving)
    return _ChosenNetwork(followed, "", saving)


def _graph(chosen: _ChosenNetwork, sample: Floats, plan: PerturbationPlan) -> onnx.ModelProto:
    """Return the folded graph of a network with its saliency, and the plan in its properties."""
    explainer = Explainer(chosen.network, plan).eval()
    proto = fold(_named(trace(explainer, sample), plan))
    onnx.helper.set_model_props(proto, {METADATA: _metadata(plan, chosen.form)})
    return proto


def _averages(plan: PerturbationPlan) -> Tensor:
    """Return the factor of a series (C, T) that gives the levels of its windows.

    `perturbation.baseline_patches` is linear in the series, so what it makes of unit impulses is
    its matrix.
    """
    impulses = np.eye(plan.length, dtype=np.float32)[:, None]  # (T, 1, T)
    levels = baseline_patches(plan, impulses)[:, :, 0, 0]  # (T, W)
    shared = levels if plan.baseline == "local_mean" else levels[:, :1]
    return torch.from_numpy(np.ascontiguousarray(shared))


def _named(proto: onnx.ModelProto, plan: PerturbationPlan) -> onnx.ModelProto:
    """Return the graph with names and shapes of all outputs; the exporter sets the first alone."""
    model = ir.from_proto(proto)
    sizes = {SALIENCY: plan.length, WINDOWS: len(plan.starts)}
    for value, (name, size) in zip(model.graph.outputs[1:], sizes.items(), strict=True):
        value.name, value.shape = name, ir.Shape(["batch", size])
    return ir.to_proto(model)


def _metadata(plan: PerturbationPlan, form: Form) -> str:
    return json.dumps({"plan": plan.to_dict(), "starts": plan.starts.tolist(), "form": form})


def _verify(
    module: nn.Module, path: Path, sample: Floats, plan: PerturbationPlan, tolerance: float
) -> _Misses:
    """Compare a file with the model and its maps; return the largest errors."""
    load(path)
    logits(path, sample[:1])  # one series must do too; raises if it cannot be run
    truth = explain(_Precise(module), sample, plan)
    maps = time_map(truth.kl, plan)
    rows, (values, saliency, windows) = _outputs(path, sample, max(2, _COPIES // len(plan.starts)))
    absolute_logits, _ = assert_close("The explainer", truth.logits[rows], values, tolerance)
    absolute = max(errors(maps[rows], saliency)[0], errors(truth.kl[rows], windows)[0])
    largest = float(truth.kl.max())
    allowed = tolerance * max(largest, largest**0.5, tolerance)
    if not absolute <= allowed:
        raise VerificationError(
            f"The explainer misses the saliency it must give by {absolute:.3g}, where scores go "
            f"up to {largest:.3g} and {allowed:.3g} is allowed. Nothing was written."
        )
    return _Misses(absolute_logits, absolute, largest)


def _facts(
    chosen: _ChosenNetwork,
    proto: onnx.ModelProto,
    path: Path,
    plan: PerturbationPlan,
    misses: _Misses,
) -> ExplainerFacts:
    return ExplainerFacts(
        form=chosen.form,
        reason=chosen.reason,
        saving=chosen.saving,
        windows=len(plan.starts),
        nodes=len(proto.graph.node),
        size_bytes=path.stat().st_size,
        opset=OPSET,
        max_abs_error_logits=misses.logits,
        max_abs_error=misses.scores,
        largest_score=misses.largest_score,
    )


class _Precise:
    """A model in float64: the reference of a faster way should not be rounded itself."""

    def __init__(self, module: nn.Module) -> None:
        self._module = copy.deepcopy(module).double()

    @torch.no_grad()
    def __call__(self, series: Floats) -> Floats:
        found: Floats = self._module(torch.from_numpy(series).double()).numpy()
        return found


def _outputs(path: Path, sample: Floats, group: int) -> tuple[Ints, list[Floats]]:
    """Return the outputs of a file: one series alone, then each twice, `group` at once.

    Returns:
        Rows of the sample, (R,); logits, maps and window scores of these.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    twice = np.arange(2 * len(sample)) % len(sample)  # so that a sample of one tries the batch too
    batches = [twice[:1], *(twice[at : at + group] for at in range(0, len(twice), group))]
    names = [OUTPUT, SALIENCY, WINDOWS]
    found = [session.run(names, {INPUT: sample[batch]}) for batch in batches]
    return np.concatenate(batches), [np.concatenate(parts) for parts in zip(*found, strict=True)]
