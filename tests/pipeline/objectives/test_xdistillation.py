"""A student that predicts its teacher's map, by recipe: trained, resumed, kept, exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgedistill.attribution import correlation
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import WeightedObjective, build_objective
from edgedistill.distillation.objectives.baselines.xdistillation import normalized_map
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json
from edgedistill.models import SelfExplainingNetwork
from edgedistill.optimize.variant_folder import open_variants
from edgedistill.pipeline.run_folder import EXPORT_FACTS, ONNX, TRIALS
from edgedistill.pipeline.stages.export import EXPLANATION, export_student
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs, perturbation_plan
from edgedistill.pipeline.stages.variants import make_variants
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.training import networks
from edgedistill.training.config import RunOutputs
from edgedistill.training.fit import fit

pytestmark = pytest.mark.slow

TSD = "{name: tsd, windows: 4, width: 6, bank: 4}"
TERMS = f"[{{name: cross_entropy}}, {{name: xdistillation}}, {TSD}]"


def explained(recipe: Recipe, *settings: str, terms: str = TERMS) -> Recipe:
    return config.parse(config.dump(recipe), [f"student.objectives={terms}", *settings])


def distilled(recipe: Recipe, data, stages: Path, folder: Path) -> Path:
    """Return the folder of a student."""
    for name in ("out", "work"):
        (folder / name).mkdir()
    make_student(recipe, data, stages / "teacher", folder / "out", folder / "work")
    return folder / "out"


@pytest.fixture(scope="module")
def student(recipe, data, stages, tmp_path_factory) -> Path:
    """The folder of a student that learned for two epochs."""
    return distilled(explained(recipe), data, stages, tmp_path_factory.mktemp("explained"))


def test_folder_has_a_self_explaining_student(student):
    """Beside cross-entropy and TSD, by its name alone; the folder holds all of it."""
    model, facts = networks.open_network(student)

    weights = read_json(student / TRIALS)["trials"][0]["weights"]
    assert weights == {"cross_entropy": 1, "xdistillation": 1, "tsd": 1}
    assert isinstance(model, SelfExplainingNetwork)
    assert facts["spec"]["explained"] is True
    losses = [epoch["train_loss"] for epoch in facts["history"]]
    assert len(losses) == 2
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("family", ["lstm", "inception"])
def test_any_family_beside_objectives_of_layers(recipe, data, stages, tmp_path, family):
    """Objectives of layers and embeddings go along."""
    terms = "[{name: xdistillation, weight: 2}, {name: at}, {name: rkd}, {name: sskd}]"
    settings = [f"student.family={family}", "student.width=3", "student.depth=2"]
    changed = explained(recipe, *settings, "student.training.epochs=1", terms=terms)

    _, facts = networks.open_network(distilled(changed, data, stages, tmp_path))

    assert np.isfinite(facts["history"][0]["validation_loss"])


def test_objective_adds_the_decoder_to_the_same_initial_network(recipe, data):
    """The same seed begins with the same network."""
    plain = networks.build_untrained(recipe.student.spec, data, seed=3)
    model = networks.build_untrained(explained(recipe).student.spec, data, seed=3)

    assert not isinstance(plain, SelfExplainingNetwork)
    assert isinstance(model, SelfExplainingNetwork)
    shared = model.network.state_dict()
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in shared.items())
    assert not recipe.teacher.explained


def test_saved_network_is_opened_with_its_decoder(recipe, data, tmp_path):
    section, series = explained(recipe).student, torch.from_numpy(data.test.x)
    model = networks.build_untrained(section.spec, data, seed=0).eval()

    networks.save(model, section.spec, data, [], tmp_path)
    opened, _ = networks.open_network(tmp_path)

    with torch.no_grad():
        pairs = zip(opened.explain(series), model.explain(series), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def terms_of(recipe: Recipe, context: ObjectiveContext) -> list[WeightedObjective]:
    return [
        WeightedObjective(objective=build_objective(section, context))
        for section in recipe.student.objectives
    ]


def test_student_predicts_the_map_of_test_series(recipe, data, stages, context_of):
    """Of series that it was not trained on, and better than the map of any other series."""
    changed = explained(recipe, terms="[{name: cross_entropy}, {name: xdistillation}]")
    context = context_of(changed)
    terms = terms_of(changed, context)
    settings = replace(recipe.student.training, epochs=60, learning_rate=0.01, select="last")
    target = normalized_map(
        open_teacher_outputs(stages / "teacher")[0].splits["test"],
        perturbation_plan(recipe, data.length),
    )

    fit(context.student, terms, context.data, settings, seed=0)

    with torch.no_grad():
        predicted = context.student.explain(torch.from_numpy(data.test.x))[1]
    match, other = (float(correlation(m, target).mean()) for m in (predicted, predicted.roll(1, 0)))
    assert match > 0.3
    assert match > other + 0.15


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


def test_resumed_run_ends_with_the_same_weights(recipe, tmp_path, context_of):
    """Bit for bit, the decoder of the map included."""
    changed = explained(recipe, "student.training.epochs=4")

    def run(folder: str, **options) -> nn.Module:
        context = context_of(changed)
        terms = terms_of(changed, context)
        outputs = RunOutputs(checkpoint=tmp_path / folder)
        settings = changed.student.training
        fit(context.student, terms, context.data, settings, seed=0, outputs=outputs, **options)
        return context.student

    def stop(epoch) -> None:
        if epoch.epoch == 3:
            raise Killed

    whole = run("whole")
    with pytest.raises(Killed):
        run("killed", on_epoch=stop)
    assert (tmp_path / "killed").exists()
    resumed = run("killed")

    pairs = zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


def test_logits_alone_are_exported_without_saliency(recipe, data, student, tmp_path):
    """Every variant is made of them, without the decoder of the map."""
    export_student(data, student, tmp_path)
    make_variants(recipe, data, None, tmp_path / ONNX, tmp_path, tmp_path / ".work" / "variants")

    session = onnxruntime.InferenceSession(str(tmp_path / ONNX))
    assert [o.name for o in session.get_outputs()] == ["logits"]
    assert not (tmp_path / EXPLANATION).exists()
    assert {model.precision for model in open_variants(tmp_path)} == {"fp32", "int8"}
    parameters = sum(p.numel() for p in networks.open_network(student)[0].parameters())
    weights = onnx.load(tmp_path / ONNX).graph.initializer
    assert sum(int(np.prod(w.dims)) for w in weights) < parameters - 900  # the decoder's


def test_predicted_map_is_exported_with_saliency(recipe, data, student, tmp_path):
    plan = perturbation_plan(recipe, data.length)

    export_student(data, student, tmp_path, plan=plan)

    session = onnxruntime.InferenceSession(str(tmp_path / EXPLANATION))
    logits, predicted = session.run(None, {"series": data.test.x})
    model, _ = networks.open_network(student)
    with torch.no_grad():
        expected = model.explain(torch.from_numpy(data.test.x))
    np.testing.assert_allclose(logits, expected[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(predicted, expected[1].numpy(), atol=1e-5)
    facts = json.loads((tmp_path / EXPORT_FACTS).read_text())
    assert facts[EXPLANATION]["size_bytes"] == (tmp_path / EXPLANATION).stat().st_size


def test_later_start_is_refused(recipe):
    """Nothing else trains the decoder of the map."""
    with pytest.raises(ConfigError, match=r"start is 0\.5\. Input should be less than or equal to"):
        explained(recipe, terms="[{name: xdistillation, start: 0.5}]")
