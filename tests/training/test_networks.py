"""Networks of ours on disk."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from edgedistill.data import ReadOptions, load, prepare
from edgedistill.errors import ModelError
from edgedistill.models import FactorySpec, ModelSpec, build, cost
from edgedistill.training import networks
from edgedistill.training.config import Epoch

SPEC = ModelSpec(family="fcn", width=8)
HISTORY = [
    Epoch(
        epoch=1,
        train_loss=0.7,
        validation_loss=0.6,
        validation_cross_entropy=0.6,
        validation_accuracy=0.5,
    )
]


@pytest.fixture(scope="module")
def data():
    source = load("ItalyPowerDemand", options=ReadOptions(limit_per_class=15))
    return prepare(source, length=None, sizing="resample", normalization="series", seed=0)


def answers(model: torch.nn.Module, data) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.from_numpy(data.test.x))


def test_the_seed_decides_the_weights_and_nothing_else(data):
    """The generator of whoever calls is left as it was."""
    before = torch.get_rng_state()

    first, again, other = (networks.build_untrained(SPEC, data, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(answers(first, data), answers(again, data))
    assert not torch.equal(answers(first, data), answers(other, data))
    assert torch.equal(before, torch.get_rng_state())


def test_what_was_saved_is_opened(data, tmp_path):
    model = networks.build_untrained(SPEC, data, seed=0)

    networks.save(model, SPEC, data, HISTORY, tmp_path)
    opened, facts = networks.open_network(tmp_path)

    assert not opened.training
    assert torch.equal(answers(opened, data), answers(model, data))
    spec = ModelSpec(family="fcn", width=8)
    expected = cost(build(spec, channels=1, classes=2, length=24), channels=1, length=24)
    assert facts["cost"]["parameters"] == expected.parameters
    assert [Epoch(**point) for point in facts["history"]] == HISTORY


@pytest.mark.parametrize("damage", ["empty", "weights", "other weights", "facts", "family", "spec"])
def test_a_folder_without_a_network(data, tmp_path, damage):
    folder = tmp_path
    network = networks.build_untrained(SPEC, data, seed=0)
    networks.save(network, SPEC, data, HISTORY, folder)
    weights, facts = folder / networks.WEIGHTS, folder / networks.FACTS
    values = json.loads(facts.read_text())
    if damage == "empty":
        weights.unlink()
        facts.unlink()
    elif damage == "weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "other weights":
        wide = networks.build_untrained(replace(SPEC, width=9), data, seed=0)
        (tmp_path / "wide").mkdir()
        networks.save(wide, replace(SPEC, width=9), data, HISTORY, tmp_path / "wide")
        shutil.copyfile(tmp_path / "wide" / networks.WEIGHTS, weights)
    elif damage == "facts":
        facts.write_text("[]")
    elif damage == "family":
        facts.write_text(json.dumps({**values, "spec": {**values["spec"], "family": "fnc"}}))
    elif damage == "spec":
        facts.write_text(json.dumps({**values, "spec": None}))

    with pytest.raises(ModelError, match=r"(?s)does not hold a network of ours .* Train it again"):
        networks.open_network(folder)


NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, classes, width=4):
        super().__init__()
        self.body, self.head = nn.LazyConv1d(width, 3), nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(x).mean(-1))

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Classes(Net):
    def forward(self, x):
        return super().forward(x).argmax(1, keepdim=True).expand(-1, 2)

class Single(Net):
    def forward(self, x):
        return super().forward(x)[:, :1]

class Flat(Net):
    def forward(self, x):
        return super().forward(x.flatten())
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_network_of_a_factory_is_saved_as_weights_and_opened_again(data, nets):
    """With the factory and its arguments named; also where its layers are made at the first run."""
    spec = FactorySpec(source="nets:Net", arguments={"width": 6})
    model = networks.build_untrained(spec, data, seed=3)

    networks.save(model, spec, data, HISTORY, nets / "saved")
    opened, facts = networks.open_network(nets / "saved")

    assert facts["spec"] == {"source": "nets:Net", "arguments": {"width": 6}}
    assert opened.head.in_features == 6
    assert torch.equal(answers(opened, data), answers(model, data))
    assert {path.name for path in (nets / "saved").iterdir()} == {networks.WEIGHTS, networks.FACTS}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Pair", "type tuple"),
        ("Classes", "Let it return the logits alone"),
        ("Single", r"shape \(2, 1\)"),
        ("Flat", "cannot take series of shape"),
    ],
)
def test_network_that_is_no_classifier_is_refused(data, nets, name, message):
    with pytest.raises(ModelError, match=message):
        networks.build_untrained(FactorySpec(source=f"nets:{name}"), data, seed=0)
