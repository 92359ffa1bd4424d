"""Objectives as a recipe names them, built for the student of the tiny run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgedistill.distillation.configs.config import ObjectiveConfig
from edgedistill.distillation.context import ObjectiveContext
from edgedistill.distillation.objectives import Objective, build_objective
from edgedistill.pipeline.objective_context import objective_context
from edgedistill.pipeline.stages.student import make_student
from edgedistill.pipeline.stages.teacher import open_teacher_outputs
from edgedistill.recipe import recipe as config
from edgedistill.recipe.recipe import Recipe
from edgedistill.training import networks


@pytest.fixture
def context_of(data, stages, tmp_path) -> Callable[..., ObjectiveContext]:
    """A function from a recipe to the context of its untrained student."""

    def build(recipe: Recipe, teacher: Path = stages / "teacher") -> ObjectiveContext:
        outputs, _ = open_teacher_outputs(teacher)
        student = networks.build_untrained(recipe.student.spec, data, seed=recipe.seed)
        return objective_context(recipe, data, teacher, outputs, student, tmp_path)

    return build


@pytest.fixture
def context(recipe, context_of) -> ObjectiveContext:
    """The context of the tiny run, whose caches are in `tmp_path`."""
    return context_of(recipe)


@pytest.fixture(scope="session")
def parse() -> Callable[[str], ObjectiveConfig]:
    """A function from an objective in YAML, without braces, to its config."""

    def parsed(settings: str) -> ObjectiveConfig:
        (section,) = config.parse("", [f"student.objectives=[{{{settings}}}]"]).student.objectives
        return section

    return parsed


@pytest.fixture(scope="session")
def build(parse) -> Callable[[str, ObjectiveContext], Objective]:
    """A function from an objective in YAML, without braces, to the objective."""
    return lambda settings, context: build_objective(parse(settings), context)


@pytest.fixture(scope="session")
def distill(recipe, data, stages, tmp_path_factory) -> Callable[..., Path]:
    """A function from objectives in YAML, without braces, to the folder of a trained student."""

    def distilled(*objectives: str) -> Path:
        settings = ", ".join(f"{{{each}}}" for each in objectives)
        changed = config.parse(config.dump(recipe), [f"student.objectives=[{settings}]"])
        out, work = tmp_path_factory.mktemp("student"), tmp_path_factory.mktemp("run") / "work"
        work.mkdir()
        make_student(changed, data, stages / "teacher", out, work)
        return out

    return distilled


@pytest.fixture(scope="session")
def weights_of() -> Callable[[Path], np.ndarray]:
    """A function from the folder of a student to all its parameters; its losses are finite."""

    def weights(folder: Path) -> np.ndarray:
        model, facts = networks.open_network(folder)
        assert np.isfinite([epoch["train_loss"] for epoch in facts["history"]]).all()
        return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])

    return weights
