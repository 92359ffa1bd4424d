"""The one training loop, on real series."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from aeon.datasets import load_italy_power_demand
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_pre_hook

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import TSD, CrossEntropy, Objective, WeightedObjective
from edgedistill.errors import ConfigError, MachineError, ModelError
from edgedistill.models import ModelSpec, build
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.fit import fit

pytestmark = pytest.mark.slow

CONFIG = FitConfig(epochs=6, batch_size=8, learning_rate=0.02, accelerator="cpu")
TRAINED, CLASSES = 48, 2


def italy() -> TrainingData:
    """ItalyPowerDemand's 67 training series, 19 of them for validation."""
    x, y = load_italy_power_demand(split="train")
    rows = torch.arange(len(x))
    return TrainingData(
        series=torch.from_numpy(x.astype(np.float32)),
        labels=torch.from_numpy(y.astype(np.int64) - 1),
        train=rows[:TRAINED],
        validation=rows[TRAINED:],
    )


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return italy()


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(ModelSpec(family="fcn", width=2), channels=1, classes=CLASSES, length=24)


def entropy(weight: float = 1.0, start: float = 0.0, ramp: float = 0.0) -> WeightedObjective:
    return WeightedObjective(objective=CrossEntropy(), weight=weight, start=start, ramp=ramp)


def train(
    data: TrainingData, config: FitConfig, *terms: WeightedObjective, seed: int = 0
) -> tuple[list[Epoch], nn.Module]:
    """Train a fresh network, by default on cross-entropy alone."""
    model = network()
    return fit(model, terms or [entropy()], data, config, seed=seed), model


def validation_entropy(model: nn.Module, data: TrainingData) -> float:
    with torch.no_grad():
        logits = model(data.series[data.validation])
    return functional.cross_entropy(logits, data.labels[data.validation]).item()


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two networks agree in every bit, batch-norm statistics included."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def worsening(start: float, ramp: float = 0.0) -> WeightedObjective:
    """A term that drives the cross-entropy up as soon as it joins."""
    return entropy(weight=-20.0, start=start, ramp=ramp)


class Level(Objective):
    """A loss of 1 for any student, so that the loss of a step is its weight."""

    def forward(self, _batch, answer):
        return 1 + 0 * answer.logits.sum()


@contextmanager
def before_steps(look: Callable[[torch.optim.Optimizer], None]) -> Iterator[None]:
    """Look at the optimizer right before each of its steps."""
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: look(optimizer))
    try:
        yield
    finally:
        handle.remove()


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return float(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in parameters])))


def test_a_network_learns(data):
    """The loss falls and the accuracy rises well above the larger class."""
    history, model = train(data, replace(CONFIG, epochs=25))

    assert [epoch.epoch for epoch in history] == list(range(1, 26))
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    assert max(epoch.validation_accuracy for epoch in history) >= 0.85
    assert not model.training


def test_the_seed_decides_the_weights(data):
    """One seed gives one set of weights, another seed another order, so others."""
    _, first = train(data, CONFIG, seed=1)
    _, again = train(data, CONFIG, seed=1)
    _, other = train(data, CONFIG, seed=2)

    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_the_callback_gets_every_epoch(data):
    heard = []

    history = fit(network(), [entropy()], data, CONFIG, seed=0, on_epoch=heard.append)

    assert heard == history


def test_best_cross_entropy_is_kept(data):
    """A run that gets worse gives back its best weights, not its last."""
    config = replace(CONFIG, learning_rate=0.3, select="cross_entropy")

    history, model = train(data, config)

    entropies = [epoch.validation_cross_entropy for epoch in history]
    assert min(entropies) < entropies[-1]
    assert validation_entropy(model, data) == pytest.approx(min(entropies), rel=1e-5)


def test_best_objective_is_kept(data):
    """With every term counted: here the weights that are worst in cross-entropy."""
    config = replace(CONFIG, select="objective")

    history, model = train(data, config, entropy(), worsening(start=0.0))

    best = min(history, key=lambda epoch: epoch.validation_loss)
    assert best.validation_cross_entropy == max(e.validation_cross_entropy for e in history)
    assert validation_entropy(model, data) == pytest.approx(best.validation_cross_entropy, rel=1e-5)


def test_last_weights_are_kept(data):
    config = replace(CONFIG, learning_rate=0.3, select="last", patience=1)

    history, model = train(data, config)

    last = history[-1].validation_cross_entropy
    assert len(history) == config.epochs
    assert last > min(epoch.validation_cross_entropy for epoch in history)
    assert validation_entropy(model, data) == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize("select", ["cross_entropy", "objective"])
def test_weights_before_the_last_term_joined_are_never_kept(data, select):
    """They were not trained with the last term, however low their loss."""
    config = replace(CONFIG, epochs=20, select=select)

    history, model = train(data, config, entropy(), worsening(start=0.5))

    entropies = [epoch.validation_cross_entropy for epoch in history]
    assert min(entropies[:10]) < min(entropies[10:])
    kept = validation_entropy(model, data)
    assert any(kept == pytest.approx(value, rel=1e-5) for value in entropies[10:])


def test_a_term_joins_late(data):
    """It is validated from the start, but not trained on before its share of the epochs."""
    config = replace(CONFIG, epochs=4)

    alone, _ = train(data, config)
    late, _ = train(data, config, entropy(), worsening(start=0.5))

    assert [e.train_loss for e in late[:2]] == [e.train_loss for e in alone[:2]]
    assert late[2].train_loss < 0 < alone[2].train_loss
    assert late[0].validation_loss == pytest.approx(-19 * alone[0].validation_loss, rel=1e-5)


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_last_epoch_has_every_term(data, epochs):
    """So that a short run ends with weights, however late its last term joins."""
    history, model = train(data, replace(CONFIG, epochs=epochs), entropy(), worsening(start=0.95))

    assert history[-1].train_loss < 0
    kept = validation_entropy(model, data)
    assert kept == pytest.approx(history[-1].validation_cross_entropy, rel=1e-5)


def test_a_weight_grows_linearly_over_its_ramp(data):
    """Step by step from 0, over a share of the epochs that follow its start; judged in full."""
    term = WeightedObjective(objective=Level(), weight=3.0, start=0.25, ramp=0.5)
    epochs, steps = 8, TRAINED // CONFIG.batch_size

    history, _ = train(data, replace(CONFIG, epochs=epochs), term, entropy(weight=0.0))

    slow = [
        np.mean([3 * min(max(n * steps + s - 12, 0) / 24, 1) for s in range(steps)])
        for n in range(epochs)
    ]
    assert [epoch.train_loss for epoch in history] == pytest.approx(slow, abs=1e-6)
    assert slow[1] == 0 < slow[2] < slow[5] < slow[6] == 3
    assert {epoch.validation_loss for epoch in history} == {3.0}


def test_a_ramp_of_a_last_epoch_counts_in_full(data):
    """So that a short run ends with weights that saw every term."""
    term = WeightedObjective(objective=Level(), start=1 / 3, ramp=2 / 3)

    history, _ = train(data, replace(CONFIG, epochs=3), entropy(weight=0.0), term)

    assert history[-1].train_loss == 1


@pytest.mark.parametrize("select", ["cross_entropy", "objective"])
def test_weights_before_the_end_of_a_ramp_are_never_kept(data, select):
    """They were not trained at its whole weight; without the ramp they could be kept."""
    config = replace(CONFIG, epochs=20, select=select)

    history, model = train(data, config, entropy(), worsening(start=0.25, ramp=0.5))

    entropies = [epoch.validation_cross_entropy for epoch in history]
    assert min(entropies[5:15]) < min(entropies[15:])
    kept = validation_entropy(model, data)
    assert any(kept == pytest.approx(value, rel=1e-5) for value in entropies[15:])


def test_patience_waits_for_the_end_of_a_ramp(data):
    config = replace(CONFIG, epochs=8, patience=1)

    history, _ = train(data, config, entropy(), worsening(start=0.25, ramp=0.5))

    assert len(history) >= 7


@pytest.mark.parametrize("ramp", [-0.1, 0.6, math.nan])
def test_a_ramp_without_an_end_is_refused(ramp):
    with pytest.raises(ConfigError, match=r"ramp is .* beside a start of 0\.5.* at most 0\.5"):
        entropy(start=0.5, ramp=ramp)
    assert entropy(start=1 / 3, ramp=2 / 3).ramp_end <= 1


def test_patience_stops(data):
    """It counts from the best epoch."""
    config = replace(CONFIG, epochs=40, learning_rate=0.3, patience=3)

    history, _ = train(data, config)

    entropies = [epoch.validation_cross_entropy for epoch in history]
    assert len(history) == entropies.index(min(entropies)) + 1 + 3 < 40


def test_patience_waits_for_every_term(data):
    """Before the last term has joined no epoch can be the best, so none is missed."""
    config = replace(CONFIG, epochs=8, patience=1)

    history, _ = train(data, config, entropy(), worsening(start=0.5))

    assert len(history) >= 5


@pytest.mark.parametrize(("clip", "largest"), [(None, math.inf), (0.01, 0.01)])
def test_clip_limits_the_gradient(data, clip, largest):
    norms: list[float] = []

    with before_steps(lambda optimizer: norms.append(gradient_norm(optimizer))):
        train(data, replace(CONFIG, epochs=2, clip=clip))

    assert max(norms) <= largest * 1.001
    assert (max(norms) > 0.05) == (clip is None)


def test_clip_waits_for_every_term(data):
    """While the network learns to classify its gradients are its own."""
    norms: list[float] = []

    with before_steps(lambda optimizer: norms.append(gradient_norm(optimizer))):
        train(data, replace(CONFIG, epochs=2, clip=0.01), entropy(), entropy(start=0.5))

    first, second = norms[: len(norms) // 2], norms[len(norms) // 2 :]
    assert min(first) > 0.01
    assert max(second) <= 0.01001


def test_cosine_ends_near_zero_and_constant_stays(data):
    rates: dict[str, list[float]] = {"cosine": [], "constant": []}

    for schedule, seen in rates.items():
        with before_steps(lambda optimizer, s=seen: s.append(optimizer.param_groups[0]["lr"])):
            train(data, replace(CONFIG, epochs=4, schedule=schedule))

    steps = 4 * TRAINED // CONFIG.batch_size
    assert set(rates["constant"]) == {CONFIG.learning_rate}
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["cosine"][0] == CONFIG.learning_rate
    assert rates["cosine"][steps // 2] == pytest.approx(CONFIG.learning_rate / 2)
    assert rates["cosine"][-1] < 0.01 * CONFIG.learning_rate


@pytest.mark.parametrize(("frozen_from", "moving"), [(0.5, 2), (None, 4)])
def test_batch_norm_statistics_freeze(data, frozen_from, moving):
    """From the given share of the epochs on running statistics stay; before it they move."""
    model = network()
    seen = [statistics(model)]
    config = replace(CONFIG, epochs=4, freeze_norm_from=frozen_from)

    fit(model, [entropy()], data, config, seed=0, on_epoch=lambda _: seen.append(statistics(model)))

    moved = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert moved == [True] * moving + [False] * (4 - moving)


def statistics(model: nn.Module) -> Tensor:
    names = ("running_mean", "running_var")
    return torch.cat([v.clone() for k, v in model.state_dict().items() if k.endswith(names)])


class Poison(Objective):
    """A loss that is no number, for training series or for validation series only."""

    def __init__(self, *, training: bool) -> None:
        super().__init__()
        self.at = training

    def forward(self, _batch, answer):
        return answer.logits.mean() * (math.nan if torch.is_grad_enabled() == self.at else 1.0)


@pytest.mark.parametrize(("training", "what"), [(True, "training"), (False, "validation")])
def test_a_loss_that_is_no_number_is_refused(data, training, what):
    term = WeightedObjective(objective=Poison(training=training))

    with pytest.raises(ModelError, match=f"{what} loss became nan in epoch 1. Lower learning_rate"):
        train(data, CONFIG, term)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
@pytest.mark.parametrize(
    "settings", [{"accelerator": "cuda"}, {"accelerator": "tpu"}, {"strategy": "teleport"}], ids=str
)
def test_devices_that_are_not_there(data, settings):
    with pytest.raises(MachineError, match=r"cannot train with .* Set training.accelerator to cpu"):
        train(data, replace(CONFIG, **settings))


class Killed(Exception):
    """Stands for whatever ends a run from outside."""


def killed_at(epoch: int) -> Callable[[Epoch], None]:
    def stop(current: Epoch) -> None:
        if current.epoch == epoch:
            raise Killed

    return stop


@pytest.fixture
def checkpoint(data, tmp_path) -> Path:
    """The files of a run that was stopped in its fourth epoch."""
    records = RunOutputs(checkpoint=tmp_path / "run.ckpt")
    with pytest.raises(Killed):
        fit(network(), [entropy()], data, CONFIG, seed=0, outputs=records, on_epoch=killed_at(4))
    assert records.checkpoint.exists()
    return records.checkpoint


def resume(data: TrainingData, path: Path, config: FitConfig) -> tuple[list[int], nn.Module]:
    """Return the epochs that a run had to do, and its weights."""
    done: list[int] = []
    model = network()
    fit(
        model,
        [entropy()],
        data,
        config,
        seed=0,
        outputs=RunOutputs(checkpoint=path),
        on_epoch=lambda epoch: done.append(epoch.epoch),
    )
    return done, model


def test_a_checkpoint_is_resumed(data, checkpoint):
    _, whole = train(data, CONFIG)

    done, resumed = resume(data, checkpoint, CONFIG)

    assert done == [4, 5, 6]
    assert same_weights(whole, resumed)
    assert not checkpoint.exists()


def in_parts(data: TrainingData, path: Path, config: FitConfig, *ends: int) -> nn.Module:
    """Train with stops, each part from a fresh network and its checkpoint alone."""
    for end in ends:
        model = network()
        records = RunOutputs(checkpoint=path)
        terms = [entropy(), worsening(start=0.3)]
        fit(model, terms, data, config, seed=0, outputs=records, until=end)
    return model


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_run_in_parts_ends_as_a_run_in_one(data, tmp_path, schedule):
    """In every bit, and under the learning rates of the whole run."""
    config = replace(CONFIG, schedule=schedule)
    _, whole = train(data, config, entropy(), worsening(start=0.3))

    parted = in_parts(data, tmp_path / "run.ckpt", config, 3, 4, 6)

    assert same_weights(whole, parted)


def test_a_run_that_stops_gives_its_best_weights_so_far(data, tmp_path):
    """And keeps the checkpoint, also at its end, so that asking again costs no epoch."""
    config = replace(CONFIG, learning_rate=0.3)
    path = tmp_path / "run.ckpt"
    done: list[Epoch] = []

    histories = []
    for until in (4, 4, 6, 6):
        model = network()
        histories.append(
            fit(
                model,
                [entropy()],
                data,
                config,
                seed=0,
                outputs=RunOutputs(checkpoint=path),
                on_epoch=done.append,
                until=until,
            )
        )
        best = min(epoch.validation_cross_entropy for epoch in histories[-1])
        assert validation_entropy(model, data) == pytest.approx(best, rel=1e-5)

    assert [len(history) for history in histories] == [4, 4, 6, 6]
    assert [epoch.epoch for epoch in done] == [1, 2, 3, 4, 5, 6]
    assert path.exists()


def test_patience_that_has_run_out_is_remembered(data, tmp_path):
    """A run that ended early is not resumed by a later call."""
    config = replace(CONFIG, epochs=40, learning_rate=0.3, patience=3)
    expected, whole = train(data, config)

    histories = []
    for until in (len(expected) - 1, len(expected), len(expected) + 1, 40):
        model = network()
        records = RunOutputs(checkpoint=tmp_path / "run.ckpt")
        histories.append(
            fit(model, [entropy()], data, config, seed=0, outputs=records, until=until)
        )

    assert histories[1:] == [expected] * 3
    assert same_weights(whole, model)


def test_a_stop_before_every_term_has_joined_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match=r"to stop after epoch 2 of 6, .* no weights to choose"):
        in_parts(data, tmp_path / "run.ckpt", CONFIG, 2)


def test_a_checkpoint_of_another_configuration_is_not_used(data, checkpoint):
    other = replace(CONFIG, learning_rate=0.01)
    _, whole = train(data, other)

    done, resumed = resume(data, checkpoint, other)

    assert done == [1, 2, 3, 4, 5, 6]
    assert same_weights(whole, resumed)


def test_a_checkpoint_of_another_network_is_not_used(data, checkpoint):
    wider = build(ModelSpec(family="fcn", width=3), channels=1, classes=CLASSES, length=24)

    history = fit(
        wider, [entropy()], data, CONFIG, seed=0, outputs=RunOutputs(checkpoint=checkpoint)
    )

    assert len(history) == CONFIG.epochs


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99], ids=str)
def test_a_damaged_checkpoint_means_a_fresh_start(data, checkpoint, kept):
    """It ends with the same weights, so it needs no confirmation."""
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    _, whole = train(data, CONFIG)

    done, resumed = resume(data, checkpoint, CONFIG)

    assert done == [1, 2, 3, 4, 5, 6]
    assert same_weights(whole, resumed)


def killable(folder: Path) -> None:
    """Train slowly enough to be killed on the way; run in a process of its own."""
    fit(
        network(),
        saliency_terms(italy()),
        italy(),
        CONFIG,
        seed=0,
        outputs=RunOutputs(checkpoint=folder / "run.ckpt"),
        on_epoch=lambda _: time.sleep(0.2),
    )


def goes_on(folder: Path) -> None:
    """Go on from where `killable` was killed, and hold it against a run that nobody killed."""
    data = italy()
    whole, resumed = network(), network()
    records = RunOutputs(checkpoint=folder / "run.ckpt")

    expected = fit(whole, saliency_terms(data), data, CONFIG, seed=0)
    history = fit(resumed, saliency_terms(data), data, CONFIG, seed=0, outputs=records)

    assert history == expected
    assert same_weights(whole, resumed)


def saliency_terms(data: TrainingData) -> list[WeightedObjective]:
    """Terms with random draws, which a resumed run must draw again."""
    bank, labels = (part[data.train].numpy() for part in (data.series, data.labels))
    teacher = network(seed=9).eval()

    def ask(series: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return teacher(torch.from_numpy(series)).numpy()

    tsd = TSD(ask, bank, labels, windows=3, width=4, temperature=8.0)
    return [entropy(), WeightedObjective(objective=tsd, start=0.5)]


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """Killed without warning after some epochs, resumed, it ends bit for bit where it would.

    All of it in processes of their own: what other tests left in this one moves the last bits.
    """
    path = tmp_path / "run.ckpt"
    process = subprocess.Popen([sys.executable, "-c", _calling("killable", tmp_path)])
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (tmp_path / ".run.ckpt.half.ckpt").touch()  # as if killed while it wrote the next one

    subprocess.run([sys.executable, "-c", _calling("goes_on", tmp_path)], check=True)

    assert list(tmp_path.iterdir()) == []


def _calling(function: str, folder: Path) -> str:
    """Return a program that calls a function of this file."""
    here = Path(__file__)
    program = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as t; "
    return f"{program}from pathlib import Path; t.{function}(Path({str(folder)!r}))"


def test_tensorboard_reads_the_curves(data, tmp_path):
    folder = tmp_path / "tensorboard" / "student"

    history = fit(
        network(), [entropy()], data, CONFIG, seed=0, outputs=RunOutputs(tensorboard=folder)
    )

    events = EventAccumulator(str(folder))
    events.Reload()
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        points = [(point.step, point.value) for point in events.Scalars(name)]
        assert points == [(e.epoch, pytest.approx(getattr(e, name))) for e in history]


def test_mixed_precision_trains(data):
    """bfloat16 where it is enough; weights and losses stay float32."""
    history, model = train(data, replace(CONFIG, epochs=25, precision="bf16-mixed"))

    assert history[-1].train_loss < 0.7 * history[0].train_loss
    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_two_processes_train_one_network(data, tmp_path):
    """Each takes half of every batch, and together they do what one process does with the whole.

    The LSTM has no batch norm, whose statistics would be those of half a batch.
    """
    folder = tmp_path / "two"
    config = replace(CONFIG, epochs=3, select="last")
    together, alone = (
        build(ModelSpec(family="lstm", width=3, depth=1), channels=1, classes=CLASSES, length=24)
        for _ in range(2)
    )
    alone.load_state_dict(together.state_dict())

    expected = fit(alone, [entropy()], data, config, seed=0)
    history = fit(
        together,
        [entropy()],
        data,
        replace(config, devices=2, batch_size=config.batch_size // 2),
        seed=0,
        outputs=RunOutputs(tensorboard=folder),
    )

    for pair in zip(history, expected, strict=True):
        two, one = (list(asdict(epoch).values()) for epoch in pair)
        assert two == pytest.approx(one, rel=1e-4)
    for two, one in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)
    assert len(list(folder.glob("events.*"))) == 1
