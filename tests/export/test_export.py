"""An exported file gives torch's logits, tells nothing about the machine, or is not there."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from aeon.datasets import load_basic_motions, load_gunpoint
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from edgedistill.errors import DataError, ModelError, VerificationError
from edgedistill.export.export import export
from edgedistill.models import ModelSpec, build
from edgedistill.optimize.execution import logits
from edgedistill.optimize.passes.opset import OPSET

pytestmark = pytest.mark.slow

SMALL = {
    "fcn": ModelSpec(family="fcn", width=4),
    "resnet": ModelSpec(family="resnet", width=4, depth=2),
    "inception": ModelSpec(family="inception", width=2, depth=3),
    "lite": ModelSpec(family="lite", width=4),
    "lstm": ModelSpec(family="lstm", width=6, depth=1),
}


@pytest.fixture(scope="module")
def motions():
    """Real series of six channels, (5, 6, 40)."""
    series, _ = load_basic_motions(split="train")
    return series[:5, :, :40].astype(np.float32)


@pytest.fixture(scope="module")
def gun():
    """Real series of one channel, (5, 1, 60)."""
    series, _ = load_gunpoint(split="train")
    return series[:5, :, :60].astype(np.float32)


class Head(nn.Module):
    """About the smallest thing that takes a series: its mean, normalized, then a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.head = nn.Linear(1, 2)

    def forward(self, x):
        return self.head(self.norm(x.mean(dim=2)))


class Drifting(Head):
    """Gives other logits when it is traced than when it is run: the planted mismatch."""

    def forward(self, x):
        bias = 1e-3 if torch.compiler.is_compiling() else 0.0
        return super().forward(x) + bias


class Branching(Head):
    """Looks at values to choose its way, which no graph can do."""

    def forward(self, x):
        return super().forward(x) if x.sum().item() > 0 else super().forward(-x)


@pytest.mark.parametrize("family", SMALL)
def test_every_family_gives_torch_logits_for_any_batch(family, motions, tmp_path):
    """One file, named as promised, exact for other batch sizes; an LSTM stays one operator."""
    torch.manual_seed(0)
    model = build(SMALL[family], channels=6, classes=4, length=40)
    path = tmp_path / "model.onnx"

    facts = export(model, path, motions)

    proto = onnx.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    assert [v.name for v in proto.graph.input] == ["series"]
    assert [v.name for v in proto.graph.output] == ["logits"]
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", OPSET)]
    assert sum(node.op_type == "LSTM" for node in proto.graph.node) == (family == "lstm")
    assert facts.size_bytes == path.stat().st_size
    assert facts.max_rel_error <= 1e-5
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(motions[:3])).numpy()
    np.testing.assert_allclose(logits(path, motions[:3]), expected, atol=1e-5)


def test_file_tells_nothing_about_the_machine(gun, tmp_path):
    """No path, no stack trace and no source line is in the bytes."""
    path = tmp_path / "model.onnx"

    export(Head(), path, gun)

    content = path.read_bytes()
    for trace in (b".py", b'File "', str(Path.home()).encode(), str(tmp_path).encode()):
        assert trace not in content


def test_raw_exporter_would_tell(gun):
    """The test above can fail: without our care the path of this file is in the bytes."""
    with warnings.catch_warnings():
        # torch's own pytree code calls its own deprecated class while it exports.
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec", module="copyreg")
        program = torch.onnx.export(
            Head().eval(), (torch.from_numpy(gun),), dynamo=True, verbose=False
        )

    assert b".py" in program.model_proto.SerializeToString()


def test_translations_are_read_once(gun, tmp_path, monkeypatch):
    """The second file is equal, and the exporter has parsed nothing for it."""
    monkeypatch.setattr("edgedistill.export.export._registries", {})
    model = Head()

    export(model, tmp_path / "first.onnx", gun)
    monkeypatch.setattr(ONNXRegistry, "from_torchlib", None)
    export(model, tmp_path / "second.onnx", gun)

    assert (tmp_path / "second.onnx").read_bytes() == (tmp_path / "first.onnx").read_bytes()


def test_model_stays_as_it_was(gun, tmp_path):
    """Export works on a copy: mode, gradients and weights of the caller's model stay."""
    model = Head().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    export(model, tmp_path / "model.onnx", gun)

    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_one_series_is_enough_for_a_dynamic_batch(gun, tmp_path):
    """A sample of one neither fixes the batch size nor skips the check of larger ones."""
    path = tmp_path / "model.onnx"

    export(Head(), path, gun[:1])

    assert logits(path, gun).shape == (5, 2)


def test_mismatch_leaves_no_file(gun, tmp_path):
    """A graph that computes something else is refused with the numbers, and is not kept."""
    path = tmp_path / "model.onnx"

    with pytest.raises(VerificationError, match=r"by 0\.001, .* 1e-05 is allowed") as caught:
        export(Drifting(), path, gun)

    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_tolerance_is_what_decides(gun, tmp_path):
    """The same mismatch passes a tolerance that allows it, and is told in the facts."""
    facts = export(Drifting(), tmp_path / "model.onnx", gun, tolerance=1e-2)

    assert facts.max_abs_error == pytest.approx(1e-3, rel=0.01)


def test_unexportable_model_is_named(gun, tmp_path):
    """What torch cannot trace is our error, on one line, not pages of its own."""
    with pytest.raises(ModelError, match="cannot export this Branching to ONNX") as caught:
        export(Branching(), tmp_path / "model.onnx", gun)

    assert len(str(caught.value)) < 600
    assert list(tmp_path.iterdir()) == []


def test_sample_that_does_not_fit(motions, tmp_path):
    """Series of other channels than the model's are refused before anything is traced."""
    model = build(SMALL["fcn"], channels=1, classes=2, length=40)

    with pytest.raises(ModelError, match=r"does not take series of shape \(6, 40\)"):
        export(model, tmp_path / "model.onnx", motions)


def test_logits_that_are_not_finite(gun, tmp_path):
    """A diverged model is refused."""
    model = Head()
    nn.init.constant_(model.head.bias, float("nan"))

    with pytest.raises(ModelError, match="10 are not finite"):
        export(model, tmp_path / "model.onnx", gun)


@pytest.mark.parametrize("shape", [(0, 1, 60), (60,)], ids=str)
def test_no_sample(shape, tmp_path):
    """An export that was compared with nothing is no export."""
    with pytest.raises(DataError, match="at least one series"):
        export(Head(), tmp_path / "model.onnx", np.zeros(shape, dtype=np.float32))


class Odd(nn.Module):
    """A module whose head gives what `pack` makes of its logits."""

    def __init__(self, pack):
        super().__init__()
        self.head, self.pack = nn.Linear(8, 2), pack

    def forward(self, x):
        return self.pack(self.head(x[:, 0]))


def test_old_weight_norm_is_exported_after_it_has_run(rng, tmp_path):
    """torch does not copy the weight that it keeps of its last run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(8, 2)))
    x = rng.normal(size=(3, 1, 8)).astype(np.float32)
    expected = model(torch.from_numpy(x)).detach().numpy()

    export(model, tmp_path / "m.onnx", x)

    np.testing.assert_allclose(logits(tmp_path / "m.onnx", x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        (lambda z: (z, 1), r"gives a tuple; finite logits \(N, K\) are needed\. Wrap it"),
        (lambda z: {"logits": z}["absent"], "does not take series .*absent"),
        (lambda z: z + torch.randn_like(z), "misses the logits"),
    ],
    ids=["tuple", "fails", "random"],
)
def test_odd_models_are_refused(pack, message, rng, tmp_path):
    x = rng.normal(size=(3, 1, 8)).astype(np.float32)

    with pytest.raises((ModelError, VerificationError), match=message):
        export(Odd(pack), tmp_path / "m.onnx", x)

    assert not (tmp_path / "m.onnx").exists()


def test_model_that_cannot_be_copied_is_named(rng, tmp_path):
    model = Odd(lambda z: z)
    model.handle = (tmp_path / "log").open("w")
    x = rng.normal(size=(3, 1, 8)).astype(np.float32)

    with model.handle, pytest.raises(ModelError, match="A Odd cannot be copied: cannot pickle"):
        export(model, tmp_path / "m.onnx", x)
