"""The kernels under torch: the same numbers as plain torch, the right gradients, no copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from edgedistill.attribution import autograd as bridge
from edgedistill.attribution import functional as windows
from edgedistill.errors import ShapeError

pytest.importorskip("numba", reason="the bridge needs the compiled kernels")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
NO_GPU = "no CUDA GPU here"
both_forms = pytest.mark.parametrize("form", ["summed", "elementwise"])
every_device = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _skip_without_gpu(request):
    if "cuda" in request.node.name and not torch.cuda.is_available():
        pytest.skip(NO_GPU)


def _logits(rng, shape, device, dtype=torch.float64):
    samples, _, classes = shape
    arrays = rng.normal(size=(samples, classes)), rng.normal(size=shape)
    return [torch.tensor(a, dtype=dtype, device=device, requires_grad=True) for a in arrays]


def _plain(monkeypatch):
    """Keep the functions of `windows` from the kernels."""
    monkeypatch.setattr(bridge, "supports_kernels", lambda *_: False)


@every_device
@both_forms
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 3), (2, 35, 2)], ids=str)
def test_gradients_pass_gradcheck(rng, form, shape, device):
    """Of window saliency and of its normalized form, against finite differences."""
    inputs = _logits(rng, shape, device)

    for function in (bridge.window_saliency, bridge.temporal_saliency):
        assert gradcheck(lambda c, p, f=function: f(c, p, temperature=2.0, form=form), inputs)


@every_device
@both_forms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_windows_give_the_same_with_and_without_kernels(rng, form, dtype, device, monkeypatch):
    """Forward and backward, at a size for which `windows` takes the kernels."""
    shape = (16, 64, 9)
    clean, perturbed = _logits(rng, shape, device, dtype)
    found = {}

    for plain in (False, True):
        if plain:
            _plain(monkeypatch)
        for function in (windows.window_saliency, windows.temporal_saliency):
            scores = function(clean, perturbed, temperature=4.0, form=form)
            weights = torch.linspace(-1, 1, scores.numel(), dtype=dtype, device=device)
            loss = (scores.flatten() * weights).sum()
            grads = torch.autograd.grad(loss, [clean, perturbed])
            found[function.__name__, plain] = (scores, *grads)

    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    for name in ("window_saliency", "temporal_saliency"):
        for kernel, torchs in zip(found[name, False], found[name, True], strict=True):
            torch.testing.assert_close(kernel, torchs, rtol=rtol, atol=rtol)


def test_large_logits_do_reach_the_kernels(rng):
    """Else the test above would compare plain torch with itself; small ones stay with torch."""
    for shape, node in (((16, 64, 9), "_WindowSaliencyBackward"), ((2, 3, 4), "ToCopyBackward0")):
        scores = windows.window_saliency(
            *_logits(rng, shape, "cpu", torch.float32), temperature=1.0
        )
        assert type(scores.grad_fn).__name__ == node


@every_device
def test_copies_are_exact(rng, device, monkeypatch):
    """Whichever way they are made, and with views that have gaps."""
    series = torch.tensor(rng.normal(size=(8, 300, 3)), device=device).transpose(1, 2)
    starts = torch.tensor(rng.integers(0, 291, size=(8, 1)), device=device).expand(-1, 64)
    patches = torch.tensor(rng.normal(size=(8, 64, 3, 20)), device=device)[..., ::2]

    copies = windows.perturb(series, starts, patches)

    direct = bridge.perturb(series, starts, patches)
    _plain(monkeypatch)
    expected = windows.perturb(series, starts, patches)
    assert torch.equal(copies, expected)
    assert torch.equal(direct, expected)


def test_copies_of_tensors_with_gradients_keep_them(rng):
    """The kernel has none, so plain torch makes these."""
    series = torch.tensor(rng.normal(size=(8, 3, 300)), requires_grad=True)
    starts, patches = torch.zeros(8, 64, dtype=torch.int64), torch.ones(8, 64, 3, 10).double()

    windows.perturb(series, starts, patches).sum().backward()

    assert series.grad[0, 0, 0] == 0
    assert series.grad[0, 0, 20] == 64


def test_a_window_that_leaves_its_series_is_refused():
    """Compiled code would write beside the copies."""
    series, patches = torch.zeros(2, 1, 8), torch.zeros(2, 1, 1, 3)

    with pytest.raises(ValueError, match="Windows of 3 steps from 6 to 6 leave a series of 8"):
        bridge.perturb(series, torch.full((2, 1), 6), patches)


@pytest.mark.parametrize("clean", [(3, 4), (2, 5), (2,)], ids=str)
def test_logits_that_do_not_fit_are_refused(clean):
    """Compiled code would read beside them."""
    with pytest.raises(ShapeError, match=r"clean logits of shape .* \(2, 3, 4\)"):
        bridge.window_saliency(torch.zeros(clean), torch.zeros(2, 3, 4), temperature=1.0)


def test_results_are_torchs_own_memory_and_inputs_are_not_copied(rng, monkeypatch):
    """The kernel sees the very addresses of the tensors."""
    seen = []
    real = bridge.import_module("edgedistill_kernels.cpu").window_saliency
    monkeypatch.setattr(
        "edgedistill_kernels.cpu.window_saliency",
        lambda *arguments: (seen.extend(arguments), real(*arguments)),
    )
    clean, perturbed = _logits(rng, (2, 3, 4), "cpu")

    scores = bridge.window_saliency(clean, perturbed, temperature=1.0)

    addresses = [a.ctypes.data for a in seen if isinstance(a, np.ndarray)]
    assert addresses == [tensor.data_ptr() for tensor in (clean, perturbed, scores)]


def test_gradients_of_an_expanded_sum(rng):
    """`sum().backward()` hands over a gradient without memory of its own."""
    clean, perturbed = _logits(rng, (2, 5, 3), "cpu")

    bridge.window_saliency(clean, perturbed, temperature=2.0).sum().backward()

    other = [tensor.detach().clone().requires_grad_() for tensor in (clean, perturbed)]
    windows.window_saliency(*other, temperature=2.0).sum().backward()
    torch.testing.assert_close(clean.grad, other[0].grad)
    torch.testing.assert_close(perturbed.grad, other[1].grad)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.zeros(2, dtype=torch.float16), torch.zeros(2, dtype=torch.float16)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2, device="meta"), torch.zeros(2, device="meta")),
    ],
)
def test_other_tensors_are_left_to_torch(first, second):
    """Types that the kernels do not compute with, mixed types, and tensors without memory."""
    assert bridge.supports_kernels(torch.zeros(2), torch.zeros(2))
    assert not bridge.supports_kernels(first, second)


def test_a_traced_graph_holds_plain_operators(rng):
    """A kernel cannot be exported."""

    class Explain(torch.nn.Module):
        def forward(self, clean, perturbed):
            return windows.window_saliency(clean, perturbed, temperature=2.0)

    inputs = tuple(_logits(rng, (16, 64, 9), "cpu", torch.float32))

    graph = torch.export.export(Explain(), inputs)

    assert any("log_softmax" in str(node.target) for node in graph.graph.nodes)


def test_without_numba_everything_is_plain_torch(rng, monkeypatch):
    """As on a machine that lacks it."""
    monkeypatch.setattr(bridge.backends, "unavailable_reason", lambda _: "Numba does not import")

    assert not bridge.supports_kernels(torch.zeros(2))
    scores = windows.temporal_saliency(*_logits(rng, (16, 64, 9), "cpu"), temperature=1.0)
    assert scores.shape == (16, 64)
