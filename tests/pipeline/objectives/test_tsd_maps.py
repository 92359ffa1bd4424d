"""Whole maps by recipe: their plans, the teachers they come from, and what is cached."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import Batch, Objective, StudentOutputs, TSDMaps
from edgedistill.errors import ConfigError, DataError
from edgedistill.evaluation.evaluate import explain_teacher_class
from edgedistill.pipeline import objective_context
from edgedistill.pipeline.stages.teacher import open_teacher, open_teacher_outputs
from edgedistill.saliency.perturbation import PerturbationPlan
from edgedistill.teachers import TorchClassifier
from edgedistill.training import networks

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """An entry each time that the teacher is opened."""
    folders: list[str] = []

    def counted(recipe, data, folder):
        folders.append(folder.name)
        return open_teacher(recipe, data, folder)

    monkeypatch.setattr(objective_context, "open_teacher", counted)
    return folders


@pytest.fixture
def context(opened, recipe, context_of) -> ObjectiveContext:
    """The context of the tiny run, whose openings of the teacher are counted."""
    del opened
    return context_of(recipe)


@pytest.fixture
def tsd_maps(context, build):
    """A function from the settings of `tsd_maps` to the objective."""
    return lambda settings, context=context: build(f"name: tsd_maps, {settings}", context)


def outputs_of(context: ObjectiveContext, objective: Objective, batch: Batch) -> StudentOutputs:
    """The untrained student's outputs for an objective's windows, a copy at a time."""
    student = context.student.eval()
    windows = objective.windows(batch)
    changes = []
    with torch.no_grad():
        clean = student(batch.series)
        for part in windows.widths:
            for w in range(part.patches.shape[1]):
                copies = batch.series.clone()
                start = int(part.starts[0, w])
                copies[:, :, start : start + part.patches.shape[3]] = part.patches[:, w]
                changes.append(student(copies) - clean)
    return StudentOutputs(clean, windows, torch.stack(changes, dim=1))


def batch_of(context: ObjectiveContext, *rows: int) -> Batch:
    known, chosen = context.data, torch.tensor(rows)
    return Batch(chosen, known.series[chosen], known.labels[chosen])


@pytest.fixture(scope="module")
def plain(distill, weights_of) -> np.ndarray:
    """The weights of a student of the map of the shared plan."""
    return weights_of(distill("name: cross_entropy", "name: tsd_maps, weight: 1"))


@pytest.mark.parametrize(
    "settings",
    ["map: timesteps", "widths: [3, 8]", "widths: [4, 2, 6], map: timesteps", "sources: [SOURCE]"],
)
def test_settings_change_the_student(stages, distill, weights_of, plain, settings):
    """After two epochs it is another than by the map of the shared plan."""
    settings = settings.replace("SOURCE", str(stages / "student"))

    weights = weights_of(distill("name: cross_entropy", f"name: tsd_maps, {settings}"))

    assert np.abs(weights - plain).max() > 1e-4


def test_shared_plan_needs_no_other_maps(context, opened, tsd_maps, tmp_path):
    """Those of the teacher's outputs are compared."""
    objective = tsd_maps("weight: 2")

    assert isinstance(objective, TSDMaps)
    np.testing.assert_array_equal(objective.teacher_map.numpy(), context.explanation.signed)
    assert opened == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("map_", ["windows", "timesteps"])
def test_several_widths_are_the_mean_of_a_map_each(recipe, data, stages, context, tsd_maps, map_):
    """Each under a plan of its own, with the shared baseline and half its width as stride."""
    objective, batch = tsd_maps(f"widths: [3, 8], map: {map_}"), batch_of(context, 0, 5, 20)

    loss = objective(batch, outputs_of(context, objective, batch))

    teacher = open_teacher(recipe, data, stages / "teacher")
    losses = []
    for width, half in ((3, 1), (8, 4)):
        stride = half if map_ == "windows" else 1
        plan = PerturbationPlan(length=24, width=width, stride=stride)
        series = context.data.series.numpy()
        maps = explain_teacher_class(teacher, series, plan, context.explanation)
        alone = TSDMaps(replace(maps, logits=context.explanation.logits), plan, over=map_)
        losses.append(alone(batch, outputs_of(context, alone, batch)).item())
    assert loss.item() == pytest.approx(np.mean(losses), abs=1e-4)
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)


def test_maps_of_several_teachers_are_averaged(context, stages, tsd_maps):
    """Each divided by its norm, and all of the class that the first one predicts."""
    objective = tsd_maps(f"sources: [{stages / 'student'}]")

    module, _ = networks.open_network(stages / "student")
    other, series = TorchClassifier(module, classes=2), context.data.series.numpy()
    signed = explain_teacher_class(other, series, context.plan, context.explanation).signed
    units = [
        m / np.linalg.norm(m, axis=1, keepdims=True) for m in (context.explanation.signed, signed)
    ]
    np.testing.assert_allclose(objective.teacher_map.numpy(), sum(units) / 2, atol=1e-4)
    np.testing.assert_array_equal(
        objective.targets.numpy(), context.explanation.logits.argmax(axis=1)
    )


@pytest.mark.parametrize(
    ("first", "second", "times"),
    [
        ("widths: [6], map: timesteps", "widths: [6], map: timesteps, weight: 3, start: 0.5", 1),
        ("map: timesteps, widths: [3]", "map: timesteps, widths: [5, 3]", 2),
        ("widths: [4, 8]", "widths: [8]", 2),
    ],
    ids=["weight", "more widths", "fewer widths"],
)
def test_maps_of_a_plan_are_computed_once(
    context, opened, tsd_maps, tmp_path, first, second, times
):
    """Another student finds those that are cached, and computes only the others."""
    tsd_maps(first)
    tsd_maps(second, replace(context, seed=7))

    assert len(opened) == times
    assert len(list(tmp_path.glob("maps-*"))) == times


@pytest.mark.parametrize("change", ["baseline", "data", "teacher", "damage"])
def test_other_plan_series_teacher_or_damage_computes_maps_again(
    recipe, stages, context, context_of, tmp_path, opened, tsd_maps, change
):
    tsd_maps("widths: [3]")
    if change == "baseline":
        context = replace(context, plan=replace(context.plan, baseline="zero"))
    elif change == "data":
        louder = replace(context.data, series=context.data.series + 0.01)
        context = replace(context, data=louder)
    elif change == "teacher":
        shutil.copytree(stages / "teacher", tmp_path / "second")
        outputs, _ = open_teacher_outputs(stages / "teacher")
        other = replace(outputs, unseen=outputs.splits["test"])
        other.save(tmp_path / "second" / "knowledge.npz")
        context = context_of(recipe, tmp_path / "second")
    else:
        path = tmp_path / "maps-3-1" / "signed.npy"
        path.write_bytes(path.read_bytes()[:-1] + b"!")

    tsd_maps("widths: [3]", context)

    assert len(opened) == 2


def test_cached_maps_of_another_teacher_depend_on_its_logits(stages, tmp_path, tsd_maps):
    """The same file name with another network in it computes them again."""
    source, maps = tmp_path / "second.onnx", []
    for name in ("model/student.onnx", "variants/ort-int8.onnx"):
        shutil.copyfile(stages / name, source)
        maps.append(tsd_maps(f"sources: [{source}]").teacher_map)

    assert not torch.equal(*maps)
    assert len(list(tmp_path.glob("maps-*"))) == 1


def test_sources_are_other_teachers_of_the_student(stages, parse):
    section = parse(f"name: tsd_maps, sources: [{stages / 'student'}]")

    assert section.other_teachers == (str(stages / "student"),)


def test_file_of_logits_has_no_maps(context, data, tmp_path, build, tsd_maps):
    """Neither as the teacher nor as one of several."""
    table = tmp_path / "logits.npz"
    labels = {"train": context.data.labels, "test": data.test.y}
    np.savez(table, **{name: np.eye(2)[each] for name, each in labels.items()})

    with pytest.raises(ConfigError, match="The objective tsd_maps asks the teacher about pertur"):
        tsd_maps("map: timesteps", replace(context, has_maps=False))
    with pytest.raises(
        ConfigError, match=r"asks .*logits\.npz about pert.*Leave it out of sources"
    ):
        tsd_maps(f"sources: [{table}]")


def test_width_beyond_the_series_is_refused(tmp_path, tsd_maps):
    with pytest.raises(DataError, match="window of 25 steps does not fit a series of 24"):
        tsd_maps("widths: [25]")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
