"""What models say of one series, and why: asked by occlusion, or by gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from edgedistill.attribution.gradients import completeness_gap, gradient_input, integrated_gradients
from edgedistill.errors import UsageError
from edgedistill.evaluation import metrics
from edgedistill.explain.inputs import Subject
from edgedistill.explain.models import Recorded, Voice, Who
from edgedistill.saliency.occlusion import Explanation, time_map
from edgedistill.saliency.occlusion import explain as occlude
from edgedistill.saliency.perturbation import Floats, Ints, PerturbationPlan
from edgedistill.teachers import TorchTeacher

Method = Literal["occlusion", "gradient-input", "integrated-gradients"]
METHODS: tuple[Method, ...] = get_args(Method)
Progress = Callable[[str, int, int], None]  # what is being done, windows done, windows in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one model says, and why."""

    who: Who
    name: str
    logits: Floats  # (K,)
    map: Floats  # signed, (T,): positive supports the explained class; in centered logits
    scores: Floats  # the same a window, (W,): of occlusion, or summed over the window
    kl: Floats | None = None  # of occlusion, (W,): how far the class distribution moves
    gap: float | None = None  # of integrated gradients: what they miss of the logit's change

    @property
    def prediction(self) -> int:
        """Return the predicted class."""
        return int(self.logits.argmax())

    @property
    def probability(self) -> float:
        """Return the probability that the model gives its prediction."""
        return float(metrics.softmax(self.logits[None]).max())


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One series with what its models say of it."""

    subject: Subject
    method: Method
    target: int  # the explained class: the teacher's, or of a model alone its own
    told: tuple[Told, ...]  # in the order of the voices
    pearson: float | None  # of two models' maps: over windows, or over values of gradients

    def windows(self, told: Told, count: int) -> list[int]:
        """Return the windows that matter most to a model, strongest first."""
        order: list[int] = np.argsort(-np.abs(told.scores), kind="stable")[:count].tolist()
        return order

    def to_json(self, count: int) -> dict[str, Any]:
        """Return the account, with each model's `count` strongest windows, as JSON-able values."""
        subject = self.subject
        return {
            "series": subject.origin,
            "index": subject.index,
            "label": subject.label,
            "method": self.method,
            "explained_class": subject.class_names[self.target],
            "plan": subject.plan.to_dict(),
            "pearson": self.pearson,
            "notes": list(subject.notes),
            "models": [self._told_json(told, count) for told in self.told],
        }

    def _told_json(self, told: Told, count: int) -> dict[str, Any]:
        names, plan = self.subject.class_names, self.subject.plan
        return {
            "who": told.who,
            "name": told.name,
            "prediction": names[told.prediction],
            "probability": told.probability,
            "logits": dict(zip(names, told.logits.tolist(), strict=True)),
            "map": _summary(told.map),
            "kl": None if told.kl is None else _summary(told.kl),
            "completeness_gap": told.gap,
            "windows": [
                {
                    "first_step": int(plan.starts[w]),
                    "last_step": int(plan.starts[w]) + plan.width - 1,
                    "score": float(told.scores[w]),
                    "kl": None if told.kl is None else float(told.kl[w]),
                }
                for w in self.windows(told, count)
            ],
        }


def explain(subject: Subject, method: Method, tell: Progress) -> Account:
    """Ask every model of a subject for its answer and its reasons.

    Raises:
        UsageError: gradients of what has none, or integrated gradients from a local mean.
        EdgeDistillError: a model that cannot be used.
    """
    told: list[Told] = []
    targets: Ints | None = None
    for voice in subject.voices:
        told.append(_asked(voice, subject, method, targets, tell))
        if targets is None:
            targets = np.array([told[0].prediction])
    return Account(
        subject=subject,
        method=method,
        target=told[0].prediction,
        told=tuple(told),
        pearson=_match(told, method) if len(told) == 2 else None,
    )


def _match(told: list[Told], method: Method) -> float:
    first, second = (t.scores if method == "occlusion" else t.map for t in told)
    return float(metrics.pearson(first[None], second[None])[0])


def _asked(
    voice: Voice | Recorded,
    subject: Subject,
    method: Method,
    targets: Ints | None,
    tell: Progress,
) -> Told:
    if method == "occlusion":
        if isinstance(voice, Recorded):
            return _of_windows(voice, voice.said, subject.plan)
        said = _occluded(voice, subject, targets, tell)
        return _of_windows(voice, said, subject.plan)
    network = voice.network if isinstance(voice, Voice) else None
    if network is None:
        raise UsageError(
            f"--method {method} needs gradients, and the {voice.who} ({voice.name}) is no torch "
            "module. Take --method occlusion."
        )
    return _by_gradients(network, voice, subject, method, targets)


def _occluded(voice: Voice, subject: Subject, targets: Ints | None, tell: Progress) -> Explanation:
    return occlude(
        voice.logits,
        subject.series,
        subject.plan,
        targets=targets,
        changes=None if voice.network is None else voice.network.changes,
        batch=None,
        tell=lambda done, total: tell(f"ask the {voice.who}", done, total),
    )


def _of_windows(voice: Voice | Recorded, said: Explanation, plan: PerturbationPlan) -> Told:
    return Told(
        who=voice.who,
        name=voice.name,
        logits=said.logits[0],
        map=time_map(said.signed, plan)[0],
        scores=said.signed[0],
        kl=said.kl[0],
    )


def _by_gradients(
    network: TorchTeacher,
    voice: Voice | Recorded,
    subject: Subject,
    method: Method,
    targets: Ints | None,
) -> Told:
    logits = network.logits(subject.series)
    first = next(network.module.parameters(), torch.empty(0))
    series = torch.from_numpy(subject.series).to(first)
    classes = torch.from_numpy(logits.argmax(axis=1) if targets is None else targets)
    classes, gap = classes.to(first.device), None
    if method == "gradient-input":
        found = gradient_input(network.module, series, classes)
    else:
        baseline = _baseline(series, subject.plan)
        found = integrated_gradients(network.module, series, classes, baseline)
        gap = float(completeness_gap(network.module, series, classes, baseline, found))
    values: Floats = found.sum(dim=1)[0].float().cpu().numpy()
    sums = np.concatenate([[0], np.cumsum(values, dtype=np.float64)])
    starts, width = subject.plan.starts, subject.plan.width
    return Told(
        who=voice.who,
        name=voice.name,
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
