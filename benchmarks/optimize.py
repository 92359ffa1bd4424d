"""What INT8 gains in speed and size, and what it keeps of answers and reasons.

    python -m venv olive && olive/bin/pip install olive-ai onnxruntime torch requests
    python benchmarks/optimize.py FOLDER --olive olive/bin/python --out runs/optimize

FOLDER holds a folder a set, with NAME_TRAIN.tsv and NAME_TEST.tsv of the UCR archive. Two tables,
each of one run on one thread. The first: INT8 for ONNX Runtime against the exported FP32 file, in
size and time, on series of 512 time steps; weights are drawn at random, for neither depends on
them. The second, a trained student a set: what search and recovery make of it, against
`quantize_static` with its defaults and against Olive's `OnnxStaticQuantization` with its own, all
given the same exported model and the same calibration series. Every seed has its own split, teacher
and student, and a few dozen series decide an agreement: the table has the means over the seeds.
Settings are chosen on validation series; the table is of the test split.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgedistill.cli.output import progress
from edgedistill.data import Prepared
from edgedistill.data.splits import stratified_series
from edgedistill.device.benchmark import measure_interleaved
from edgedistill.device.telemetry import environment
from edgedistill.evaluation.contract import Contract
from edgedistill.evaluation.evaluate import evaluate
from edgedistill.export.export import export
from edgedistill.io.arrays import Floats
from edgedistill.io.files import read_json, write_json
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.variants import variants
from edgedistill.pipeline.run import compress
from edgedistill.pipeline.run_folder import ONNX
from edgedistill.pipeline.scoring import with_report_estimates
from edgedistill.pipeline.stages.data import prepare_data
from edgedistill.pipeline.stages.teacher import open_teacher_outputs, perturbation_plan
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.runtimes.instructions import instruction_set
from edgedistill.runtimes.onnxruntime import OrtRuntime

LENGTH = 512
SPEED_SET = "OSULeaf"  # of which the calibration series of the first table are
STUDENTS = (
    *(ModelSpec(family="fcn", width=width) for width in (8, 16, 32, 64, 128)),
    *(ModelSpec(family="lite", width=width) for width in (16, 32, 64, 128)),
    *(ModelSpec(family="resnet", width=width) for width in (16, 32)),
    *(ModelSpec(family="inception", width=width) for width in (8, 16)),
    *(ModelSpec(family="lstm", width=width, depth=1) for width in (16, 64)),
)
SETS = ("SwedishLeaf", "Adiac", "ECG200", "Strawberry", "PhalangesOutlinesCorrect")
TEACHER_EPOCHS = {"Strawberry": 40, "PhalangesOutlinesCorrect": 40}  # they have more series
# Of 20 epochs at 0.001 and 0.003, and 60 at 0.003, the last brought 8-bit students of SwedishLeaf
# and Adiac nearest to the teacher on validation series
RECOVERY = {"always": True, "epochs": 60, "learning_rate": 0.003}
# Of students with more than 100,000 parameters the size; losses against FP32 at most
AIMS = {"speed": 2.5, "size": 0.35, "agreement": 0.005, "saliency_pearson": 0.01}

OLIVE = '''
import sys
from pathlib import Path
from olive.workflows import run

model, series, folder = sys.argv[1:]
script = Path(folder) / "series.py"
script.write_text(f"""
import numpy as np
from olive.data.registry import Registry

class Series:
    def __init__(self):
        self.series = np.load({series!r})

    def __len__(self):
        return len(self.series)

    def __getitem__(self, index):
        return {{"series": self.series[index]}}, 0

@Registry.register_dataset("series")
def series(**_):
    return Series()
""")
run({
    "input_model": {"type": "ONNXModel", "model_path": model},
    "data_configs": [{
        "name": "calibration",
        "user_script": str(script),
        "load_dataset_config": {"type": "series"},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
    }],
    "passes": {"int8": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
    "output_dir": str(Path(folder) / "out"),
    "cache_dir": str(Path(folder) / "cache"),
})
'''


@dataclass(frozen=True)
class Gain:
    """INT8 against the exported FP32 file of one student."""

    student: str
    parameters: int
    size: float  # share of the FP32 file
    fp32_ms: float
    speed: float  # times the FP32 file's, as fast as the processor can
    exact_speed: float  # in the exact mode, which differs on x86 without VNNI


@dataclass(frozen=True)
class Kept:
    """One file of one set and seed, on the test split."""

    set: str
    seed: int
    model: str
    size_bytes: int
    speed: float  # times the FP32 file's
    accuracy: float
    agreement: float  # with the teacher
    kl: float
    saliency_pearson: float


def main() -> None:
    """Measure both, print both, write both."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    gains = [_gain(spec, options.folder) for spec in STUDENTS] if options.speed else []
    kept = [
        r for name in options.sets for seed in options.seeds for r in _kept(name, seed, options)
    ]
    _print(gains, kept)
    cpu = {**environment(), "instructions": instruction_set().name}
    facts = {"environment": cpu, "aims": AIMS}
    rows = {"speed": [asdict(g) for g in gains], "quality": [asdict(k) for k in kept]}
    write_json(options.out / "optimize.json", facts | rows)


def _gain(spec: ModelSpec, folder: Path) -> Gain:
    recipe = _load({"data": {"train": str(folder / SPEED_SET), "length": LENGTH}})
    data = prepare_data(recipe)
    series = data.train.x
    torch.manual_seed(0)
    network = build(spec, channels=1, classes=data.classes, length=LENGTH)
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / ONNX
        export(network, path, series[:64])
        (int8,) = variants(path, series, Path(scratch), ["int8"])
        timed = [OrtRuntime(p, exact_int8=False) for p in (path, int8.path)]
        before, after, exact = measure_interleaved([*timed, OrtRuntime(int8.path)], series[:1])
        return Gain(
            student=f"{spec.family} {spec.width}",
            parameters=sum(p.numel() for p in network.parameters()),
            size=int8.size_bytes / path.stat().st_size,
            fp32_ms=before.value,
            speed=before.value / after.value,
            exact_speed=before.value / exact.value,
        )


def _kept(name: str, seed: int, options: argparse.Namespace) -> list[Kept]:
    """Return a row for the float student, for ours, and for every rival."""
    recipe = _recipe(name, seed, options.folder)
    out = options.out / f"{name}-{seed}"
    with progress() as tell:
        compress(recipe, out, tell)
    data = prepare_data(recipe)
    exported = out / "model" / ONNX
    files = {
        "FP32": exported,
        "INT8 of all nodes": out / "variants" / "ort-int8.onnx",
        "after search and recovery": _last_word(out / "variants"),
        **_rivals(exported, recipe, data, out, options.olive),
    }
    return _measured(name, files, recipe, data, out / "teacher")


def _last_word(folder: Path) -> Path:
    """Return the smallest file that keeps the contract on validation series, or the nearest."""
    found = {"ort-mixed": read_json(folder / "search.json")}
    recovery = read_json(folder / "recovery.json")
    if recovery["taken"]:
        found["ort-recovered"] = recovery["search"]
    kept = [name for name, account in found.items() if account["kept"]]
    paths = [folder / f"{name}.onnx" for name in kept or list(found)[-1:]]
    there = [path for path in paths if path.exists()]  # not if it is the plain one
    return min(there, key=lambda path: path.stat().st_size, default=folder / "ort-int8.onnx")


def _rivals(
    exported: Path, recipe: Recipe, data: Prepared, out: Path, olive: Path | None
) -> dict[str, Path]:
    """Make what others make of the exported file, with the settings that they come with."""
    series = stratified_series(data.train, recipe.optimize.calibration, recipe.seed)
    folder = out / "rivals"
    folder.mkdir(exist_ok=True)
    prepared, plain = folder / "prepared.onnx", folder / "quantize_static.onnx"
    quant_pre_process(exported, prepared)
    quantization.quantize_static(prepared, plain, _Reader(series))
    found = {"quantize_static": plain}
    if olive is not None:
        np.save(folder / "series.npy", series)
        subprocess.run(
            [str(olive), "-c", OLIVE, str(exported), str(folder / "series.npy"), str(folder)],
            check=True,
            env={**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"},
            stdout=subprocess.DEVNULL,
        )
        found["Olive"] = folder / "out" / "model.onnx"
    return found


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # ships no types
    """Hands the calibration series over one at a time."""

    def __init__(self, series: Floats) -> None:
        self._feeds = ({"series": one[None]} for one in series)

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next series, or None after the last."""
        return next(self._feeds, None)


def _measured(
    name: str, files: Mapping[str, Path], recipe: Recipe, data: Prepared, teacher: Path
) -> list[Kept]:
    knowledge, _ = open_teacher_outputs(teacher)
    plan = perturbation_plan(recipe, data.length)
    runtimes = [OrtRuntime(path) for path in files.values()]
    timed = [OrtRuntime(path, exact_int8=False) for path in files.values()]
    times = measure_interleaved(timed, data.test.x[:1])
    x, y = data.test.x, data.test.y
    rows = []
    for (model, path), runtime, time_ms in zip(files.items(), runtimes, times, strict=True):
        measured = evaluate(runtime, x, y, knowledge.splits["test"], plan)
        estimates = with_report_estimates(measured, y).estimates
        values = {key: found.value for key, found in estimates.items()}
        rows.append(
            Kept(
                set=name,
                seed=recipe.seed,
                model=model,
                size_bytes=path.stat().st_size,
                speed=times[0].value / time_ms.value,
                accuracy=values["accuracy"],
                agreement=values["agreement"],
                kl=values["kl"],
                saliency_pearson=values["saliency_pearson"],
            )
        )
    return rows


def _recipe(name: str, seed: int, folder: Path) -> Recipe:
    return _load(
        {
            "seed": seed,
            "data": {"train": str(folder / name)},
            "teacher": {
                "family": "resnet",
                "width": 32,
                "training": {"epochs": TEACHER_EPOCHS.get(name, 100)},
            },
            "student": {
                "family": "fcn",
                "width": 32,
                "objectives": [
                    {"name": "cross_entropy"},
                    {"name": "kd"},
                    {"name": "tsd_maps", "start": 0.5},
                ],
                "training": {"epochs": 100, "learning_rate": 0.01},
            },
            "references": {"floor": False, "ceiling": False},
            # The losses of the search are the only clauses.
            "contract": {clause.name: None for clause in fields(Contract)},
            "optimize": {
                "precisions": ["fp32", "int8"],
                "search": {
                    "agreement_loss": AIMS["agreement"],
                    "saliency_loss": AIMS["saliency_pearson"],
                },
                "recover": RECOVERY,
            },
        }
    )


def _print(gains: list[Gain], kept: list[Kept]) -> None:
    if gains:
        print(
            "| student, T=512 | parameters | size | FP32, ms | speed | exact |\n"
            "|---|---:|---:|---:|---:|---:|"
        )
    for gain in gains:
        print(
            f"| {gain.student} | {gain.parameters:,} | {gain.size:.2f} | {gain.fp32_ms:.3f} "
            f"| {gain.speed:.2f}x | {gain.exact_speed:.2f}x |"
        )
    print(
        "\n| set | model | bytes | speed | accuracy | agreement | KL | Pearson |"
        "\n|---|---|---:|---:|---:|---:|---:|---:|"
    )
    for name, model in dict.fromkeys((row.set, row.model) for row in kept):
        mean = partial(_mean, [row for row in kept if (row.set, row.model) == (name, model)])
        print(
            f"| {name} | {model} | {mean('size_bytes'):,.0f} | {mean('speed'):.2f}x "
            f"| {mean('accuracy'):.3f} | {mean('agreement'):.4f} | {mean('kl'):.4f} "
            f"| {mean('saliency_pearson'):.4f} |"
        )


def _mean(rows: list[Kept], column: str) -> float:
    return float(np.mean([getattr(row, column) for row in rows]))


def _load(values: dict[str, Any]) -> Recipe:
    return config.parse(yaml.safe_dump(values))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="holds a folder a set of the UCR archive")
    parser.add_argument("--out", type=Path, default=Path("runs/optimize"))
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--olive", type=Path, help="Python of an environment with Olive")
    parser.add_argument(
        "--no-speed", dest="speed", action="store_false", help="leave the first table out"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
