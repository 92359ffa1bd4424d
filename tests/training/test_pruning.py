"""A network is pruned while it trains; the units left make a small network of equal logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from aeon.datasets import load_italy_power_demand
from torch import nn
from torch.nn import functional

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import TSD, CrossEntropy, WeightedObjective
from edgedistill.errors import ConfigError, ModelError
from edgedistill.models import ModelSpec, build
from edgedistill.models.families import FCN
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.fit import fit
from edgedistill.training.pruning import Layer, Pruner, extract_student, layers, remaining_units

CONFIG = FitConfig(epochs=4, batch_size=16, learning_rate=0.02, accelerator="cpu")
NETWORKS = [("fcn", 1), ("fcn", 2), ("fcn", 4), ("lstm", 1), ("lstm", 2)]
TRAINED = 48


@pytest.fixture(scope="module")
def data() -> TrainingData:
    x, y = load_italy_power_demand(split="train")
    rows = torch.arange(len(x))
    return TrainingData(
        series=torch.from_numpy(x.astype(np.float32)),
        labels=torch.from_numpy(y.astype(np.int64) - 1),
        train=rows[:TRAINED],
        validation=rows[TRAINED:],
    )


def network(family: str, depth: int, width: int, seed: int = 0) -> nn.Module:
    spec = ModelSpec(family=family, width=width, depth=depth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, channels=1, classes=2, length=24)


def pruner(wide: nn.Module, narrow: nn.Module, until: float = 0.5, smoothing: float = 0.6):
    return Pruner(wide, narrow, until=until, smoothing=smoothing)


def units(model: nn.Module) -> list[Layer]:
    """Return the layers of a network that is pruned as far as can be."""
    if isinstance(model, FCN):
        return layers(model, network("fcn", len(model.blocks) // 2, 1))
    return layers(model, network("lstm", model.lstm.num_layers, 1))


def learn(model: nn.Module, data: TrainingData, count: int = 16) -> None:
    """Put gradients of the cross-entropy, and statistics, into a network."""
    model.train().zero_grad()
    rows = data.train[:count]
    functional.cross_entropy(model(data.series[rows]), data.labels[rows]).backward()


def unit_indices(model: nn.Module, name: str, unit: int, count: int) -> list[int]:
    """Return where a unit stands along the first axis of a tensor it owns, by its meaning."""
    if "lstm." in name:
        return [gate * count + unit for gate in range(4)]
    return [unit]


def slow_importance(model: nn.Module, owned: tuple[str, ...], unit: int, count: int) -> float:
    """Return the sum of |w * dL/dw|, one number after the other."""
    total = 0.0
    for name, parameter in model.named_parameters():
        if name in owned:
            for index in unit_indices(model, name, unit, count):
                weights = parameter.detach()[index].flatten()
                slopes = parameter.grad[index].flatten()
                total += sum(abs(float(w) * float(g)) for w, g in zip(weights, slopes, strict=True))
    return total


def live(model: nn.Module) -> list[list[int]]:
    """Return the units of each layer that own anything but zeros."""
    known = dict(model.named_parameters())
    found = []
    for layer in units(model):
        owned = [known[name] for name in layer.weight_tensors if name in known]
        sums = sum(p.abs().reshape(-1, layer.units, p[0].numel()).sum(dim=(0, 2)) for p in owned)
        found.append(torch.nonzero(sums).flatten().tolist())
    return found


@pytest.mark.parametrize(("family", "depth"), NETWORKS)
def test_importance_is_weight_times_gradient_summed_over_a_unit(data, family, depth):
    model = network(family, depth, 5)
    plan = pruner(model, network(family, depth, 2), smoothing=0.0)
    learn(model, data)

    plan.accumulate_importance(model)

    for index, layer in enumerate(units(model)):
        found = plan.get_buffer(f"importance{index}")
        expected = [
            slow_importance(model, layer.weight_tensors, unit, layer.units)
            for unit in range(layer.units)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_every_parameter_but_the_heads_bias_belongs_to_units():
    """A tensor that was forgotten would not shrink."""
    for family, depth in NETWORKS:
        model = network(family, depth, 5)
        known = {
            name
            for layer in units(model)
            for name in (*layer.weight_tensors, *layer.consumer_tensors)
        }
        assert set(dict(model.named_parameters())) - known == {"head.bias"}


def test_the_schedule_is_cubic():
    """From all units to those of the student, which are reached at `until`."""
    layer = Layer(units=100, target_units=20, weight_tensors=(), consumer_tensors=())
    expected = [20 + 80 * (1 - tenth / 10) ** 3 for tenth in range(11)]

    found = [remaining_units(layer, 0.5, tenth / 20) for tenth in range(11)]

    np.testing.assert_allclose(found, expected, atol=0.5)
    assert found == sorted(found, reverse=True)
    assert (found[0], found[-1], remaining_units(layer, 0.5, 0.9)) == (100, 20, 20)


@pytest.mark.parametrize(("family", "depth"), NETWORKS)
def test_the_least_important_units_go_first(data, family, depth):
    """By the smoothed importance; and a unit that is gone stays gone."""
    model, narrow = network(family, depth, 9), network(family, depth, 3)
    plan = pruner(model, narrow, until=1.0)
    smoothed = [[0.0] * layer.units for layer in units(model)]
    alive = [set(range(layer.units)) for layer in units(model)]

    for step in range(1, 4):
        learn(model, data, count=8 + 4 * step)
        for index, layer in enumerate(units(model)):
            for unit in range(layer.units):
                seen = slow_importance(model, layer.weight_tensors, unit, layer.units)
                smoothed[index][unit] = 0.6 * smoothed[index][unit] + 0.4 * seen
            left = 3 * (layer.units // 9)
            left += round((layer.units - left) * (1 - step / 3) ** 3)
            ordered = sorted(alive[index], key=lambda unit, i=index: -smoothed[i][unit])
            alive[index] = set(ordered[:left])
        plan.accumulate_importance(model)
        plan.prune(model, step / 3)

        assert live(model) == [sorted(layer) for layer in alive]


def trained_narrow(family: str, depth: int, data: TrainingData) -> tuple[nn.Module, nn.Module]:
    """Return a pruned network with statistics and weights of its own, and a small fresh one."""
    model, narrow = network(family, depth, 12), network(family, depth, 7, seed=1)
    fit(
        model,
        [WeightedObjective(objective=CrossEntropy())],
        data,
        CONFIG,
        seed=0,
        pruner=pruner(model, narrow),
    )
    return model, narrow


@pytest.mark.parametrize(("family", "depth"), NETWORKS)
def test_the_student_has_the_logits_of_the_pruned_network(data, family, depth):
    """In evaluation and in training mode, though the weights of the dead are still read."""
    wide, narrow = trained_narrow(family, depth, data)

    small = extract_student(wide, narrow)

    for training in (False, True):
        wide.train(training)
        small.train(training)
        expected, found = wide(data.series), small(data.series)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert expected.std(dim=0).min() > 1e-3
    assert [len(layer) for layer in live(wide)] == [layer.units for layer in units(small)]


def test_slicing_keeps_what_is_alive_even_where_fewer_are(data):
    """A unit that training itself drove to 0 is silent too; a dead one fills its place."""
    wide, narrow = trained_narrow("fcn", 2, data)
    first = live(wide)[0][0]
    with torch.no_grad():
        for name in units(wide)[0].weight_tensors[:4]:
            wide.get_parameter(name)[first] = 0.0

    small = extract_student(wide, narrow).eval()

    torch.testing.assert_close(small(data.series), wide(data.series), rtol=0, atol=1e-5)


def test_a_network_that_is_not_pruned_is_not_sliced():
    wide, narrow = network("fcn", 2, 8), network("fcn", 2, 3)

    with pytest.raises(ModelError, match=r"8 of 8 units are left in .*weight, the student has 3"):
        extract_student(wide, narrow)


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


def killed_at(epoch: int) -> Callable[[Epoch], None]:
    def stop(current: Epoch) -> None:
        if current.epoch == epoch:
            raise Killed

    return stop


def terms(data: TrainingData) -> list[WeightedObjective]:
    """Cross-entropy, and TSD from a teacher that draws windows at every step."""
    bank, labels = (part[data.train].numpy() for part in (data.series, data.labels))
    teacher = network("fcn", 2, 4, seed=9).eval()

    def ask(series: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return teacher(torch.from_numpy(series)).numpy()

    tsd = TSD(ask, bank, labels, windows=3, width=4, temperature=8.0)
    return [WeightedObjective(objective=CrossEntropy()), WeightedObjective(objective=tsd)]


@pytest.mark.parametrize(("family", "depth"), [("fcn", 2), ("lstm", 1)])
@pytest.mark.parametrize("stopped", [2, 4], ids=["while pruning", "afterwards"])
def test_a_stopped_run_ends_with_the_same_weights(data, tmp_path, family, depth, stopped):
    """Bit for bit: the importance of the units is in the checkpoint."""
    config = replace(CONFIG, epochs=5)
    records = RunOutputs(checkpoint=tmp_path / "run.ckpt")

    def run(records: RunOutputs, on_epoch: Callable[[Epoch], None] | None = None) -> nn.Module:
        model = network(family, depth, 8)
        plan = pruner(model, network(family, depth, 3), until=0.6, smoothing=0.9)
        fit(
            model,
            terms(data),
            data,
            config,
            seed=0,
            outputs=records,
            on_epoch=on_epoch,
            pruner=plan,
        )
        return model

    whole = run(RunOutputs())
    with pytest.raises(Killed):
        run(records, killed_at(stopped))
    resumed = run(records)

    for expected, found in zip(
        whole.state_dict().values(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(expected, found)


def test_a_checkpoint_of_another_plan_is_not_used(data, tmp_path):
    path = tmp_path / "run.ckpt"

    def run(until: float | None, on_epoch: Callable[[Epoch], None]) -> None:
        model = network("fcn", 2, 8)
        narrow = network("fcn", 2, 3)
        plan = None if until is None else pruner(model, narrow, until=until)
        term = WeightedObjective(objective=CrossEntropy())
        records = RunOutputs(checkpoint=path)
        fit(model, [term], data, CONFIG, seed=0, outputs=records, on_epoch=on_epoch, pruner=plan)

    with pytest.raises(Killed):
        run(0.5, killed_at(3))
    kept = path.read_bytes()
    for other in (0.6, None):
        path.write_bytes(kept)
        seen: list[int] = []
        run(other, lambda epoch, seen=seen: seen.append(epoch.epoch))
        assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("until", [0.5, 1.0])
def test_only_weights_of_the_right_width_are_chosen(data, until):
    """However good the wide ones were: here every epoch is worse than the one before."""
    model = network("fcn", 2, 8)
    narrow = network("fcn", 2, 3)
    term = WeightedObjective(objective=CrossEntropy(), weight=-5.0)

    history = fit(model, [term], data, CONFIG, seed=0, pruner=pruner(model, narrow, until=until))

    entropies = [epoch.validation_cross_entropy for epoch in history]
    assert min(entropies[:-1]) < entropies[-1]
    assert [len(layer) for layer in live(model)] == [3, 3]


def test_patience_waits_for_the_width(data):
    config = replace(CONFIG, epochs=8, patience=1)
    model = network("fcn", 2, 8)
    term = WeightedObjective(objective=CrossEntropy(), weight=-5.0)

    history = fit(
        model, [term], data, config, seed=0, pruner=pruner(model, network("fcn", 2, 3), until=0.5)
    )

    assert len(history) == 6  # the fifth epoch is the first of the right width, and the best


def test_overflowed_gradients_are_ignored(data):
    """Mixed precision meets them now and then, and skips the step."""
    model, narrow = network("fcn", 2, 8), network("fcn", 2, 3)
    plan, other = pruner(model, narrow), pruner(model, narrow)
    learn(model, data)
    plan.accumulate_importance(model)
    other.accumulate_importance(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)

    plan.accumulate_importance(model)

    for name in ("importance0", "importance1"):
        assert torch.equal(plan.get_buffer(name), other.get_buffer(name))


@pytest.mark.parametrize(
    ("wide", "narrow", "message"),
    [
        (("resnet", 1, 4), ("resnet", 1, 2), "teacher is of the kind ResNet, the student ResNet"),
        (("fcn", 2, 4), ("lstm", 2, 2), "teacher is of the kind FCN, the student LSTM"),
        (("fcn", 3, 4), ("fcn", 2, 2), "teacher has 3 layers, the student 2. Set student.depth"),
        (("lstm", 2, 4), ("lstm", 1, 2), "teacher has 2 layers, the student 1. Set student.depth"),
        (("fcn", 2, 4), ("fcn", 2, 4), "Set a student.width below the teacher's"),
    ],
    ids=str,
)
def test_networks_that_cannot_be_pruned_to_each_other(wide, narrow, message):
    with pytest.raises(ConfigError, match=message):
        pruner(network(*wide), network(*narrow))
