"""Objectives of a teacher's logits and maps, and the ablation controls, by recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgedistill.distillation import seeds
from edgedistill.distillation.objectives import KD, TSDMaps
from edgedistill.distillation.objectives.baselines.ablation_controls import (
    match_logit_scale,
)
from edgedistill.distillation.objectives.baselines.ensemble import Ensemble
from edgedistill.errors import ConfigError
from edgedistill.recipe import recipe as config
from edgedistill.saliency.occlusion import explain
from edgedistill.teachers import TorchClassifier
from edgedistill.training import networks


@pytest.mark.parametrize("name", ["e2kd", "ranking", "shuffled_saliency", "xdistillation"])
def test_file_of_logits_has_no_maps(context, build, name):
    with pytest.raises(ConfigError, match=rf"The objective {name} asks the teacher about pertur"):
        build(f"name: {name}", replace(context, has_maps=False))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            "name: dkd, alpha: 2, beta: 3, temperature: 5, warmup: 7",
            {"_alpha": 2, "_beta": 3, "_temperature": 5, "_warmup": 7},
        ),
        (
            "name: dist, beta: 2, gamma: 3, temperature: 5",
            {"_beta": 2, "_gamma": 3, "_temperature": 5},
        ),
        ("name: ranking, top: 0.01", {"_places": 1}),
        ("name: random_teacher, temperature: 5", {"temperature": 5}),
    ],
)
def test_settings_reach_the_objective(context, build, settings, expected):
    objective = build(settings, context)

    assert {name: getattr(objective, name) for name in expected} == expected


def test_ensemble_distills_from_the_teacher_and_its_sources(context, stages, build):
    model, _ = networks.open_network(stages / "student")
    other = TorchClassifier(model, classes=2).logits(context.data.series.numpy())

    for weighting, temperature in (("correctness", 4.0), ("agreement", 2.0)):
        settings = f"weighting: {weighting}, temperature: {temperature}"
        sources = f"sources: [{stages / 'student'}]"

        target = build(f"name: ensemble, {sources}, {settings}", context).teacher

        expected = Ensemble(
            [context.logits, torch.from_numpy(other)],
            context.data.labels,
            temperature=temperature,
            weighting=weighting,
        )
        torch.testing.assert_close(target, expected.teacher)


def test_ensemble_without_sources_is_refused():
    with pytest.raises(ConfigError, match=r"objectives\.0\.sources is \[\].*at least 1"):
        config.parse("", ["student.objectives=[{name: ensemble, sources: []}]"])


def test_shuffled_maps_are_the_teachers_of_other_series(context, build):
    """Training and validation series apart, about the classes of the series themselves."""
    border = len(context.data.train)

    objective = build("name: shuffled_saliency", context)

    own = torch.from_numpy(context.explanation.signed)
    assert isinstance(objective, TSDMaps)
    for rows in (slice(None, border), slice(border, None)):
        moved, maps = objective.teacher_map[rows], own[rows]
        assert (moved != maps).any(dim=1).all()
        assert sorted(moved.tolist()) == sorted(maps.tolist())
    np.testing.assert_array_equal(objective.targets.numpy(), context.logits.argmax(dim=1))


def test_random_teacher_is_an_untrained_network_of_the_teachers_kind(recipe, data, context, build):
    """The same for its logits and its maps, and not the network that the teacher began as."""
    module = networks.build_untrained(
        recipe.teacher.spec, data, seed=recipe.seed + seeds.RANDOM_TEACHER
    )
    untrained = TorchClassifier(module, classes=2)
    explanation = explain(untrained.logits, context.data.series.numpy(), context.plan)

    logits, maps = (build(f"name: random_{what}", context) for what in ("teacher", "saliency"))

    assert isinstance(logits, KD)
    expected = match_logit_scale(explanation.logits, context.explanation.logits)
    np.testing.assert_allclose(logits.teacher.numpy(), expected, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(maps.teacher_map.numpy(), explanation.signed, atol=1e-5)
    again = build("name: random_teacher", context)
    assert torch.equal(again.teacher, logits.teacher)
    initial = networks.build_untrained(recipe.teacher.spec, data, seed=recipe.seed)
    assert not torch.equal(next(initial.parameters()), next(module.parameters()))
