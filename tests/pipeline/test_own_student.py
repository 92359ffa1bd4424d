"""A student of the user's own: a torch module from a factory, through the whole pipeline."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file, save_file

from edgedistill.bundle.reader import open_bundle
from edgedistill.device.validate import validate
from edgedistill.errors import ModelError, UsageError
from edgedistill.io.files import read_json
from edgedistill.pipeline import run as pipeline
from edgedistill.pipeline.keys import STAGES, stage_key
from edgedistill.pipeline.run_folder import RunFolder
from edgedistill.pipeline.stages.student import initial_student
from edgedistill.recipe import recipe as config

pytestmark = pytest.mark.slow

NETS = """
from torch import nn

class Net(nn.Module):
    '''A causal network with the last step as its output.'''

    def __init__(self, channels, classes, width=4):
        super().__init__()
        self.body = nn.Conv1d(channels, width, 3, padding=2)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.norm(self.body(x)[..., :-2]).relu()[..., -1])
"""
OWN = (
    "student.source=nets:Net",
    "student.arguments={width: 5}",
    "references={ceiling: false}",
    "student.objectives=[{name: kd}, {name: tsd_maps}]",
    "optimize.search={budget_s: 5}",
    "optimize.recover={epochs: 1, always: true}",
)


@pytest.fixture
def own(recipe, tmp_path, monkeypatch):
    """A recipe with a student from a file of the current folder."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return config.parse(config.dump(recipe), OWN)


def test_run_ends_in_a_bundle_that_validates(own, tmp_path):
    """Training, export, variants, search, recovery and report take it as one of ours."""
    result = pipeline.compress(own, tmp_path / "run")

    run = RunFolder(tmp_path / "run")
    assert read_json(run.student / "model.json")["spec"]["source"] == "nets:Net"
    assert load_file(run.student / "weights.safetensors")["body.weight"].shape == (5, 1, 3)
    assert (run.variants / "recovery.json").is_file()
    assert result.bundle is not None
    with open_bundle(result.bundle) as bundle:
        assert validate(bundle, runs=10).verdict == "kept"
    assert not any(pipeline.compress(own, tmp_path / "run").stages.values())


def test_edited_factory_makes_the_student_anew(own, data, tmp_path):
    """The teacher stays."""
    before = {stage: stage_key(stage, own, data) for stage in STAGES}

    (tmp_path / "nets.py").write_text(NETS.replace("relu()", "tanh()"))
    after = {stage: stage_key(stage, own, data) for stage in STAGES}

    assert [s for s in STAGES if before[s] != after[s]] == list(STAGES[1:])


def test_training_starts_from_weights(own, data, stages, tmp_path):
    """Of this very network; those of another one are refused."""
    network, _ = initial_student(own, data, stages / "teacher")
    weights = {name: value + 1 for name, value in network.state_dict().items()}
    save_file(weights, tmp_path / "mine.safetensors")
    named = config.parse(config.dump(own), ["student.weights=mine.safetensors"])

    begun, _ = initial_student(named, data, stages / "teacher")

    assert begun.state_dict()["body.weight"].equal(weights["body.weight"])
    wider = config.parse(config.dump(named), ["student.arguments={width: 6}"])
    with pytest.raises(ModelError, match="does not fit the module"):
        initial_student(wider, data, stages / "teacher")


def test_unknown_factory_and_argument_are_refused(own, data, stages):
    """With what was looked for."""
    absent = config.parse(config.dump(own), ["student.source=nets:Nett"])
    with pytest.raises(UsageError, match="Did you mean 'Net'"):
        initial_student(absent, data, stages / "teacher")

    wrong = config.parse(config.dump(own), ["student.arguments={wdth: 3}"])
    with pytest.raises(ModelError, match="wdth"):
        initial_student(wrong, data, stages / "teacher")
