"""The configs of the objectives: recipe keys, and how each is built. Building one loads torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgedistill_kernels.reference import Form
from pydantic import Field

from edgedistill.distillation import seeds
from edgedistill.distillation.configs.config import Count, ObjectiveConfig, Positive, Weight
from edgedistill.errors import ConfigError
from edgedistill.io.arrays import Doubles
from edgedistill.io.files import fingerprint
from edgedistill.saliency.classifier import LogitsFn
from edgedistill.saliency.perturbation import PerturbationPlan

if TYPE_CHECKING:
    from edgedistill.distillation.context import ObjectiveContext
    from edgedistill.distillation.objectives.objective import Objective
    from edgedistill.teachers import Classifier
    from edgedistill.teachers.window_cache import WindowCache, WindowCacheSpec

Loss = Literal["smooth_l1", "cosine", "ranking"]
Over = Literal["windows", "timesteps"]


class CrossEntropyConfig(ObjectiveConfig):
    """Cross-entropy with the labels."""

    name: Literal["cross_entropy"]

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.cross_entropy import CrossEntropy

        del context
        return CrossEntropy()


class KDConfig(ObjectiveConfig):
    """Hinton's knowledge distillation."""

    name: Literal["kd"]
    weight: Weight = 0.9
    temperature: float = Field(4.0, gt=0)

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.kd import KD

        return KD(context.logits, temperature=self.temperature)


class CutMixWindowConfig(ObjectiveConfig):
    """An objective about windows that show a series of another class."""

    windows: int = Field(50, ge=1)
    bank: int = Field(16, ge=0)  # times `windows` are cached a series; 0: drawn anew at every step
    bank_mib: Positive = 256  # of disk that the cached windows and logits may take
    needs_maps: ClassVar[bool] = True

    @property
    def uses_cache(self) -> bool:
        return self.bank > 0

    def window_teacher(
        self,
        context: ObjectiveContext,
        width: int,
        windows: int,
        start_weights: Doubles | None = None,
    ) -> WindowCache | LogitsFn:
        """Return the cache of the teacher's logits for windows, or the teacher's logits function.

        The cache depends neither on the student, nor on its seed, nor on the loss, so all
        students of a teacher share it.

        Args:
            context: what the objective is built from.
            width: w of the windows, steps.
            windows: W, windows a series and step of this width.
            start_weights: probabilities of the starts, (M, T - w + 1); None: all alike.
        """
        from edgedistill.teachers.window_cache import open_window_cache, write_window_cache

        if not self.bank:
            return context.open_teacher().logits
        spec = self._cache_spec(context, width, windows, start_weights)
        suffix = "" if start_weights is None else "-importance"

        def fill(folder: Path) -> None:
            on_progress = partial(context.on_progress, "ask the teacher about windows")
            write_window_cache(folder, context.open_teacher(), spec, on_progress)

        folder = context.cache(
            f"bank-{spec.width}-{spec.number}{suffix}",
            fingerprint([context.teacher_key, spec.key()]),
            fill,
        )
        return open_window_cache(folder)

    def _cache_spec(
        self, context: ObjectiveContext, width: int, windows: int, start_weights: Doubles | None
    ) -> WindowCacheSpec:
        from edgedistill.teachers.window_cache import WindowCacheSpec, affordable_windows

        data = context.data
        number = affordable_windows(
            self.bank_mib * windows / self.windows,
            requested=self.bank * windows,
            minimum=windows,
            series=len(data.series),
            classes=context.logits.shape[1],
        )
        return WindowCacheSpec(
            series=data.series.numpy(),
            labels=data.labels.numpy(),
            donor_count=len(data.train),
            width=width,
            number=number,
            start_weights=start_weights,
        )


class TSDConfig(CutMixWindowConfig):
    """Temporal Saliency Distillation as published."""

    name: Literal["tsd"]
    width: Count | tuple[Count, ...] = 10  # several share `windows`
    temperature: float = Field(8.0, gt=0)
    form: Form = "summed"
    loss: Loss = "smooth_l1"
    draw: Literal["uniform", "importance"] = "uniform"  # the latter half by the teacher's map

    @property
    def widths(self) -> tuple[int, ...]:
        """The width, or all of them."""
        return self.width if isinstance(self.width, tuple) else (self.width,)

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: widths repeat or outnumber the windows, or the loss does not fit the form.
        """
        super().check()
        if not self.widths or len(set(self.widths)) < len(self.widths):
            raise ConfigError(
                f"width is {list(self.widths)}. Name at least one width, and each of them once."
            )
        if self.windows < len(self.widths):
            raise ConfigError(
                f"windows is {self.windows} for {len(self.widths)} widths. Let each have at least "
                "one, or name fewer widths."
            )
        if self.loss == "ranking" and self.form == "elementwise":
            raise ConfigError(
                "loss is 'ranking' beside form 'elementwise', which gives a window a score for "
                "each class. Choose form: summed, or another loss."
            )

    def build(self, context: ObjectiveContext) -> Objective:
        """Return the objective of one width, or the mean of those of several."""
        from edgedistill.distillation.objectives.multi_width import (
            MultiWidthObjective,
            split_windows,
        )

        counts = split_windows(self.windows, len(self.widths))
        parts = [
            self._build_width(context, width, windows, context.seed + index * seeds.TSD_WIDTHS)
            for index, (width, windows) in enumerate(zip(self.widths, counts, strict=True))
        ]
        return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, counts)

    def _build_width(
        self, context: ObjectiveContext, width: int, windows: int, seed: int
    ) -> Objective:
        from edgedistill.distillation.objectives.tsd import TSD
        from edgedistill.teachers.window_cache import start_probabilities

        start_weights = None
        if self.draw == "importance":
            start_weights = start_probabilities(context.explanation.kl, context.plan, width)
        return TSD(
            self.window_teacher(context, width, windows, start_weights),
            *context.data.donors(),
            windows=windows,
            width=width,
            temperature=self.temperature,
            form=self.form,
            loss=self.loss,
            start_weights=start_weights,
            seed=seed,
        )


class CutMixKDConfig(CutMixWindowConfig):
    """KD on the perturbed copies of `tsd`."""

    name: Literal["cutmix_kd"]
    windows: int = Field(10, ge=1)
    width: Count = 10
    temperature: float = Field(4.0, gt=0)

    def build(self, context: ObjectiveContext) -> Objective:
        from edgedistill.distillation.objectives.cutmix_kd import CutMixKD

        return CutMixKD(
            self.window_teacher(context, self.width, self.windows),
            *context.data.donors(),
            windows=self.windows,
            width=self.width,
            temperature=self.temperature,
            seed=context.seed,
        )


class TSDMapsConfig(ObjectiveConfig):
    """Whole signed maps, by default under the shared plan, matched by correlation."""

    name: Literal["tsd_maps"]
    map: Over = "windows"  # timesteps: from windows at every step
    widths: tuple[Count, ...] = ()  # of windows, a map each; none: the shared plan's own
    sources: tuple[str, ...] = ()  # other teachers whose maps are averaged with the teacher's
    trust: bool = False  # whether a joblib file among them may run the code it contains
    needs_maps: ClassVar[bool] = True

    @property
    def other_teachers(self) -> tuple[str, ...]:
        return self.sources

    @property
    def uses_cache(self) -> bool:
        return True

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            ConfigError: a width stands twice, or they do as every objective's may.
        """
        super().check()
        if len(set(self.widths)) < len(self.widths):
            raise ConfigError(f"widths is {list(self.widths)}. Name every width once.")

    def build(self, context: ObjectiveContext) -> Objective:
        """Return the objective of one plan, or the mean of those of several.

        Raises:
            ConfigError: another teacher is a file of logits.
        """
        from edgedistill.distillation.objectives.multi_width import MultiWidthObjective
        from edgedistill.distillation.objectives.tsd_maps import TSDMaps, other_maps, teacher_maps
        from edgedistill.teachers.map_cache import mean_maps

        others = {source: self._open_other(source, context) for source in self.sources}
        parts = []
        for plan in self._plans(context.plan):
            explanation = context.explanation
            if plan != context.plan:
                explanation = teacher_maps(plan, context)
            if others:
                maps = [other_maps(*other, plan, context).signed for other in others.items()]
                explanation = replace(explanation, signed=mean_maps([explanation.signed, *maps]))
            parts.append(TSDMaps(explanation, plan, over=self.map))
        return parts[0] if len(parts) == 1 else MultiWidthObjective(parts, [1.0] * len(parts))

    def _plans(self, shared: PerturbationPlan) -> list[PerturbationPlan]:
        """Return a plan for each map, with the baseline and temperature of the shared one."""
        plans = [replace(shared, width=w, stride=max(1, w // 2)) for w in self.widths] or [shared]
        return [replace(plan, stride=1) for plan in plans] if self.map == "timesteps" else plans

    def _open_other(self, source: str, context: ObjectiveContext) -> Classifier:
        other = context.open_source(source, trust=self.trust)
        if not other.can_explain:
            raise ConfigError(
                f"The objective {self.name} asks {source} about perturbed series, and a file of "
                "logits cannot answer. Leave it out of sources, or bring the model that gave the "
                "logits."
            )
        return other
