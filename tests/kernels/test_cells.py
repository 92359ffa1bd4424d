"""The compiled cells, against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edgedistill_kernels import cells
from torch import nn

ROWS, INPUTS, SIZE = 37, 3, 5
KINDS = {np.float32: 1e-6, np.float64: 1e-14}
SCALES = [1, 300]  # of the inputs: gates in the bend of a sigmoid, and far out


def asked(module, inputs, state, kind):
    """Return what both products give, (R, gates), and the biases, in torch's order of gates."""
    weights = [p.detach().numpy().astype(kind) for p in module.parameters()]
    return inputs @ weights[0].T, state @ weights[1].T, weights[2], weights[3]


def drawn(rng, kind, scale):
    """Return inputs, h and c of every row."""
    inputs = scale * rng.normal(size=(ROWS, INPUTS))
    return [x.astype(kind) for x in (inputs, *rng.uniform(-1, 1, size=(2, ROWS, SIZE)))]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_lstm_is_torchs(kind, scale, rng):
    """The state stands behind other columns, and those stay."""
    module = nn.LSTMCell(INPUTS, SIZE)
    inputs, state, cell = drawn(rng, kind, scale)
    from_input, from_state, b_in, b_state = asked(module, inputs, state, kind)
    with torch.no_grad():
        expected = module.double()(*_double(inputs, (state, cell)))
    held = np.concatenate([np.full((ROWS, 2), 7, kind), state], axis=1)
    of = np.arange(ROWS) % 2
    base = np.stack([b_in + b_state, b_in + b_state])

    cells.lstm(from_input + from_state, base, of, cell, held, 2)

    np.testing.assert_allclose(held[:, 2:], expected[0], rtol=0, atol=scale * KINDS[kind])
    np.testing.assert_allclose(cell, expected[1], rtol=0, atol=scale * KINDS[kind])
    assert (held[:, :2] == 7).all()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_gru_is_torchs(kind, scale, rng):
    """Its third gate is kept apart for input and state."""
    module = nn.GRUCell(INPUTS, SIZE)
    inputs, state, _ = drawn(rng, kind, scale)
    from_input, from_state, b_in, b_state = asked(module, inputs, state, kind)
    with torch.no_grad():
        expected = module.double()(*_double(inputs, state))
    both = 2 * SIZE
    gates = np.concatenate(
        [(from_input + from_state)[:, :both], from_input[:, both:], from_state[:, both:]], axis=1
    )
    base = np.concatenate([(b_in + b_state)[:both], b_in[both:], b_state[both:]])[None]

    cells.gru(gates, base, np.zeros(ROWS, np.int64), state, 0)

    np.testing.assert_allclose(state, expected, rtol=0, atol=scale * KINDS[kind])


@pytest.mark.parametrize("level", [-1e4, -88, 88, 1e4, np.nan])
def test_large_values_and_nan(level):
    """Flat ends are reached, and what is no number stays none."""
    gates = np.full((1, 4), level, np.float32)
    cell, state = np.full((1, 1), 0.5, np.float32), np.zeros((1, 1), np.float32)

    cells.lstm(gates, np.zeros((1, 4), np.float32), np.zeros(1, np.int64), cell, state, 0)

    gate = 1.0 if level > 0 else 0.0
    if np.isnan(level):
        assert np.isnan(cell).all()
        assert np.isnan(state).all()
    else:
        np.testing.assert_allclose(cell, 1.5 * gate, atol=1e-6)
        np.testing.assert_allclose(state, gate * np.tanh(1.5), atol=1e-6)


def _double(*values):
    return [
        tuple(map(torch.from_numpy, (v.astype(np.float64) for v in value)))
        if isinstance(value, tuple)
        else torch.from_numpy(value.astype(np.float64))
        for value in values
    ]
