"""Do series without labels bring a student nearer to its teacher, and to its reasons?

    python benchmarks/unlabeled.py FOLDER --sets ECG5000 Wafer StarLightCurves

FOLDER holds a folder a set, with NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive. The labels
are taken off a part of the training series: of the rest so many stay that 16 times as many
unlabeled ones are there, and 0, 1, 4 or 16 times as many are given. Every student has the same
teacher, trained on the labeled series, the same seed, and as many optimizer steps as the one
without unlabeled series has. A stopped run resumes where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.data import load
from edgedistill.experiment.jobs import student_scores
from edgedistill.io.files import write_json
from edgedistill.pipeline.run import run_stages
from edgedistill.pipeline.run_folder import RunFolder
from edgedistill.pipeline.stage_folder import versions
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe import recipe as config

TIMES = (0, 1, 4, 16)
SCORES = ("accuracy", "agreement", "kl", "saliency_pearson", "unseen_pearson")
OBJECTIVES = [{"name": "cross_entropy", "weight": 0.1}, {"name": "kd"}, {"name": "tsd_maps"}]


def main() -> None:
    """Run what is missing, print a row each, write all as JSON."""
    options = _options()
    torch.set_num_threads(1)
    rows = []
    for name in options.sets:
        for times in TIMES:
            rows.append({"set": name, "unlabeled": times, **measure(name, times, options)})
            print(json.dumps(rows[-1]), flush=True)
    write_json(options.out / "unlabeled.json", {"versions": versions(), "rows": rows})


def measure(name: str, times: int, options: argparse.Namespace) -> dict[str, float]:
    """Return the scores on the test split of a student with so many times unlabeled series."""
    folder = options.work / f"{name}-{times}"
    section = write_series(options.folder / name / f"{name}_TRAIN.tsv", times, folder / "data")
    section["test"] = str(options.folder / name / f"{name}_TEST.tsv")
    training = {"epochs": max(1, options.epochs // (1 + times)), "learning_rate": 0.01}
    student = {"width": options.width, "objectives": OBJECTIVES, "training": training}
    values: dict[str, Any] = {
        "data": section,
        "teacher": {"training": {"epochs": options.epochs}},
        "student": student,
        "references": {"ceiling": False},
    }
    recipe = config.parse("", file_overrides=values, origin="the benchmark")
    run_stages(recipe, folder, until="student")
    run = RunFolder(folder)
    outputs, _ = open_teacher_outputs(run.teacher)
    scores = student_scores(recipe, prepare_data(recipe), run.student, outputs)
    return {score: scores[score] for score in SCORES}


def write_series(path: Path, times: int, folder: Path) -> dict[str, str]:
    """Write one of 17 training series of each class with labels, and others without."""
    train = load(str(path)).train
    x, y = np.stack(train.series), np.array(train.labels)
    rng = np.random.default_rng(0)
    labeled, rest = [], []
    for label in sorted(set(y)):
        rows = rng.permutation(np.flatnonzero(y == label))
        count = max(3, len(rows) // 17)
        labeled += rows[:count].tolist()
        rest += rows[count:].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    section = {"train": str(folder / "labeled.npz")}
    np.savez(section["train"], x=x[labeled], y=y[labeled])
    if times:
        section["unlabeled"] = str(folder / "unlabeled.npz")
        np.savez(section["unlabeled"], x=x[rng.permutation(rest)[: times * len(labeled)]])
    return section


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=200, help="of teacher and plain student")
    parser.add_argument("--work", type=Path, default=Path("runs/unlabeled"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
