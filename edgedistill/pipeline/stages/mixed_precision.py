"""The search for an INT8 model under the contract: part of the variant stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from edgedistill import __version__
from edgedistill.bundle.reader import Model
from edgedistill.data import Prepared
from edgedistill.device.runtime import start
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.metrics import Estimate
from edgedistill.io.arrays import Floats
from edgedistill.io.files import fingerprint, read_json, sha256, whole_file, write_json
from edgedistill.io.progress import ProgressCallback, ignore_progress
from edgedistill.optimize.mixed_precision.candidates import Candidate, pareto_front
from edgedistill.optimize.mixed_precision.plot import draw
from edgedistill.optimize.mixed_precision.search import Measure, Search, rank, search
from edgedistill.optimize.passes.graph import operators
from edgedistill.optimize.quantization.calibration import Observe, observe
from edgedistill.pipeline.run_folder import TEACHER_OUTPUTS
from edgedistill.pipeline.stages.evaluate import evaluate_on_validation
from edgedistill.pipeline.stages.export import VARIANTS, calibration_series
from edgedistill.pipeline.stages.qat import finetune_int8, recovery_blocker
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe.recipe import Recipe

MIXED_VARIANT = "ort-mixed"
RECOVERED_VARIANT = "ort-recovered"
SEARCH_JSON, SEARCH_PNG, RECOVERY_JSON = "search.json", "search.png", "recovery.json"


def search_variants(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    model: Path,
    out: Path,
    work: Path,
    on_progress: ProgressCallback = ignore_progress,
    *,
    observe: Observe = observe,
) -> Search | None:
    """Add the searched variant to a folder that `make_variants` filled, if the recipe asks for it.

    Beside it come `search.json`, every candidate with its measures, and `search.png`. Where plain
    INT8 breaks the contract and the recipe asks for it, the student is then trained in 8 bits; what
    a second search makes of it is one more variant, if it is better, and `recovery.json` tells.

    Args:
        recipe: contract, plan, and `optimize.search`.
        data: training series calibrate, validation series judge.
        teacher: folder of the teacher stage.
        model: the exported student.
        out: folder of the variant stage.
        work: folder for what a killed search goes on from.
        on_progress: progress.
        observe: collects what a model's values are on the calibration series, or knows it.

    Returns:
        None if the recipe asks for no search.
    """
    section = recipe.optimize.search
    if section is None:
        return None
    series = calibration_series(data, recipe.optimize.calibration, recipe.seed)
    again = partial(
        search,
        calibration=series,
        measure=candidate_evaluator(recipe, data, teacher),
        context=_context(recipe, data, teacher),
        prefer=recipe.optimize.prefer,
        budget_s=section.budget_s,
        observe=observe,
        on_progress=on_progress,
    )
    found = again(
        model,
        terms=recipe.contract,
        folder=work,
        agreement_loss=_measurable(section.agreement_loss, len(data.validation.y)),
        saliency_loss=section.saliency_loss,
    )
    write_search(found, out)
    _recover(recipe, data, teacher, model, series, found, again, out, work, on_progress, observe)
    return found


def _measurable(loss: float | None, series: int) -> float | None:
    """Return a loss of agreement that can be seen: agreement moves in steps of one series.

    >>> _measurable(0.005, 50), _measurable(0.005, 1000)
    (0.02, 0.005)
    """
    return None if loss is None else max(loss, 1 / series)


def _recover(
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    model: Path,
    calibration: Floats,
    search: Search,
    search_again: Callable[..., Search],
    out: Path,
    work: Path,
    on_progress: ProgressCallback,
    observe: Observe,
) -> None:
    """Train the student in 8 bits and search again; keep what comes of it only if it is better."""
    section = recipe.optimize.recover
    if section is None:
        return
    reason = recovery_blocker(section, search, model)
    if reason is not None:
        write_json(out / RECOVERY_JSON, {"taken": False, "reason": reason})
        return
    teacher_outputs, _ = open_teacher_outputs(teacher)
    path = finetune_int8(
        recipe,
        section,
        data,
        teacher_outputs,
        model,
        calibration,
        search,
        work,
        on_progress,
        observe=observe,
    )
    new = search_again(path, terms=search.terms, folder=work / "recovered")
    reason = _regressions(new.all_int8, search.all_int8, search.terms)
    write_json(
        out / RECOVERY_JSON,
        {
            "taken": reason is None,
            "reason": reason,
            "before": _candidate_report(search.all_int8, search),
            "after": _candidate_report(new.all_int8, new),
            "search": search_report(new),
        },
    )
    if reason is None:
        add_variant(RECOVERED_VARIANT, new, out)


def _regressions(new: Candidate, old: Candidate, terms: Contract) -> str | None:
    """Return in what a recovered INT8 model is worse than the one before, None if in nothing."""
    broken = [
        after.message()
        for before, after in zip(old.clauses(terms), new.clauses(terms), strict=True)
        if before.passed and not after.passed
    ]
    if broken:
        return f"recovered, {'; '.join(broken)}; the model before kept it"
    if rank(new, terms) >= rank(old, terms):
        return (
            f"recovered, INT8 is not nearer to the teacher: {new.loss:.4g} is missing, "
            f"{old.loss:.4g} before"
        )
    return None


def candidate_evaluator(recipe: Recipe, data: Prepared, teacher: Path) -> Measure:
    """Return what measures a file on validation series against the teacher."""
    teacher_outputs, _ = open_teacher_outputs(teacher)

    def measure(path: Path) -> Mapping[str, Estimate]:
        model = Model(
            name=MIXED_VARIANT, path=path, runtime="onnxruntime", precision="mixed", parameters=0
        )
        return evaluate_on_validation(model, start(model), recipe, data, teacher_outputs)

    return measure


def write_search(search: Search, out: Path) -> None:
    """Write the chosen model as a variant, and what was found beside it."""
    add_variant(MIXED_VARIANT, search, out)
    write_json(out / SEARCH_JSON, search_report(search))
    with whole_file(out / SEARCH_PNG) as partial_file:
        partial_file.write_bytes(draw(search))


def add_variant(name: str, search: Search, out: Path) -> None:
    """Write the chosen model beside the other variants, unless it is one of them already."""
    path = out / f"{name}.onnx"
    with whole_file(path) as partial_file:
        partial_file.write_bytes(search.model.SerializeToString())
    listed = read_json(out / VARIANTS)
    if sha256(path) in {sha256(out / variant["path"]) for variant in listed["variants"]}:
        path.unlink()
        return
    listed["variants"].append(_entry(search, path, listed["variants"]))
    write_json(out / VARIANTS, listed)


def search_report(search: Search) -> dict[str, Any]:
    """Return all that a search found, as plain values."""
    return {
        "complete": search.complete,
        "kept": search.is_kept,
        "contract": asdict(search.terms),
        "chosen": _candidate_report(search.chosen, search),
        "float32": _candidate_report(search.reference, search),
        "sensitivity": [asdict(each) for each in search.sensitivity],
        "front": [
            _candidate_report(each, search)
            for each in pareto_front([search.reference, *search.candidates])
        ],
        "candidates": [_candidate_report(each, search) for each in search.candidates],
    }


def _candidate_report(candidate: Candidate, search: Search) -> dict[str, Any]:
    clauses = candidate.clauses(search.terms)
    return {
        **candidate.to_dict(),
        "kept": candidate.keeps(search.terms),
        "broken": [clause.name for clause in clauses if not clause.passed],
        "undecided": [clause.name for clause in clauses if not clause.decided],
    }


def _entry(search: Search, path: Path, others: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": path.stem,
        "precision": "mixed" if search.chosen.setting.keep else "int8",
        "runtime": "onnxruntime",
        "path": path.name,
        "size_bytes": path.stat().st_size,
        "parameters": others[0]["parameters"],
        "operators": operators(search.model),
    }


def _context(recipe: Recipe, data: Prepared, teacher: Path) -> str:
    """Return the key of what a measurement depends on besides the model."""
    plan = recipe.to_dict()["saliency"]
    asked = [plan, recipe.optimize.runs, sha256(teacher / TEACHER_OUTPUTS)]
    return fingerprint([__version__, data.fingerprint, asked])
