"""Teachers that are no torch module, distilled into a LITE of at most 10,000 parameters.

    python benchmarks/black_box.py FOLDER --sets ECG200 GunPoint --out runs/black-box

FOLDER holds a folder a set, with NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive. Two teachers
a set, fitted on the training split alone: aeon's MultiROCKET-Hydra, which has no gradients, as a
joblib file; and a ResNet of which only an ONNX file is left. KD against KD with whole saliency
maps, as an experiment: the folder ends with its table, report and figures.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import torch
import yaml

from edgedistill.cli.output import progress
from edgedistill.data import Prepared
from edgedistill.experiment import plan
from edgedistill.experiment import report as reporting
from edgedistill.experiment import run as running
from edgedistill.export.export import export
from edgedistill.pipeline.stage_folder import is_unchanged, make_stage
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.teacher import make_teacher
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.training import networks

KD = [{"name": "cross_entropy", "weight": 0.1}, {"name": "kd"}]
MAPS = {"name": "tsd_maps", "start": 0.3333}
METHODS = {"KD": KD, "KD + TSD maps": [*KD, MAPS]}


def main() -> None:
    """Make the teachers that are missing, run the experiment, write its report."""
    options = _options()
    sets = {}
    for name in options.sets:
        folder = (options.folder / name).resolve()
        recipe = _recipe(folder)
        data = prepare_data(recipe)
        for kind, make in (("MultiROCKET-Hydra", _estimator), ("ONNX", _onnx)):
            where = options.out.resolve() / "teachers" / f"{name}-{kind}"
            key = data.fingerprint
            if not is_unchanged(where, key):
                make_stage(where, key, partial(make, recipe, data))
            source = str(next(where.glob("teacher.*")))
            sets[f"{name} from {kind}"] = {
                "data": str(folder),
                "teacher": {"source": source, "trust": True},
            }
    written = {
        "recipe": {"student": {"family": "lite", "width": 24, "training": {"epochs": 100}}},
        "data": sets,
        "methods": {name: {"student": {"objectives": terms}} for name, terms in METHODS.items()},
        "seeds": options.seeds,
    }
    found = plan.parse(yaml.safe_dump(written, sort_keys=False))
    with progress() as tell:
        running.run(found, options.out, jobs=options.jobs, on_progress=tell)
    for sentence in reporting.write_report(options.out, "saliency_pearson").sentences:
        print(sentence)


def _recipe(folder: Path) -> Recipe:
    """Return the recipe of the ResNet; its data section is that of the students too."""
    teacher = {"family": "resnet", "width": 32, "training": {"epochs": 100}}
    values: dict[str, Any] = {"data": {"train": str(folder)}, "teacher": teacher}
    return config.parse("", file_overrides={**values, "references": {"ceiling": False}})


def _estimator(recipe: Recipe, data: Prepared, out: Path, work: Path) -> None:
    from aeon.classification.convolution_based import MultiRocketHydraClassifier

    del work
    estimator = MultiRocketHydraClassifier(random_state=recipe.seed)
    estimator.fit(data.train.x.astype("float64"), data.train.y)
    joblib.dump(estimator, out / "teacher.joblib")


def _onnx(recipe: Recipe, data: Prepared, out: Path, work: Path) -> None:
    trained = work / "resnet"
    trained.mkdir(parents=True, exist_ok=True)
    make_teacher(recipe, data, trained, work)
    module, _ = networks.open_network(trained)
    export(module, out / "teacher.onnx", data.train.x)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder a set, of the UCR archive")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/black-box"))
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
