"""Networks of ours on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from edgedistill.errors import ModelError
from edgedistill.models import ModelSpec, build, cost
from edgedistill.pipeline import networks
from edgedistill.training.config import Epoch

HISTORY = [
    Epoch(
        epoch=1,
        train_loss=0.7,
        validation_loss=0.6,
        validation_cross_entropy=0.6,
        validation_accuracy=0.5,
    )
]


def answers(model: torch.nn.Module, data) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(data.test.x))


def test_the_seed_decides_the_weights_and_nothing_else(recipe, data):
    """The generator of whoever calls is left as it was."""
    before = torch.get_rng_state()

    first, again, other = (
        networks.build_untrained(recipe.student, data, seed=seed) for seed in (1, 1, 2)
    )

    assert torch.equal(answers(first, data), answers(again, data))
    assert not torch.equal(answers(first, data), answers(other, data))
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_saved_is_opened(recipe, data, tmp_path):
    model = networks.build_untrained(recipe.student, data, seed=0)

    networks.save(model, recipe.student, data, HISTORY, tmp_path)
    opened, facts = networks.open_network(tmp_path)

    assert not opened.training
    assert torch.equal(answers(opened, data), answers(model, data))
    spec = ModelSpec(family="fcn", width=8)
    expected = cost(build(spec, channels=1, classes=2, length=24), channels=1, length=24)
    assert facts["cost"]["parameters"] == expected.parameters
    assert [Epoch(**point) for point in facts["history"]] == HISTORY


@pytest.mark.parametrize("damage", ["empty", "weights", "other weights", "facts", "family", "spec"])
def test_a_folder_without_a_network(stages, tmp_path, damage):
    folder = Path(shutil.copytree(stages / "student", tmp_path / "student"))
    weights, facts = folder / networks.WEIGHTS, folder / networks.FACTS
    values = json.loads(facts.read_text())
    if damage == "empty":
        weights.unlink()
        facts.unlink()
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "other weights":
        shutil.copyfile(stages / "teacher" / networks.WEIGHTS, weights)
    elif damage == "facts":
        facts.write_text("[]")
    elif damage == "family":
        facts.write_text(json.dumps({**values, "spec": {**values["spec"], "family": "fnc"}}))
    elif damage == "spec":
        facts.write_text(json.dumps({**values, "spec": None}))

    with pytest.raises(ModelError, match=r"(?s)does not hold a network of ours .* Train it again"):
        networks.open_network(folder)
