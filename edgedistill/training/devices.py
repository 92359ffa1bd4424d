"""The devices and processes of a training, and its log."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from edgedistill.errors import MachineError

if TYPE_CHECKING:  # takes two seconds; a wrong recipe is refused sooner without it
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


def fabric(
    *,
    accelerator: str,
    number: int,
    strategy: str,
    precision: Precision,
    tensorboard: Path | None,
) -> Fabric:
    """Set up the Fabric that places tensors and starts processes.

    Args:
        accelerator: kind of device, such as "auto" or "cpu".
        number: number of devices, a process each.
        strategy: strategy of several processes; "auto" spawns them.
        precision: precision of the arithmetic.
        tensorboard: folder for events; None writes none.

    Raises:
        MachineError: this machine has no such devices.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    # "auto" would start several processes by running the whole command again.
    several = strategy == "auto" and number > 1
    loggers: list[Logger] = []
    if tensorboard is not None:
        loggers = [TensorBoardLogger(tensorboard.parent, name=tensorboard.name, version="")]
    try:
        return Fabric(
            accelerator=accelerator,
            devices=number,
            strategy="ddp_spawn" if several else strategy,
            precision=precision,
            loggers=loggers,
        )
    except (RuntimeError, ValueError, ImportError) as error:
        reason = str(error).rstrip(".!")
        raise MachineError(
            f"This machine cannot train with accelerator={accelerator!r}, "
            f"devices={number}, strategy={strategy!r}: {reason}. Set "
            "training.accelerator to cpu and training.devices to 1."
        ) from error


def log(run: Fabric, step: int, values: Mapping[str, float]) -> None:
    """Write the values of a step; errors are raised as they are."""
    try:
        run.log_dict(values, step=step)
    except ValueError as error:  # which hides the cause, such as a full disk
        raise error.__cause__ or error from error


def leave_group(run: Fabric) -> None:
    """End a spawned process's part in the group.

    Left to the end of the process, the group's threads sometimes abort it. And they must
    have let go of our tensors (hence the barrier), and DDP of the group (hence the
    collection), or they wait for the interpreter's lock while its holder waits for them.
    """
    run.barrier()
    gc.collect()
    torch.distributed.destroy_process_group()
