"""From one ONNX file to a folder of variants: typed, searched, recovered, in other formats.

With the plan of a search come `ort-mixed`, `search.json` with every candidate, and `search.png`;
with a recovery `recovery.json`, and `ort-recovered` if it is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgedistill.errors import ModelError
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.preference import Preference
from edgedistill.io.arrays import Floats
from edgedistill.io.files import whole_file, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.mixed_precision.plot import draw
from edgedistill.optimize.mixed_precision.search import (
    Measure,
    Search,
    SearchOptions,
    candidate_report,
    search,
    search_report,
)
from edgedistill.optimize.precision_support import Precision, RuntimeName
from edgedistill.optimize.qat.finetune import (
    Recovery,
    finetune_int8,
    recovery_blocker,
    regressions,
)
from edgedistill.optimize.quantization.calibration import Observe, observe
from edgedistill.optimize.variant_folder import add_failure, add_formats, add_variant, write_list
from edgedistill.optimize.variants import variants
from edgedistill.training.config import epoch_callback

MIXED_VARIANT = "ort-mixed"
RECOVERED_VARIANT = "ort-recovered"
SEARCH_JSON, SEARCH_PNG, RECOVERY_JSON = "search.json", "search.png", "recovery.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """A search for an INT8 model that keeps a contract.

    Attributes:
        contract: the contract.
        measure: measures a file on validation series against the teacher.
        context: key of what a measurement depends on besides the file.
        validation: number of validation series.
        prefer: what counts among models that keep the contract.
        budget_s: seconds after which no new candidate is measured.
        agreement_loss: most that agreement may fall below the float32 model's; None: any.
        saliency_loss: the same for the correlation of maps.
        recovery: settings of a training in 8 bits, if the contract is broken; None: no training.
    """

    contract: Contract
    measure: Measure
    context: str
    validation: int
    prefer: Preference = "balanced"
    budget_s: float | None = None
    agreement_loss: float | None = None
    saliency_loss: float | None = None
    recovery: Recovery | None = None

    @property
    def measurable_agreement_loss(self) -> float | None:
        """The loss of agreement, but at least one series: agreement moves in such steps."""
        loss = self.agreement_loss
        return None if loss is None else max(loss, 1 / self.validation)


def optimize(
    model: Path,
    calibration: Floats,
    out: Path,
    work: Path,
    *,
    precisions: Sequence[Precision] = ("fp32", "fp16", "int8"),
    runtimes: Sequence[RuntimeName] = ("onnxruntime",),
    batch: int | None = None,
    formats: Sequence[str] = ("onnx",),
    checked: Floats | None = None,
    plan: SearchPlan | None = None,
    observe: Observe = observe,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Write the variants of an ONNX file into an existing folder.

    Args:
        model: path of the exported student.
        calibration: training series that INT8 ranges are taken from, (N, C, T).
        out: folder of the variants.
        work: folder for what a killed search resumes from.
        precisions: number formats.
        runtimes: runtimes that the files are for.
        batch: series that files for TensorRT take; None: any number.
        formats: "onnx", "ort" or both.
        checked: series that files of both formats must agree on; None: those of calibration.
        plan: plan of a search; None searches nothing.
        observe: collects a model's values on the calibration series, or reads them.
        on_progress: progress.
    """
    on_progress("optimize", 0, 1)
    made = variants(
        model, calibration, out, precisions, runtimes=runtimes, batch=batch, observe=observe
    )
    write_list(made, calibration, out)
    on_progress("optimize", 1, 1)
    if plan is not None:
        try:
            search_variants(model, calibration, out, work, plan, observe, on_progress)
        except ModelError as error:  # such as nothing to quantize; the other variants are there
            add_failure(MIXED_VARIANT, error, out)
    add_formats(out, formats, calibration if checked is None else checked)


def search_variants(
    model: Path,
    calibration: Floats,
    out: Path,
    work: Path,
    plan: SearchPlan,
    observe: Observe = observe,
    on_progress: ProgressCallback = ignore_progress,
) -> Search:
    """Add the searched variant to a folder of variants, and the recovered one if it is better.

    Args:
        model: path of the exported student.
        calibration: series that INT8 ranges are taken from, (N, C, T).
        out: folder of the variants.
        work: folder for what a killed search resumes from.
        plan: plan of the search.
        observe: collects a model's values on the calibration series, or reads them.
        on_progress: progress.
    """
    first = _search(plan, calibration, observe, on_progress)(
        model,
        terms=plan.contract,
        folder=work,
        options=replace(
            _options(plan),
            agreement_loss=plan.measurable_agreement_loss,
            saliency_loss=plan.saliency_loss,
        ),
    )
    _add_searched(MIXED_VARIANT, first, out)
    write_json(out / SEARCH_JSON, search_report(first))
    with whole_file(out / SEARCH_PNG) as partial_file:
        partial_file.write_bytes(draw(first))
    _recover(model, calibration, out, work, plan, first, observe, on_progress)
    return first


def _search(
    plan: SearchPlan, calibration: Floats, observe: Observe, on_progress: ProgressCallback
) -> Callable[..., Search]:
    return partial(
        search,
        calibration=calibration,
        measure=plan.measure,
        context=plan.context,
        options=_options(plan),
        observe=observe,
        on_progress=on_progress,
    )


def _options(plan: SearchPlan) -> SearchOptions:
    return SearchOptions(prefer=plan.prefer, budget_s=plan.budget_s)


def _recover(
    model: Path,
    calibration: Floats,
    out: Path,
    work: Path,
    plan: SearchPlan,
    first: Search,
    observe: Observe,
    on_progress: ProgressCallback,
) -> None:
    """Train the student in 8 bits and search again; keep the result only if it is better."""
    recovery = plan.recovery
    if recovery is None:
        return
    reason = recovery_blocker(model, calibration, first, always=recovery.always)
    if reason is not None:
        write_json(out / RECOVERY_JSON, {"taken": False, "reason": reason})
        return
    on_epoch = epoch_callback(on_progress, "recover", recovery.epochs)
    path = finetune_int8(
        model, calibration, recovery, first, work, observe=observe, on_epoch=on_epoch
    )
    search_again = _search(plan, calibration, observe, on_progress)
    _add_recovered(search_again(path, terms=first.terms, folder=work / "recovered"), first, out)


def _add_recovered(new: Search, old: Search, out: Path) -> None:
    """Write the facts of a recovery, and its variant if it is better than the one before."""
    reason = regressions(new.all_int8, old.all_int8, old.terms)
    write_json(
        out / RECOVERY_JSON,
        {
            "taken": reason is None,
            "reason": reason,
            "before": candidate_report(old.all_int8, old),
            "after": candidate_report(new.all_int8, new),
            "search": search_report(new),
        },
    )
    if reason is None:
        _add_searched(RECOVERED_VARIANT, new, out)


def _add_searched(name: str, search: Search, out: Path) -> None:
    precision = "mixed" if search.chosen.setting.keep else "int8"
    add_variant(name, search.model, precision, out)
