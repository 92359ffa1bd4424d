"""The five families: their published sizes, their limits, their export."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgedistill.errors import ConfigError, ShapeError
from edgedistill.models import FAMILIES, ModelSpec, build

pytestmark = pytest.mark.slow

# What the published layers add up to at C=1, without the head. The paper of LITE gives 9,814,
# and says that it is 2.34 % of Inception.
TRUNKS = {"fcn": 264_704, "resnet": 504_000, "inception": 420_192, "lite": 9_814}


def small(family: str, *, channels: int = 2, classes: int = 3, length: int = 8) -> nn.Module:
    spec = ModelSpec(family=family, width=4)
    return build(spec, channels=channels, classes=classes, length=length)


@pytest.mark.parametrize(
    ("depth", "width", "expected"), [(3, 100, 203_002), (1, 16, 1_250), (1, 8, 370)]
)
def test_lstm_has_the_parameters_of_the_paper(depth, width, expected):
    """C=1 and K=2, as in arXiv:2601.04263."""
    model = build(
        ModelSpec(family="lstm", depth=depth, width=width), channels=1, classes=2, length=100
    )

    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("family", TRUNKS)
def test_default_size_is_the_published_one(family):
    model = build(ModelSpec(family=family), channels=1, classes=2, length=100)

    counts = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    trunk = sum(count for name, count in counts.items() if not name.startswith("head."))

    assert trunk == TRUNKS[family]


@pytest.mark.parametrize("width", [1, 64])
def test_fcn_widths_are_w_2w_w(width):
    model = build(ModelSpec(family="fcn", width=width), channels=1, classes=2, length=9)

    filters = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv1d)]

    assert filters == [width, 2 * width, width]


@pytest.mark.parametrize("depth", [1, 2, 4, 7])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_depth_runs(family, depth):
    model = build(ModelSpec(family=family, width=2, depth=depth), channels=1, classes=2, length=8)

    logits = model(torch.zeros(2, 1, 8))

    assert logits.shape == (2, 2)


@pytest.mark.parametrize("length", [1, 8, 51])
@pytest.mark.parametrize("family", FAMILIES)
def test_gives_a_logit_a_class_at_any_length(family, length):
    """Kernels may be longer than the series."""
    model = small(family).eval()

    logits = model(torch.zeros(5, 2, length))

    assert logits.shape == (5, 3)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns(family):
    """A parameter without a gradient is one that nobody should count or ship."""
    torch.manual_seed(0)
    model = small(family)
    x = torch.randn(6, 2, 8)

    nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0, 1, 2])).backward()

    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_seed_decides_the_weights(family):
    torch.manual_seed(7)
    first = small(family).state_dict()
    torch.manual_seed(7)
    again = small(family).state_dict()
    other = small(family).state_dict()

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("family", FAMILIES)
def test_exports_with_a_free_batch_size(family, tmp_path: Path):
    """ONNX Runtime gives torch's logits, also for batches it was not exported with."""
    torch.manual_seed(0)
    model = small(family).eval()
    x = torch.randn(3, 2, 8)

    path = export(model, x, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    for count in (1, 3):
        (actual,) = session.run(None, {"series": x[:count].numpy()})
        with torch.no_grad():
            expected = model(x[:count]).numpy()
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_unknown_family_names_the_nearest_one():
    with pytest.raises(ConfigError, match=r"no model family 'incepton'.*'inception'.*lite"):
        ModelSpec(family="incepton")


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("depth", 0), ("width", 10**26)])
def test_impossible_size_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} of a fcn must be .* at most .*, got {value}"):
        ModelSpec(family="fcn", **{name: value})


@pytest.mark.parametrize(
    "shape", [{"channels": 0}, {"classes": 1}, {"length": 0}], ids=lambda s: next(iter(s))
)
def test_impossible_data_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="at least 1 channel, 2 classes and 1 time step"):
        build(ModelSpec(family="fcn"), **{"channels": 1, "classes": 2, "length": 9, **shape})


def export(model: nn.Module, x: Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        # torch's exporter warns of its own code: deprecated functions that it calls, and what it
        # does to the weights of an LSTM. None of it is ours; the caller compares the outputs.
        for message in (
            r"`isinstance\(treespec, LeafSpec\)`",
            r"_check_is_size will be removed",
            r"The \.grad attribute of a Tensor that is not a leaf",
            r"The tensor attributes .*_flat_weights",
        ):
            warnings.filterwarnings("ignore", message=message)
        program = torch.onnx.export(
            model,
            (x,),
            dynamo=True,
            verbose=False,
            input_names=["series"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    program.save(path)
    return path
