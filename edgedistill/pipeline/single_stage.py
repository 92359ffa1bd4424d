"""Single stages on files, one for each command of that name.

Each returns facts to print: names to numbers and texts, and `data`, what was read. That is given to
`on_data` too, before the stage. A stage is imported once the data are read, because it loads torch:
a wrong recipe or wrong data are refused without.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgedistill.errors import UsageError
from edgedistill.evaluation import metrics
from edgedistill.io.files import read_json
from edgedistill.io.progress import ProgressCallback
from edgedistill.pipeline.keys import Stage, stage_key
from edgedistill.pipeline.run_folder import EXPORT_FACTS, REPORT_JSON, TRIALS
from edgedistill.pipeline.stage_folder import make_stage
from edgedistill.pipeline.stages.data import DataCallback, ignore_data, prepare_data, report_data
from edgedistill.recipe.recipe import Recipe
from edgedistill.report import Report, from_json
from edgedistill.training.config import FACTS

Facts = dict[str, Any]


def train(
    recipe: Recipe, out: Path, on_progress: ProgressCallback, on_data: DataCallback = ignore_data
) -> Facts:
    """Run the teacher stage."""
    data = prepare_data(recipe, on_data)
    from edgedistill.pipeline.stages.teacher import make_teacher, open_teacher_outputs

    make_stage(
        out,
        stage_key("teacher", recipe, data),
        lambda f, work: make_teacher(recipe, data, f, work, on_progress),
    )
    teacher_outputs, facts = open_teacher_outputs(out)
    outputs = teacher_outputs.splits["validation"]
    hits = metrics.correct(outputs.logits, data.validation.y)
    return {
        "teacher": facts["name"],
        **_cost(out),
        "validation_accuracy": float(hits.mean()),
        "can_explain": teacher_outputs.maps,
        "data": asdict(report_data(data)),
        **({"notes": facts["notes"]} if facts.get("notes") else {}),
    }


def distill(
    recipe: Recipe,
    teacher: Path,
    out: Path,
    on_progress: ProgressCallback,
    on_data: DataCallback = ignore_data,
) -> Facts:
    """Run the student stage."""
    data = prepare_data(recipe, on_data)
    from edgedistill.pipeline.stages.student import make_student

    make_stage(
        out,
        stage_key("student", recipe, data, {"teacher": teacher}),
        lambda f, work: make_student(recipe, data, teacher, f, work, on_progress),
    )
    search = read_json(out / TRIALS)
    chosen = search["trials"][search["chosen"]]
    return {
        **_cost(out),
        "weights": chosen["weights"],
        "validation_accuracy": chosen["accuracy"],
        "validation_kl": chosen["kl"],
        "validation_saliency_pearson": chosen["saliency_pearson"],
        "epochs_trained": search["epochs"]["trained"],  # of all candidates
        "epochs_in_full": search["epochs"]["of_all_in_full"],
        "data": asdict(report_data(data)),
    }


def export(
    recipe: Recipe,
    student: Path,
    out: Path,
    on_progress: ProgressCallback,
    on_data: DataCallback = ignore_data,
    *,
    with_saliency: bool = False,
) -> Facts:
    """Run the export stage; with saliency, the recipe's plan goes into a second file."""
    data = prepare_data(recipe, on_data)
    from edgedistill.pipeline.stages.export import export_student
    from edgedistill.pipeline.stages.teacher import perturbation_plan

    plan = perturbation_plan(recipe, data.length) if with_saliency else None
    options = None if plan is None else {"plan": plan.to_dict()}
    make_stage(
        out,
        stage_key("model", recipe, data, {"student": student}, options=options),
        lambda f, _: export_student(data, student, f, on_progress, plan=plan),
    )
    return {**read_json(out / EXPORT_FACTS), "data": asdict(report_data(data))}


def optimize(
    recipe: Recipe,
    model: Path,
    out: Path,
    on_progress: ProgressCallback,
    on_data: DataCallback = ignore_data,
    *,
    teacher: Path | None = None,
) -> Facts:
    """Run the variant stage; a mixed-precision search compares its candidates with the teacher.

    Raises:
        UsageError: the recipe asks for a search, and there is no teacher.
    """
    searches = recipe.optimize.search is not None
    if searches and teacher is None:
        raise UsageError(
            "A search measures every candidate against the teacher. Name the folder that `train` "
            "wrote with --teacher."
        )
    data = prepare_data(recipe, on_data)
    from edgedistill.optimize.optimize import RECOVERY_JSON, SEARCH_JSON
    from edgedistill.optimize.variant_folder import VARIANTS, open_failures
    from edgedistill.pipeline.stages.variants import make_variants

    inputs: dict[Stage, Path] = {"model": model}
    if searches and teacher is not None:
        inputs["teacher"] = teacher
    make_stage(
        out,
        stage_key("variants", recipe, data, inputs),
        lambda folder, work: make_variants(recipe, data, teacher, model, folder, work, on_progress),
    )
    listed = read_json(out / VARIANTS)
    facts: Facts = {"model": listed["notes"]} if "notes" in listed else {}
    facts |= {each["path"]: {"size_bytes": each["size_bytes"]} for each in listed["variants"]}
    failures = open_failures(out)
    facts |= {f"{name}.onnx": {"not_made": reason} for name, reason in failures.items()}
    if (out / RECOVERY_JSON).exists():
        recovery = read_json(out / RECOVERY_JSON)
        facts["recovery"] = {name: recovery[name] for name in ("taken", "reason")}
    facts["data"] = asdict(report_data(data))
    search = out / SEARCH_JSON
    return facts | ({"search": read_json(search)} if search.exists() else {})


def bundle(
    recipe: Recipe,
    teacher: Path,
    student: Path,
    variants: Path,
    out: Path,
    on_progress: ProgressCallback,
    on_data: DataCallback = ignore_data,
) -> Report:
    """Run the last stage and return its report."""
    data = prepare_data(recipe, on_data)
    from edgedistill.pipeline.stages.result import make_result

    inputs: dict[Stage, Path] = {"teacher": teacher, "student": student, "variants": variants}
    make_stage(
        out,
        stage_key("result", recipe, data, inputs),
        lambda f, _: make_result(recipe, data, teacher, student, variants, f, on_progress),
    )
    return from_json(read_json(out / REPORT_JSON))


def _cost(folder: Path) -> Facts:
    """Return the cost of a network trained here; empty for an external teacher."""
    if not (folder / FACTS).exists():
        return {}
    cost: Facts = read_json(folder / FACTS)["cost"]
    return cost
