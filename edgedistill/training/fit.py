"""One training loop for teacher and student, on one device or several.

Lightning Fabric runs several processes; this file starts them, and returns their results.
"""

from __future__ import annotations

import copy
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from edgedistill import set_library_defaults
from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.errors import ConfigError
from edgedistill.io.files import fingerprint
from edgedistill.training import checkpoints, devices
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.loop import Loop
from edgedistill.training.pruning import Pruner


def fit(
    model: nn.Module,
    terms: Sequence[WeightedObjective],
    data: TrainingData,
    config: FitConfig,
    *,
    seed: int,
    outputs: RunOutputs | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    pruner: Pruner | None = None,
    until: int | None = None,
) -> list[Epoch]:
    """Train `model` in place and leave the chosen weights in it.

    Args:
        model: maps (N, C, T) to logits (N, K).
        terms: objectives to minimize, each with its weight.
        data: series, labels, and the rows for training and for validation.
        config: epochs, optimizer, selection, devices.
        seed: seed of the shuffling; the weights have their own.
        outputs: files for checkpoint and TensorBoard events.
        on_epoch: called after every epoch; not across processes.
        pruner: removes units of the network; only weights without them are chosen.
        until: epoch after which to stop and keep the checkpoint, from which the next call
            resumes as if there had been no stop; the weights left in `model` are the best so far.

    Returns:
        The learning curves, an entry an epoch.

    Raises:
        ConfigError: no weights can be chosen after as few epochs as `until`.
        MachineError: this machine has no such devices.
        ModelError: the loss is no longer a number.
    """
    set_library_defaults()  # torch is here already; Numba's threads and other processes are not
    outputs = outputs or RunOutputs()
    fabric = devices.fabric(
        accelerator=config.accelerator,
        number=config.devices,
        strategy=config.strategy,
        precision=config.precision,
        tensorboard=outputs.tensorboard,
    )
    callback = on_epoch if config.devices == 1 else None
    run = partial(
        _run,
        model=model,
        terms=list(terms),
        data=data,
        config=config,
        seed=seed,
        checkpoint=outputs.checkpoint,
        on_epoch=callback,
        pruner=pruner,
        until=until,
    )
    history, weights = fabric.launch(run)
    if not weights:
        raise ConfigError(
            f"Training was to stop after epoch {until} of {config.epochs}, before every term "
            "counted in full, so there are no weights to choose. Stop later."
        )
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model.cpu().eval()
    return [Epoch(**epoch) for epoch in history]


def _run(
    fabric: Fabric,
    *,
    model: nn.Module,
    terms: list[WeightedObjective],
    data: TrainingData,
    config: FitConfig,
    seed: int,
    checkpoint: Path | None,
    on_epoch: Callable[[Epoch], None] | None,
    pruner: Pruner | None,
    until: int | None,
) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    if fabric.world_size > 1:  # spawned processes share the memory of what is on the CPU
        model = copy.deepcopy(model)
        for term in terms:
            for value in (*term.objective.parameters(), *term.objective.buffers()):
                value.data = value.data.clone()
    loop = Loop(fabric, model, terms, data, config, seed, pruner)
    key = _key(model, terms, data, config, seed, pruner)
    progress = loop.resume(checkpoint, key)
    end = config.epochs if until is None else min(until, config.epochs)
    for number in range(len(progress.history) + 1, end + 1):
        if config.patience is not None and number - 1 - progress.best_epoch >= config.patience:
            break
        epoch = loop.epoch(number)
        progress.history.append(epoch)
        loop.judge(epoch, progress)
        devices.log(fabric, epoch.epoch, _curves(epoch))
        if on_epoch is not None:
            on_epoch(epoch)
        loop.save(checkpoint, key, progress)
    for logger in fabric.loggers:
        logger.finalize("success")
    if checkpoint is not None and until is None and fabric.is_global_zero:
        checkpoints.remove(checkpoint)
    del loop
    if multiprocessing.parent_process() is not None and torch.distributed.is_initialized():
        devices.leave_group(fabric)
    # Plain values: Fabric cannot carry frozen dataclasses over from another process.
    weights = {name: value.numpy() for name, value in progress.weights.items()}
    return [asdict(epoch) for epoch in progress.history], weights


def _curves(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in asdict(epoch).items() if name != "epoch"}


def _key(
    model: nn.Module,
    terms: list[WeightedObjective],
    data: TrainingData,
    config: FitConfig,
    seed: int,
    pruner: Pruner | None,
) -> str:
    """Hash all that identifies a run, so that a checkpoint resumes its own run only."""
    objectives = [
        [type(term.objective).__name__, term.weight, term.start, term.ramp] for term in terms
    ]
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    own = [list(p.shape) for t in terms for p in t.objective.parameters() if p.requires_grad]
    pruned = [] if pruner is None else pruner.key
    return fingerprint([asdict(config), seed, objectives, shapes, own, len(data.series), pruned])
