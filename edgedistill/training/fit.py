"""One training loop for teacher and student, on one device or several.

Lightning Fabric places tensors and runs several processes; this file starts them, and returns
their results.
"""

from __future__ import annotations

import copy
import gc
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill import set_library_defaults
from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import WeightedObjective
from edgedistill.errors import ConfigError, MachineError
from edgedistill.io.files import fingerprint
from edgedistill.training.config import Epoch, FitConfig, RunOutputs
from edgedistill.training.loop import Loop, Progress, remove_checkpoint
from edgedistill.training.pruning import Pruner

if TYPE_CHECKING:  # takes two seconds; a wrong recipe is refused sooner without it
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger


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
    return _launch(_Run(model, list(terms), data, config, seed, outputs, on_epoch, pruner, until))


@dataclass(frozen=True, slots=True)
class _Run:
    """The arguments of `fit`, as every process gets them."""

    model: nn.Module
    terms: list[WeightedObjective]
    data: TrainingData
    config: FitConfig
    seed: int
    outputs: RunOutputs
    on_epoch: Callable[[Epoch], None] | None
    pruner: Pruner | None
    until: int | None


def _launch(run: _Run) -> list[Epoch]:
    """Train in one process or several, and load the chosen weights."""
    config = run.config
    fabric = _make_fabric(config, run.outputs.tensorboard)
    if config.devices > 1:
        run = replace(run, on_epoch=None)
    history, weights = fabric.launch(partial(_train, run=run))
    if not weights:
        raise ConfigError(
            f"Training was to stop after epoch {run.until} of {config.epochs}, before every term "
            "counted in full, so there are no weights to choose. Stop later."
        )
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    run.model.load_state_dict(state)
    run.model.cpu().eval()
    return [Epoch(**epoch) for epoch in history]


def _train(fabric: Fabric, *, run: _Run) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Train in this process; return the learning curves and the chosen weights.

    Plain values: Fabric cannot carry frozen dataclasses over from another process.
    """
    run = _own_memory(run) if fabric.world_size > 1 else run
    checkpoint = run.outputs.checkpoint
    loop = Loop(fabric, run.model, run.terms, run.data, run.config, run.seed, run.pruner)
    progress = _run_epochs(fabric, loop, run)
    for logger in fabric.loggers:
        logger.finalize("success")
    if checkpoint is not None and run.until is None and fabric.is_global_zero:
        remove_checkpoint(checkpoint)
    del loop
    if multiprocessing.parent_process() is not None and torch.distributed.is_initialized():
        _leave_group(fabric)
    weights = {name: value.numpy() for name, value in progress.weights.items()}
    return [asdict(epoch) for epoch in progress.history], weights


def _own_memory(run: _Run) -> _Run:
    """Copy tensors on the CPU, whose memory spawned processes would share."""
    for term in run.terms:
        for value in (*term.objective.parameters(), *term.objective.buffers()):
            value.data = value.data.clone()
    return replace(run, model=copy.deepcopy(run.model))


def _run_epochs(fabric: Fabric, loop: Loop, run: _Run) -> Progress:
    """Run the epochs that are left, with a checkpoint after each."""
    config, checkpoint = run.config, run.outputs.checkpoint
    key = _key(run)
    progress = loop.resume(checkpoint, key)
    end = config.epochs if run.until is None else min(run.until, config.epochs)
    for number in range(len(progress.history) + 1, end + 1):
        if config.patience is not None and number - 1 - progress.best_epoch >= config.patience:
            break
        epoch = loop.epoch(number)
        progress.history.append(epoch)
        loop.judge(epoch, progress)
        _log(fabric, epoch.epoch, _curves(epoch))
        if run.on_epoch is not None:
            run.on_epoch(epoch)
        loop.save(checkpoint, key, progress)
    return progress


def _curves(epoch: Epoch) -> dict[str, float]:
    return {name: value for name, value in asdict(epoch).items() if name != "epoch"}


def _key(run: _Run) -> str:
    """Hash all that identifies a run, so that a checkpoint resumes its own run only."""
    objectives = [
        [type(term.objective).__name__, term.weight, term.start, term.ramp] for term in run.terms
    ]
    shapes = {name: list(value.shape) for name, value in run.model.state_dict().items()}
    own = [list(p.shape) for t in run.terms for p in t.objective.parameters() if p.requires_grad]
    pruned = [] if run.pruner is None else run.pruner.key
    return fingerprint(
        [asdict(run.config), run.seed, objectives, shapes, own, len(run.data.series), pruned]
    )


def _make_fabric(config: FitConfig, tensorboard: Path | None) -> Fabric:
    """Set up the Fabric that places tensors and starts processes; `tensorboard` gets events.

    Raises:
        MachineError: this machine has no such devices.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    # "auto" would start several processes by running the whole command again.
    several = config.strategy == "auto" and config.devices > 1
    loggers: list[Logger] = []
    if tensorboard is not None:
        loggers = [TensorBoardLogger(tensorboard.parent, name=tensorboard.name, version="")]
    try:
        return Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            strategy="ddp_spawn" if several else config.strategy,
            precision=config.precision,
            loggers=loggers,
        )
    except (RuntimeError, ValueError, ImportError) as error:
        reason = str(error).rstrip(".!")
        raise MachineError(
            f"This machine cannot train with accelerator={config.accelerator!r}, "
            f"devices={config.devices}, strategy={config.strategy!r}: {reason}. Set "
            "training.accelerator to cpu and training.devices to 1."
        ) from error


def _log(run: Fabric, step: int, values: Mapping[str, float]) -> None:
    """Write the values of a step; errors are raised as they are."""
    try:
        run.log_dict(values, step=step)
    except ValueError as error:  # which hides the cause, such as a full disk
        raise error.__cause__ or error from error


def _leave_group(run: Fabric) -> None:
    """End a spawned process's part in the group.

    Left to the end of the process, the group's threads sometimes abort it. And they must
    have let go of our tensors (hence the barrier), and DDP of the group (hence the
    collection), or they wait for the interpreter's lock while its holder waits for them.
    """
    run.barrier()
    gc.collect()
    torch.distributed.destroy_process_group()
