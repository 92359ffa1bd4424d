"""A student that breaks the contract in INT8 is trained in 8 bits; nothing worse is kept."""

from __future__ import annotations

import shutil

import pytest
import torch

from edgedistill.export.export import export
from edgedistill.io.files import read_json
from edgedistill.models import ModelSpec, build
from edgedistill.pipeline.run_folder import ONNX
from edgedistill.pipeline.stages.export import open_variants
from edgedistill.pipeline.stages.mixed_precision import (
    RECOVERED_VARIANT,
    RECOVERY_JSON,
    search_variants,
)
from edgedistill.recipe.schema import NodeSearchSection, RecoverSection


@pytest.fixture
def run(recipe, data, stages, tmp_path):
    """Search and recover in a copy of the variants; return their folder."""

    def searched(section: RecoverSection, model=stages / "model" / ONNX, **search):
        out = tmp_path / "variants"
        shutil.copytree(stages / "variants", out, dirs_exist_ok=True)
        updated = {"search": NodeSearchSection(**search), "recover": section}
        optimize = recipe.optimize.model_copy(update=updated)
        asked = recipe.model_copy(update={"optimize": optimize})
        search_variants(asked, data, stages / "teacher", model, out, tmp_path / "work")
        return out

    return searched


@pytest.mark.parametrize("target", ["teacher", "student"])
def test_what_is_better_is_one_more_variant(run, target):
    """The student of two epochs has much to learn: with more, INT8 comes nearer to the teacher."""
    section = RecoverSection(epochs=15, learning_rate=0.01, target=target, always=True)

    out = run(section)

    found = read_json(out / RECOVERY_JSON)
    names = [model.name for model in open_variants(out)]
    assert found["taken"] == (RECOVERED_VARIANT in names)
    assert found["taken"] == (found["reason"] is None)
    assert len(found["search"]["candidates"]) >= 3
    if target == "teacher":
        assert found["taken"]
        assert found["after"]["estimates"]["kl"][0] < found["before"]["estimates"]["kl"][0]


@pytest.mark.parametrize(
    ("learning_rate", "reason"),
    [
        (3.0, "and breaks the threshold <= 50"),  # ruins the student
        (1e-12, "INT8 is not nearer to the teacher"),  # leaves it as it was
    ],
)
def test_what_is_no_better_is_not_kept(run, learning_rate, reason):
    """The model before stays, and it is said why."""
    out = run(RecoverSection(epochs=2, learning_rate=learning_rate, always=True))

    found = read_json(out / RECOVERY_JSON)
    assert not found["taken"]
    assert reason in found["reason"]
    assert RECOVERED_VARIANT not in [model.name for model in open_variants(out)]


def test_what_keeps_the_contract_is_left_alone(run):
    out = run(RecoverSection(epochs=1))

    assert read_json(out / RECOVERY_JSON) == {
        "taken": False,
        "reason": "plain INT8 keeps the contract",
    }


def test_an_lstm_is_skipped_with_a_reason(run, data, tmp_path):
    path = tmp_path / "lstm.onnx"
    torch.manual_seed(0)
    _, channels, length = data.train.x.shape
    spec = ModelSpec(family="lstm", width=8, depth=1)
    module = build(spec, channels=channels, classes=2, length=length)
    export(module.eval(), path, data.validation.x)

    out = run(RecoverSection(epochs=1, always=True), model=path)

    found = read_json(out / RECOVERY_JSON)
    assert not found["taken"]
    assert "An LSTM measures the ranges" in found["reason"]
