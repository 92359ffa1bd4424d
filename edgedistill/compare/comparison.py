"""How far two models differ: in outputs, in saliency, and the first layer that differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgedistill.compare.activations import Network
from edgedistill.compare.layer_errors import LayerComparer, LayerError
from edgedistill.compare.pairing import How, Pairing, pair
from edgedistill.errors import ConfigError, ModelError, ShapeError
from edgedistill.evaluation import metrics
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import Floats
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.saliency.classifier import Classifier
from edgedistill.saliency.occlusion import explain_classifier
from edgedistill.saliency.perturbation import PerturbationPlan

PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # each coarser than those before it
MEMORY_BYTES = 256 * 1024**2  # of activations, or of perturbed copies, at any time
_BATCH = 32  # series a call
_OUTPUTS_ONLY = "Only outputs were compared: "
_UNREADABLE = _OUTPUTS_ONLY + "the layers of {} cannot be read."
_OTHER_BATCHES = _OUTPUTS_ONLY + "the files take {} and {} series at once."
_FEW_SERIES = _OUTPUTS_ONLY + "the files take {} series at once, and there are {}."
_UNPAIRED = _OUTPUTS_ONLY + (
    "the two share no names of layers, and their operators are not the same from end to end."
)
_BY_ORDER = "The two share no names of layers, so these were paired in their order."


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Allowed differences of two models that count as alike; None is not judged."""

    layers: float  # relative L2 error of a layer; shows where they differ, not whether
    logits: float | None = None  # largest difference, over the largest |logit| (at least 1)
    agreement: float | None = None  # at least this share of series with the same class
    saliency: float | None = None  # at least this mean Pearson correlation of the maps
    spearman: float | None = None  # at least this mean Spearman correlation of the maps
    kl: float | None = None  # at most this mean KL, nats
    by_contract: bool = False  # whether all but layers and logits are a contract's thresholds

    def __post_init__(self) -> None:
        if not 0 < self.layers < math.inf:
            raise ConfigError(f"The tolerance is {self.layers}; give a number above 0.")


# FP32 resolves 6e-8, and sums of thousands of terms in another order lose two digits. FP16 has 11
# bits and BF16 has 8: rounding a weight and a value costs up to 1e-3 and 8e-3, and layers add up.
# What INT8 loses depends on the model, so its classes and maps are judged; 5 % of a layer is
# several times what a good scale costs.
TOLERANCES = {
    "fp32": Tolerance(layers=1e-5, logits=1e-5),
    "fp16": Tolerance(layers=2e-3, logits=2e-3),
    "bf16": Tolerance(layers=1.6e-2, logits=1.6e-2),
    "int8": Tolerance(layers=0.05, agreement=0.99, saliency=0.99),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedModel:
    """One of the two models."""

    name: str
    classifier: Classifier  # may give infinity or NaN
    network: Network | None = None  # where layers can be compared
    precision: str = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Differences of the logits, classes and maps of two models."""

    logit_error: float  # largest, over the largest |logit| of the first (at least 1)
    logit_error_median: float  # of the largest of each series
    agreement: Estimate  # share of series with the same top class
    kl: Estimate | None  # mean KL(first || second), nats; None if a logit is not finite
    saliency_pearson: Estimate | None  # mean over series, signed maps of the first's class
    saliency_spearman: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of a comparison."""

    precision: str  # the coarser of the two
    tolerance: Tolerance
    series: int
    outputs: Outputs
    paired_by: How | None
    layers: tuple[LayerError, ...]  # in the order of the first model
    alone: tuple[tuple[str, ...], tuple[str, ...]]  # layers of either model without a counterpart
    reasons: tuple[str, ...]  # why they are not alike
    notes: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """Whether they are one model within the tolerance."""
        return not self.reasons

    @property
    def first(self) -> LayerError | None:
        """The first layer beyond the tolerance."""
        return next((x for x in self.layers if x.beyond and not x.other), None)

    def worst(self, count: int) -> list[LayerError]:
        """Return the layers that add most of their own, the worst first."""
        found = [x for x in self.layers if x.added]
        return sorted(found, key=lambda x: x.added or 0.0, reverse=True)[:count]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what is infinite is None."""
        facts = asdict(self)
        first = self.first
        facts["alone"] = {"a": list(self.alone[0]), "b": list(self.alone[1])}
        facts |= {"alike": self.alike, "first": None if first is None else asdict(first)}
        plain: dict[str, Any] = _plain(facts)
        return plain


def compare(
    first: ComparedModel,
    second: ComparedModel,
    series: Floats,
    plan: PerturbationPlan,
    *,
    tolerance: float | None = None,
    contract: Contract | None = None,
    memory_bytes: int = MEMORY_BYTES,
    on_progress: ProgressCallback = ignore_progress,
) -> Comparison:
    """Compare a second model with a first, on the same series under the same plan.

    Args:
        first: reference model.
        second: model that is compared with it.
        series: series to compare on, (N, C, T).
        plan: perturbation plan of the saliency maps, of the classes that the first predicts.
        tolerance: allowed relative error of layers and logits, instead of that of the coarser
            precision and of the contract.
        contract: thresholds of a bundle, with the first model in the teacher's place.
        memory_bytes: bound on the activations of both models in memory at any time, and on the
            perturbed copies; the runtimes' own memory comes on top.
        on_progress: progress callback.

    Raises:
        ConfigError: the tolerance makes no sense, or the bound does not hold one layer.
        ModelError: a model cannot be run, or the first gives logits that are not finite.
        ShapeError: the models take other series, or know other classes.
    """
    precision = max(first.precision, second.precision, key=PRECISIONS.index)
    allowed = _allowed(precision, tolerance, contract)
    _check_shape(first, series)
    _check_shape(second, series)
    layers = _layers(first, second, series, allowed, memory_bytes, on_progress)
    outputs = _outputs(first, second, series, plan, memory_bytes, on_progress)
    return _judged(precision, allowed, len(series), outputs, *layers)


def _allowed(precision: str, tolerance: float | None, contract: Contract | None) -> Tolerance:
    """Return the differences that are allowed.

    What rounding costs a logit is the precision's. What INT8 loses depends on the model, and a
    contract says how much may be lost: its clauses take the place of our figures.
    """
    if tolerance is not None:
        return Tolerance(layers=tolerance, logits=tolerance)
    allowed = TOLERANCES[precision]
    if contract is None:
        return allowed
    return replace(
        allowed,
        agreement=contract.min_agreement,
        saliency=contract.min_saliency_pearson,
        spearman=contract.min_saliency_spearman,
        kl=contract.max_kl,
        by_contract=True,
    )


def precision_in(text: str) -> str:
    """Return the coarsest precision that a name such as "trt-fp16.onnx" holds; else FP32.

    >>> precision_in("trt-w8a16.onnx")
    'int8'
    """
    found = [name for name in PRECISIONS if name in text.replace("w8a16", "int8")]
    return found[-1] if found else PRECISIONS[0]


def _judged(
    precision: str,
    tolerance: Tolerance,
    series: int,
    outputs: Outputs,
    pairing: Pairing,
    layers: tuple[LayerError, ...],
    notes: tuple[str, ...],
) -> Comparison:
    return Comparison(
        precision=precision,
        tolerance=tolerance,
        series=series,
        outputs=outputs,
        paired_by=pairing.how,
        layers=layers,
        alone=pairing.alone,
        reasons=_violations(outputs, layers, tolerance),
        notes=notes,
    )


def _outputs(
    first: ComparedModel,
    second: ComparedModel,
    series: Floats,
    plan: PerturbationPlan,
    memory_bytes: int,
    on_progress: ProgressCallback,
) -> Outputs:
    one, other = _logits_pair(first, second, series)
    error = np.where(np.isfinite(other), np.abs(other - one), np.inf).max(axis=1)
    scale = max(1.0, float(np.abs(one).max()))
    outputs = Outputs(
        logit_error=float(error.max()) / scale,
        logit_error_median=float(np.median(error)) / scale,
        agreement=metrics.estimate_mean(metrics.agrees(one, other)),
        kl=None,
        saliency_pearson=None,
        saliency_spearman=None,
    )
    if not np.isfinite(error).all():
        return outputs
    targets = one.argmax(axis=1)
    maps = [
        explain_classifier(
            side.classifier,
            series,
            plan,
            targets=targets,
            memory_bytes=memory_bytes,
            on_progress=partial(on_progress, f"ask {letter}"),
        ).signed
        for side, letter in ((first, "A"), (second, "B"))
    ]
    return replace(
        outputs,
        kl=metrics.estimate_mean(metrics.kl_divergence(one, other)),
        saliency_pearson=metrics.estimate_mean(metrics.pearson(*maps)),
        saliency_spearman=metrics.estimate_mean(metrics.spearman(*maps)),
    )


def _logits_pair(
    first: ComparedModel, second: ComparedModel, series: Floats
) -> tuple[Floats, Floats]:
    """Return the logits of both models, (N, K), the first's finite."""
    one, other = _logits(first, series), _logits(second, series)
    if one.shape != other.shape:
        raise ShapeError(
            f"{first.name} gives logits of shape {one.shape}, {second.name} of {other.shape}. "
            "Compare models that were trained for the same classes."
        )
    if not np.isfinite(one).all():
        raise ModelError(
            f"{first.name} gives logits that are infinite or NaN. Compare with a sound model."
        )
    return one, other


def _logits(model: ComparedModel, series: Floats) -> Floats:
    """Return logits, (N, K), computed in small batches: series may be long."""
    batches = (series[start : start + _BATCH] for start in range(0, len(series), _BATCH))
    found: Floats = np.concatenate([model.classifier.logits(batch) for batch in batches])
    return found


def _layers(
    first: ComparedModel,
    second: ComparedModel,
    series: Floats,
    tolerance: Tolerance,
    memory_bytes: int,
    on_progress: ProgressCallback,
) -> tuple[Pairing, tuple[LayerError, ...], tuple[str, ...]]:
    """Return the pairing of layers, their errors, and notes for the reader."""
    nothing = Pairing(how=None, batch=None, pairs=(), alone=((), ()))
    if first.network is None or second.network is None:
        name = first.name if first.network is None else second.name
        return nothing, (), (_UNREADABLE.format(name),)
    sizes = first.network.batch, second.network.batch
    if None not in sizes and sizes[0] != sizes[1]:
        return nothing, (), (_OTHER_BATCHES.format(*sizes),)
    channels, length = series.shape[1:]
    pairing = pair(first.network, second.network, (channels, length))
    if pairing.how is None:
        return pairing, (), (_UNPAIRED,)
    if pairing.batch is not None and len(series) < pairing.batch:
        return pairing, (), (_FEW_SERIES.format(pairing.batch, len(series)),)
    bench = LayerComparer(
        first=first.network,
        second=second.network,
        pairing=pairing,
        series=series,
        memory_bytes=memory_bytes,
        on_progress=partial(on_progress, "compare layers"),
    )
    notes = (_BY_ORDER,) if pairing.how == "order" else ()
    return pairing, bench.layer_errors(tolerance.layers), notes


def _violations(
    outputs: Outputs, layers: Sequence[LayerError], tolerance: Tolerance
) -> tuple[str, ...]:
    """Return the violated tolerances in words."""
    found = []
    if tolerance.logits is not None and not outputs.logit_error <= tolerance.logits:
        found.append(
            f"a logit differs by {outputs.logit_error:.3g} of the largest; {tolerance.logits:g} is "
            "allowed"
        )
    if tolerance.agreement is not None and outputs.agreement.value < tolerance.agreement:
        found.append(
            f"they name the same class for {outputs.agreement.value:.1%} of the series; "
            f"{tolerance.agreement:.0%} is needed"
        )
    if tolerance.kl is not None and outputs.kl is not None and outputs.kl.value > tolerance.kl:
        found.append(
            f"the KL of their classes is {outputs.kl.value:.3g} nats; {tolerance.kl:g} is allowed"
        )
    for name, correlation, least in (
        ("Pearson", outputs.saliency_pearson, tolerance.saliency),
        ("Spearman", outputs.saliency_spearman, tolerance.spearman),
    ):
        if least is not None and correlation is not None and correlation.value < least:
            found.append(
                f"their saliency maps correlate by {correlation.value:.3f} ({name}); {least:g} is "
                "needed"
            )
    if not np.isfinite(outputs.logit_error):
        found.append("B gives logits that are infinite or NaN")
    found += [f"B gives infinity or NaN at {x.node}" for x in layers if x.infinite][:1]
    return tuple(found)


def _check_shape(model: ComparedModel, series: Floats) -> None:
    wanted = model.network.shape if model.network is not None else series.shape[1:]
    if any(size not in (None, have) for size, have in zip(wanted, series.shape[1:], strict=True)):
        raise ShapeError(
            f"{model.name} takes series of (C, T) {wanted}; these are {series.shape[1:]}. Compare "
            "models of the same series, and name the data that they were made for."
        )


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
