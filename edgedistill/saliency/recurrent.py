"""Windows through an LSTM or GRU: before a window starts, nothing has changed yet.

The states of the clean series are computed once. Each perturbed copy takes up the clean
state where its window begins and runs from there, so that windows spread over a series
cost half; and all copies that have begun share one matrix product a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedistill.saliency.regions import Region
from edgedistill.saliency.rules import Change, Rule, Value, known, temporal

Recurrence = nn.LSTM | nn.GRU
State = tuple[Tensor, ...]  # (h, c) or (h,), each (rows, H)


@dataclass(frozen=True, slots=True)
class LastState(Rule):
    """The output of a recurrent network after the last step."""

    module: Recurrence
    length: int
    needs_clean = True

    def region(self, sources: Sequence[Region | None]) -> Region | None:
        """Return None: one state has no positions."""
        del sources
        return None

    def reads(self, source: Region) -> Region:
        """Return the whole series."""
        return Region(torch.zeros_like(source.begin[:1, :1]), self.length, self.length)

    def held(self, source: Region | None) -> int:
        """Return the numbers held a window and series: gates of the window, states, one step."""
        gates = (4 if isinstance(self.module, nn.LSTM) else 3) * self.module.hidden_size
        return gates * (known(source).size + 4) + 4 * self.module.num_layers * gates

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series, the mean over windows."""
        steps = self.length - known(source).begin.double().mean()
        return float(steps) * _macs_a_step(self.module)

    def full_macs(self) -> float:
        """Return those of a whole series."""
        return float(self.length) * _macs_a_step(self.module)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return h~(T) - h(T) of the top layer, (W, N, H)."""
        change, source = changes[0].value, changes[0].temporal  # (W, N, w, C)
        windows, samples = change.shape[:2]
        series = temporal(clean).at(self.reads(source))[0]  # (N, T, C)
        begins = source.begin.expand(windows, samples).reshape(-1)  # (W * N,)
        order = begins.argsort(stable=True)
        rows = _Rows(
            sample=torch.arange(samples, device=begins.device).repeat(windows)[order],
            begin=begins[order],
            change=change.flatten(0, 1)[order],
        )
        last = _run(self.module, series, rows)
        result = torch.empty_like(last)
        result[order] = last
        return Change(result.unflatten(0, (windows, samples)))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Every perturbed copy, those that begin first standing first."""

    sample: Tensor  # (R,)
    begin: Tensor  # (R,)
    change: Tensor  # of the input, (R, w, C)


class _Layer:
    """One layer's weights, and the gates that its input asks for."""

    def __init__(self, module: Recurrence, index: int) -> None:
        self.is_lstm = isinstance(module, nn.LSTM)
        self.size = module.hidden_size
        self.w_in: Tensor = getattr(module, f"weight_ih_l{index}")
        self.w_state: Tensor = getattr(module, f"weight_hh_l{index}")
        zeros = self.w_in.new_zeros(len(self.w_in))
        self.b_in: Tensor = getattr(module, f"bias_ih_l{index}") if module.bias else zeros
        self.b_state: Tensor = getattr(module, f"bias_hh_l{index}") if module.bias else zeros

    def start(self, rows: int) -> State:
        zeros = self.w_in.new_zeros(rows, self.size)
        return (zeros, zeros) if self.is_lstm else (zeros,)

    def asked(self, x: Tensor) -> Tensor:
        """Return what an input, (..., C), adds to the gates."""
        return torch.nn.functional.linear(x, self.w_in, self.b_in)

    def step(self, asked: Tensor, state: State) -> State:
        """Return the next state.

        Source: the equations in the documentation of torch.nn.LSTM and torch.nn.GRU.
        """
        held = torch.addmm(self.b_state, state[0], self.w_state.t())
        if self.is_lstm:
            gates = held.add_(asked)
            gates[:, 2 * self.size : 3 * self.size] *= 2  # tanh(x) = 2 sigmoid(2x) - 1
            i, f, g, o = gates.sigmoid_().chunk(4, dim=1)
            c = torch.addcmul(state[1] * f, i, g, value=2).sub_(i)
            return o * _tanh(c), c
        (r, z, n), (hr, hz, hn) = asked.chunk(3, dim=1), held.chunk(3, dim=1)
        keep = (z + hz).sigmoid()
        fresh = _tanh(n + (r + hr).sigmoid() * hn)
        return ((1 - keep) * fresh + keep * state[0],)


def _tanh(x: Tensor) -> Tensor:
    """Return tanh(x); torch's own takes ten times as long as its sigmoid on a CPU."""
    return (2 * x).sigmoid_().mul_(2).sub_(1)


def _run(module: Recurrence, series: Tensor, rows: _Rows) -> Tensor:
    """Return the change of the last state of every copy, (R, H)."""
    layers = [_Layer(module, index) for index in range(module.num_layers)]
    length, width = series.shape[1], rows.change.shape[1]
    begun = torch.searchsorted(rows.begin, torch.arange(length), right=True).tolist()
    ended = torch.searchsorted(rows.begin + width, torch.arange(length), right=True).tolist()
    clean = [layer.start(len(series)) for layer in layers]
    asked = layers[0].asked(series)  # (N, T, gates)
    # The change of the input is linear in the first gates; its bias is in the clean ones.
    extra = torch.nn.functional.linear(rows.change, layers[0].w_in)  # (R, w, gates)
    states = [
        tuple(s.new_empty(len(rows.begin), layer.size) for s in state)
        for layer, state in zip(layers, clean, strict=True)
    ]
    alive = 0
    for t in range(length):
        for state, known_state in zip(states, clean, strict=True):
            for part, source in zip(state, known_state, strict=True):
                part[alive : begun[t]] = source[rows.sample[alive : begun[t]]]
        alive = begun[t]
        inputs = asked[rows.sample[:alive], t]
        inside = slice(ended[t], alive)  # copies whose window holds this step
        offset = t - rows.begin[inside]
        inputs[inside] += extra[inside].gather(
            1, offset[:, None, None].expand(-1, 1, extra.shape[2])
        )[:, 0]
        _advance(layers, [tuple(p[:alive] for p in state) for state in states], inputs)
        clean = _advanced(layers, clean, asked[:, t])
    return states[-1][0] - clean[-1][0][rows.sample]


def _advance(layers: list[_Layer], states: list[State], asked: Tensor) -> None:
    """Take rows one step further, in place."""
    for index, new in enumerate(_advanced(layers, states, asked)):
        for part, value in zip(states[index], new, strict=True):
            part.copy_(value)


def _advanced(layers: list[_Layer], states: list[State], asked: Tensor) -> list[State]:
    """Return the states after one step; `asked` is what the input adds to the first gates."""
    after: list[State] = []
    for index, (layer, state) in enumerate(zip(layers, states, strict=True)):
        gates = asked if index == 0 else layer.asked(after[-1][0])
        after.append(layer.step(gates, state))
    return after


def _macs_a_step(module: Recurrence) -> float:
    weights = [p for name, p in module.named_parameters() if name.startswith("weight")]
    return float(sum(weight.numel() for weight in weights))
