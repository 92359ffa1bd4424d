"""Scores of a student and of a set in an experiment, on the test split.

Three measures are of the validation split: settings are compared by them. The mean
measures are those of the report; the agreement of maps has its median and 10th percentile
too, because a mean hides a student that is right for other reasons on a tenth of the
series.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgedistill.data import Prepared
from edgedistill.evaluation import metrics
from edgedistill.evaluation.evaluate import (
    evaluate,
    evaluate_explanation,
    explain_teacher_class,
)
from edgedistill.io.files import read_json
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.scoring import with_report_estimates
from edgedistill.pipeline.stages.evaluate import floor_agreement
from edgedistill.pipeline.stages.teacher import perturbation_plan
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.occlusion import Explanation
from edgedistill.saliency.perturbation import unseen_plan
from edgedistill.teachers import TorchClassifier
from edgedistill.teachers.outputs import TeacherOutputs
from edgedistill.training import networks

Scores = dict[str, float | int | str | None]
_MEASURES = ("accuracy", "auc_prc", "roc_auc", "agreement", "kl", "ece")


def student_scores(
    recipe: Recipe, data: Prepared, folder: Path, teacher_outputs: TeacherOutputs
) -> Scores:
    """Measure the student in a folder of the student stage.

    Args:
        recipe: recipe of the student, with the plan of the maps.
        data: data set with the held-out series.
        folder: folder of the student.
        teacher_outputs: logits and maps of the teacher.
    """
    module, facts = networks.open_network(folder)
    student = TorchClassifier(module, classes=data.classes, name="student")
    plan = perturbation_plan(recipe, data.length)
    teacher = teacher_outputs.splits["test"]
    evaluation = with_report_estimates(
        evaluate(student, data.test.x, data.test.y, teacher, plan), data.test.y
    )
    scores: Scores = {name: evaluation.estimates[name].value for name in _MEASURES}
    if teacher_outputs.maps:
        unseen = explain_teacher_class(
            student, data.test.x, unseen_plan(plan), teacher_outputs.unseen
        )
        scores |= map_scores("saliency", teacher, evaluation.explanation)
        scores |= map_scores("unseen", teacher_outputs.unseen, unseen)
    trials = read_json(folder / TRIALS)
    chosen = trials["trials"][trials["chosen"]]
    return {
        **scores,
        "validation_accuracy": chosen["accuracy"],
        "validation_kl": chosen["kl"],
        "validation_pearson": chosen["saliency_pearson"],
        "parameters": facts["cost"]["parameters"],
        "weights": json.dumps(chosen["weights"], sort_keys=True),
    }


def map_scores(plan: str, teacher: Explanation, student: Explanation) -> Scores:
    """Agreement of the signed maps of teacher and student, under the plan of that name."""
    pearson = metrics.pearson(teacher.signed, student.signed)
    spearman = metrics.spearman(teacher.signed, student.signed)
    top = metrics.top_sign_agreement(teacher.signed, student.signed)
    return {
        f"{plan}_pearson": float(pearson.mean()),
        f"{plan}_pearson_median": float(np.median(pearson)),
        f"{plan}_pearson_p10": float(np.percentile(pearson, 10)),
        f"{plan}_spearman": float(spearman.mean()),
        f"{plan}_top_sign": float(top.mean()),
    }


def reference_scores(
    recipe: Recipe, data: Prepared, teacher_outputs: TeacherOutputs, ceiling: list[float] | None
) -> Scores:
    """Reference scores of a set: those of the teacher, a second teacher, an untrained student.

    Args:
        recipe: recipe that the students share; its student, untrained, is the floor.
        data: data set with the held-out series.
        teacher_outputs: logits and maps of the teacher.
        ceiling: Pearson of a second teacher's maps, one for each test series.
    """
    teacher = teacher_outputs.splits["test"]
    own = with_report_estimates(
        evaluate_explanation(teacher, data.test.y, teacher), data.test.y
    ).estimates
    floor = None
    if recipe.references.floor and teacher_outputs.maps:
        plan = perturbation_plan(recipe, data.length)
        floor = float(floor_agreement(recipe, data, teacher, plan).mean())
    return {
        "teacher_accuracy": own["accuracy"].value,
        "teacher_auc_prc": own["auc_prc"].value,
        "ceiling_pearson": None if ceiling is None else float(np.mean(ceiling)),
        "floor_pearson": floor,
    }
