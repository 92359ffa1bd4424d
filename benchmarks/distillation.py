"""Does TSD with KD copy the teacher's reasons better than KD alone, at no lower accuracy?

    python benchmarks/distillation.py FOLDER --sets ECG200 SyntheticControl SwedishLeaf

FOLDER holds a folder a set, with NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive. Both
methods start from the same weights, see the same series for the same epochs, and are scored on
the test split under the same plan. The weight of the saliency term is chosen on validation
series. One teacher a set; a second teacher from another seed is the ceiling, an untrained
student the floor. A stopped run resumes where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.data import Prepared
from edgedistill.evaluation.evaluate import Evaluation, evaluate, map_agreement
from edgedistill.io.files import fingerprint, read_json, write_json
from edgedistill.pipeline.run_folder import TRIALS
from edgedistill.pipeline.scoring import with_report_estimates
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage, versions
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import (
    make_teacher,
    open_teacher_outputs,
    perturbation_plan,
)
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.saliency.perturbation import unseen_plan
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training import networks

KD = [
    {"name": "cross_entropy", "weight": 0.1},
    {"name": "kd", "weight": 0.9, "temperature": 4.0},
]
MAPS = {"name": "tsd_maps", "weight": [1.0, 2.0, 5.0], "start": 1 / 3}
METHODS = {"KD": KD, "TSD + KD": [*KD, MAPS]}
SCORES = ("accuracy", "agreement", "kl", "saliency_pearson", "unseen_pearson")


def main() -> None:
    """Run what is missing, print the table, write it as JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.sets:
        rows += measure_set(name, options)
        print(table(rows), flush=True)
    facts = {"versions": versions(), "seeds": options.seeds, "width": options.width}
    write_json(options.out / f"distillation-{options.width}.json", {**facts, "rows": rows})


def measure_set(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each method, and one for floor and ceiling."""
    recipe = _recipe(name, options, KD)
    data = prepare_data(recipe)
    teacher = options.work / name / "teacher"
    values = recipe.to_dict()
    key = fingerprint([data.fingerprint, values["teacher"], values["saliency"]])
    if not is_unchanged(teacher, key):
        make_stage(teacher, key, lambda f, work: make_teacher(recipe, data, f, work))
    knowledge, facts = open_teacher_outputs(teacher)
    rows = [_row(name, "teacher", [_score(knowledge.splits["test"], data, knowledge)])]
    rows[0]["saliency_pearson"] = rows[0]["unseen_pearson"] = None
    for method, objectives in METHODS.items():
        found = [
            _student(name, method, seed, _recipe(name, options, objectives), data, teacher, options)
            for seed in range(options.seeds)
        ]
        rows.append(_row(name, method, found))
    ceiling = {"saliency_pearson": statistics.mean(facts["ceiling"])}
    return [*rows, {"set": name, "method": "ceiling: second teacher", **ceiling}]


def _student(
    name: str,
    method: str,
    seed: int,
    recipe: Recipe,
    data: Prepared,
    teacher: Path,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Return the test scores of one student, distilled unless that was done before."""
    recipe = recipe.model_copy(update={"seed": seed})
    folder = options.work / name / f"{method.replace(' ', '')}-{options.width}-{seed}"
    key = fingerprint([data.fingerprint, recipe.to_dict()])
    if not is_unchanged(folder, key):
        make_stage(folder, key, lambda f, work: make_student(recipe, data, teacher, f, work))
    knowledge, _ = open_teacher_outputs(teacher)
    module, _ = networks.open_network(folder)
    student = TorchClassifier(module, classes=data.classes, name="student")
    plan = perturbation_plan(recipe, data.length)
    scores = _score(
        evaluate(student, data.test.x, data.test.y, knowledge.splits["test"], plan), data
    )
    unseen = map_agreement(student, data.test.x, unseen_plan(plan), knowledge.unseen)
    scores["unseen_pearson"] = float(unseen.mean())
    found = read_json(folder / TRIALS)
    weights = found["trials"][found["chosen"]]["weights"]
    print(f"{name} {method} seed {seed}: {scores} weights {weights}", flush=True)
    return scores


def _score(evaluation: Evaluation, data: Prepared) -> dict[str, float]:
    estimates = with_report_estimates(evaluation, data.test.y).estimates
    return {name: estimates[name].value for name in SCORES if name in estimates}


def _row(name: str, method: str, scores: list[dict[str, float]]) -> dict[str, Any]:
    """Return the mean over seeds of every score, and the spread of two of them."""
    row: dict[str, Any] = {"set": name, "method": method}
    for score in SCORES:
        values = [one[score] for one in scores if score in one]
        row[score] = float(np.mean(values)) if values else None
    row["accuracy_std"] = float(np.std([one["accuracy"] for one in scores]))
    row["saliency_pearson_std"] = float(np.std([one["saliency_pearson"] for one in scores]))
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, with the gain of TSD + KD over KD."""
    head = ("set", "method", "accuracy", "agreement", "KL", "Pearson", "Pearson, unseen plan")
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for row in rows:
        cells = [_cell(row.get(score)) for score in SCORES]
        lines.append(" | ".join((row["set"], row["method"], *cells)))
    by = {(row["set"], row["method"]): row for row in rows}
    for name in dict.fromkeys(row["set"] for row in rows):
        ours, rival = by[name, "TSD + KD"], by[name, "KD"]
        cells = [f"{ours[s] - rival[s]:+.3f}" for s in SCORES]
        lines.append(" | ".join((name, "gain over KD", *cells)))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _recipe(name: str, options: argparse.Namespace, objectives: list[dict[str, Any]]) -> Recipe:
    settings = {
        "data": {"train": str(options.folder / name)},
        "student": {"objectives": objectives, "width": options.width},
    }
    return config.parse(json.dumps(settings), origin="benchmarks/distillation.py")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=["ECG200", "SyntheticControl", "SwedishLeaf"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="of the FCN student")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-distillation"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
