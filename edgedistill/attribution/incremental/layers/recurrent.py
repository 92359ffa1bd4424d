"""Incremental changes of LSTMs and GRUs, from the state where a window begins.

Each perturbed copy takes up the state of its clean series where its window begins and
runs from there, so that windows spread over a series cost half. All copies that have
begun share one matrix product a layer and step, over the layer's input and its state
side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgedistill.attribution.incremental.layers.rule import (
    Change,
    Regions,
    Rule,
    Value,
    require_region,
    require_vector,
)
from edgedistill.attribution.incremental.regions import Region

Recurrence = nn.LSTM | nn.GRU
_GATES = 4  # times H: those of an LSTM; a GRU's third is kept apart for input and state


@dataclass(frozen=True, slots=True)
class LastState(Rule):
    """The output of a recurrent network after the last step."""

    module: Recurrence
    length: int

    def prepare_clean_input(self, value: Tensor, source: Region | None) -> Value:
        """Return the whole series, (N, T, C)."""
        del source
        return value

    def region(self, sources: Regions) -> Region | None:
        """Return None: one state has no positions."""
        del sources
        return None

    def held_numbers(self, source: Region | None) -> int:
        """Return the numbers held a window and series: gates of the window, states, one step."""
        gates = _GATES * self.module.hidden_size
        return gates * (require_region(source).size + 2) + self.module.num_layers * gates

    def macs(self, source: Region | None) -> float:
        """Return the multiply-accumulates a window and series, the mean over windows."""
        steps = self.length - require_region(source).begin.double().mean()
        return float(steps) * _macs_a_step(self.module)

    def full_macs(self) -> float:
        """Return the multiply-accumulates of a full run on one series."""
        return float(self.length) * _macs_a_step(self.module)

    def apply(self, changes: Sequence[Change], clean: Value) -> Change:
        """Return h~(T) - h(T) of the top layer, (W, N, H)."""
        change, source = changes[0].value, changes[0].temporal  # (W, N, w, C)
        windows, samples = change.shape[:2]
        begins = source.begin.expand(windows, samples).reshape(-1)  # (W * N,)
        order = begins.argsort(stable=True)
        rows = _Rows(
            sample=torch.arange(samples).repeat(windows)[order],
            begin=begins[order],
            change=change.flatten(0, 1)[order],
        )
        result = change.new_empty(len(order), self.module.hidden_size)
        result[order] = _run_parallel(self.module, require_vector(clean), rows)
        return Change(result.unflatten(0, (windows, samples)))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Perturbed copies, those that begin first standing first."""

    sample: Tensor  # (R,)
    begin: Tensor  # (R,)
    change: Tensor  # of the input, (R, w, C)

    def __getitem__(self, part: slice) -> _Rows:
        return _Rows(*(x[part].contiguous() for x in (self.sample, self.begin, self.change)))


class _Layer:
    """One layer's weights, and its input and state for every row: the clean series, then copies."""

    def __init__(self, module: Recurrence, index: int, rows: int) -> None:
        w_in: Tensor = getattr(module, f"weight_ih_l{index}")
        w_state: Tensor = getattr(module, f"weight_hh_l{index}")
        zeros = w_in.new_zeros(len(w_in))
        b_in: Tensor = getattr(module, f"bias_ih_l{index}") if module.bias else zeros
        b_state: Tensor = getattr(module, f"bias_hh_l{index}") if module.bias else zeros
        if isinstance(module, nn.GRU):
            w_in, b_in = _apart(w_in), _apart(b_in)
            w_state, b_state = _of_state(w_state), _of_state(b_state)
        self.is_lstm = isinstance(module, nn.LSTM)
        self.w_in, self.bias = w_in, b_in + b_state
        self.at = 0 if index == 0 else w_in.shape[1]  # the state's first column
        below = w_state if index == 0 else torch.cat([w_in, w_state], dim=1)
        self.weight = below.t().contiguous()  # (at + H, 4H)
        self.held = w_in.new_zeros(rows, len(self.weight))
        self.cell = w_in.new_zeros(rows if self.is_lstm else 0, module.hidden_size)

    def begin(self, old: int, new: int, samples: Tensor) -> None:
        """Start rows [old, new) from the states of their clean series."""
        self.held[old:new] = self.held[samples]
        if self.is_lstm:
            self.cell[old:new] = self.cell[samples]

    def step(self, alive: int, gates: Tensor, base: Tensor, of: Tensor) -> Tensor:
        """Take the first rows one step further and return their states, (alive, H)."""
        from edgedistill_kernels import cells  # Numba takes a second to import

        held = self.held[:alive]
        # A GRU's state adds nothing to the third gate, and its input nothing to the fourth.
        gates = torch.mm(held, self.weight, out=gates[:alive])
        arguments = (gates.numpy(), base.numpy(), of[:alive].numpy())
        if self.is_lstm:
            cells.lstm(*arguments, self.cell[:alive].numpy(), held.numpy(), self.at)
        else:
            cells.gru(*arguments, held.numpy(), self.at)
        return held[:, self.at :]


def _run_parallel(module: Recurrence, series: Tensor, rows: _Rows) -> Tensor:
    """Return the change of the last state of every copy, (R, H), computed in torch's threads."""
    threads = torch.get_num_threads()
    with _one_thread_each(), ThreadPoolExecutor(threads, initializer=_single_thread) as pool:
        shares = [rows[first::threads] for first in range(threads)]
        parts = list(pool.map(lambda share: _run(module, series, share), shares))
    result = torch.empty(len(rows.begin), module.hidden_size, dtype=series.dtype)
    for first, part in enumerate(parts):
        result[first::threads] = part
    return result


def _single_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Restore the number of threads, which a worker's setting changes for the whole process."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _run(module: Recurrence, series: Tensor, rows: _Rows) -> Tensor:
    """Return the change of the last state of every copy, (R, H); series (N, T, C)."""
    samples = len(series)
    total = samples + len(rows.begin)
    layers = [_Layer(module, index, total) for index in range(module.num_layers)]
    gates = series.new_empty(total, _GATES * module.hidden_size)
    clean = torch.cat([torch.arange(samples), rows.sample])  # the row of a row's clean series
    everywhere = torch.zeros_like(clean)
    alive = samples
    for begun, base, of in _inputs(layers[0], series, rows):
        for layer in layers:
            layer.begin(alive, begun, clean[alive:begun])
        alive = begun
        state = layers[0].step(alive, gates, base, of)
        for layer in layers[1:]:
            layer.held[:alive, : layer.at] = state
            state = layer.step(alive, gates, layer.bias[None], everywhere)
    last = layers[-1].held[:, layers[-1].at :]
    return last[samples:] - last[rows.sample]


def _inputs(layer: _Layer, series: Tensor, rows: _Rows) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield for every step the number of rows that have begun and the input's share of their gates.

    That share is a table, (B, 4H), and for every row an index into it: rows outside their
    windows share the entry of their series.
    """
    samples, length = series.shape[:2]
    steps = torch.arange(length)
    begun = torch.searchsorted(rows.begin, steps, right=True).tolist()
    width = rows.change.shape[1]
    ended = torch.searchsorted(rows.begin + width, steps, right=True).tolist()
    clean = functional.linear(series, layer.w_in, layer.bias).transpose(0, 1)  # (T, N, 4H)
    # The change of the input is linear in the gates; the bias is in the clean ones.
    extra = functional.linear(rows.change, layer.w_in)  # (R, w, 4H)
    of = torch.cat([torch.arange(samples), rows.sample])
    done = 0
    for t in range(length):
        of[samples + done : samples + ended[t]] = rows.sample[done : ended[t]]
        done = ended[t]
        inside = torch.arange(done, begun[t])  # copies whose window holds this step
        changed = clean[t, rows.sample[inside]] + extra[inside, t - rows.begin[inside]]
        of[samples + done : samples + begun[t]] = samples + torch.arange(len(inside))
        yield samples + begun[t], torch.cat([clean[t], changed]), of


def _apart(weight: Tensor) -> Tensor:
    """Return a GRU's (3H, ...) as (4H, ...): r, z, n, and zeros."""
    return torch.cat([weight, torch.zeros_like(weight[: len(weight) // 3])])


def _of_state(weight: Tensor) -> Tensor:
    """Return a GRU's (3H, ...) as (4H, ...): r, z, zeros, and n."""
    gates, new = weight.tensor_split([2 * len(weight) // 3])
    return torch.cat([gates, torch.zeros_like(new), new])


def _macs_a_step(module: Recurrence) -> float:
    weights = [p for name, p in module.named_parameters() if name.startswith("weight")]
    return float(sum(weight.numel() for weight in weights))
