"""Predictions of models for one series and their attributions, by occlusion or gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from edgedistill.attribution.gradients import completeness_gap, gradient_input, integrated_gradients
from edgedistill.errors import UsageError
from edgedistill.evaluation import metrics
from edgedistill.explain.inputs import ExplainedModel, ExplanationInput, RecordedExplanation, Role
from edgedistill.io.arrays import Floats, Ints
from edgedistill.io.progress import ProgressCallback
from edgedistill.saliency.occlusion import Explanation, explain_classifier, time_map
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers.torch import TorchClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Method = Literal["occlusion", "gradient-input", "integrated-gradients"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The logits of one model and its attribution."""

    role: Role
    name: str
    logits: Floats  # (K,)
    map: Floats  # signed, (T,): positive supports the explained class; in centered logits
    scores: Floats  # the same for each window, (W,): of occlusion, or summed over the window
    kl: Floats | None = None  # of occlusion, (W,): KL of the class distribution
    gap: float | None = None  # of integrated gradients: the completeness gap

    @property
    def prediction(self) -> int:
        """The predicted class."""
        return int(self.logits.argmax())

    @property
    def probability(self) -> float:
        """The probability of the predicted class."""
        return float(metrics.softmax(self.logits[None]).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationReport:
    """One series with the attributions of its models."""

    input: ExplanationInput
    method: Method
    target: int  # the explained class: the teacher's, or of a model alone its own
    attributions: tuple[Attribution, ...]  # in the order of the models
    pearson: float | None  # of two models' maps: over windows, or over values of gradients

    def windows(self, attribution: Attribution, count: int) -> list[int]:
        """Return the windows of the largest absolute scores, strongest first."""
        order: list[int] = np.argsort(-np.abs(attribution.scores), kind="stable")[:count].tolist()
        return order

    def plot(self) -> Figure:
        """Draw the series above each model's map, as a Matplotlib figure."""
        from edgedistill.explain.plot import draw

        return draw(self)

    def _repr_png_(self) -> bytes:
        """Return the figure for a notebook."""
        from edgedistill.explain.plot import png

        return png(self)

    def to_json(self, count: int) -> dict[str, Any]:
        """Return the report, with each model's `count` strongest windows, as JSON-able values."""
        input_ = self.input
        return {
            "series": input_.origin,
            "index": input_.index,
            "label": input_.label,
            "method": self.method,
            "explained_class": input_.class_names[self.target],
            "plan": input_.plan.to_dict(),
            "pearson": self.pearson,
            "notes": list(input_.notes),
            "models": [self._attribution_json(each, count) for each in self.attributions],
        }

    def _attribution_json(self, attribution: Attribution, count: int) -> dict[str, Any]:
        names, plan = self.input.class_names, self.input.plan
        return {
            "who": attribution.role,
            "name": attribution.name,
            "prediction": names[attribution.prediction],
            "probability": attribution.probability,
            "logits": dict(zip(names, attribution.logits.tolist(), strict=True)),
            "map": _summary(attribution.map),
            "kl": None if attribution.kl is None else _summary(attribution.kl),
            "completeness_gap": attribution.gap,
            "windows": [
                {
                    "first_step": int(plan.starts[w]),
                    "last_step": int(plan.starts[w]) + plan.width - 1,
                    "score": float(attribution.scores[w]),
                    "kl": None if attribution.kl is None else float(attribution.kl[w]),
                }
                for w in self.windows(attribution, count)
            ],
        }


def explain(
    input_: ExplanationInput, method: Method, on_progress: ProgressCallback
) -> ExplanationReport:
    """Explain the series of an input by each of its models.

    Raises:
        UsageError: gradients of what has none, or integrated gradients from a local mean.
        EdgeDistillError: a model that cannot be used.
    """
    attributions: list[Attribution] = []
    targets: Ints | None = None
    for model in input_.models:
        attributions.append(_attribute(model, input_, method, targets, on_progress))
        if targets is None:
            targets = np.array([attributions[0].prediction])
    return ExplanationReport(
        input=input_,
        method=method,
        target=attributions[0].prediction,
        attributions=tuple(attributions),
        pearson=_match(attributions, method) if len(attributions) == 2 else None,
    )


def _match(attributions: list[Attribution], method: Method) -> float:
    first, second = (t.scores if method == "occlusion" else t.map for t in attributions)
    return float(metrics.pearson(first[None], second[None])[0])


def _attribute(
    model: ExplainedModel | RecordedExplanation,
    input_: ExplanationInput,
    method: Method,
    targets: Ints | None,
    on_progress: ProgressCallback,
) -> Attribution:
    if method == "occlusion":
        if isinstance(model, RecordedExplanation):
            return _from_windows(model, model.explanation, input_.plan)
        explanation = _occluded(model, input_, targets, on_progress)
        return _from_windows(model, explanation, input_.plan)
    network = model.network if isinstance(model, ExplainedModel) else None
    if network is None:
        raise UsageError(
            f"--method {method} needs gradients, and the {model.role} ({model.name}) is no torch "
            "module. Take --method occlusion."
        )
    return _from_gradients(network, model, input_, method, targets)


def _occluded(
    model: ExplainedModel,
    input_: ExplanationInput,
    targets: Ints | None,
    on_progress: ProgressCallback,
) -> Explanation:
    return explain_classifier(
        model.classifier,
        input_.series,
        input_.plan,
        targets=targets,
        batch=None,
        on_progress=lambda done, total: on_progress(f"ask the {model.role}", done, total),
    )


def _from_windows(
    model: ExplainedModel | RecordedExplanation, explanation: Explanation, plan: PerturbationPlan
) -> Attribution:
    return Attribution(
        role=model.role,
        name=model.name,
        logits=explanation.logits[0],
        map=time_map(explanation.signed, plan)[0],
        scores=explanation.signed[0],
        kl=explanation.kl[0],
    )


def _from_gradients(
    network: TorchClassifier,
    model: ExplainedModel | RecordedExplanation,
    input_: ExplanationInput,
    method: Method,
    targets: Ints | None,
) -> Attribution:
    logits = network.logits(input_.series)
    first = next(network.module.parameters(), torch.empty(0))
    series = torch.from_numpy(input_.series).to(first)
    classes = torch.from_numpy(logits.argmax(axis=1) if targets is None else targets)
    classes, gap = classes.to(first.device), None
    if method == "gradient-input":
        found = gradient_input(network.module, series, classes)
    else:
        baseline = _baseline(series, input_.plan)
        found = integrated_gradients(network.module, series, classes, baseline)
        gap = float(completeness_gap(network.module, series, classes, baseline, found))
    values: Floats = found.sum(dim=1)[0].float().cpu().numpy()
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.float64)])
    starts, width = input_.plan.starts, input_.plan.width
    return Attribution(
        role=model.role,
        name=model.name,
        logits=logits[0],
        map=values,
        scores=(sums[starts + width] - sums[starts]).astype(np.float32),
        gap=gap,
    )


def _baseline(series: torch.Tensor, plan: PerturbationPlan) -> torch.Tensor:
    if plan.baseline == "local_mean":
        raise UsageError(
            "Integrated gradients start from one baseline for the whole series, and local_mean is "
            "another one for each window. Take --baseline mean or zero."
        )
    mean = series.mean(dim=2, keepdim=True)
    return mean if plan.baseline == "mean" else torch.zeros_like(mean)


def _summary(values: Floats) -> dict[str, float]:
    return {
        "count": len(values),
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "mean_abs": float(np.abs(values).mean()),
    }
