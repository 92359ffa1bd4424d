"""The epochs of a training: steps, validation, a checkpoint.

Lightning Fabric places tensors and mixes precision; this file decides what an epoch is, which
weights are kept, and how a killed run resumes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from edgedistill.distillation.context import TrainingData
from edgedistill.distillation.objectives import (
    Batch,
    StudentOutputs,
    ViewOutputs,
    WeightedObjective,
)
from edgedistill.errors import ModelError
from edgedistill.io.files import whole_file
from edgedistill.training.config import Epoch, FitConfig
from edgedistill.training.multi_output_student import MultiOutputStudent
from edgedistill.training.pruning import Pruner

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION_STEP = 2**31  # seeds the random draws of validation: the same at every epoch


@dataclass(slots=True)
class Progress:
    """The state of a run besides weights and optimizer."""

    history: list[Epoch] = field(default_factory=list)
    best: float = math.inf
    best_epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


class Loop:
    """A network in training: the state that its epochs share."""

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        terms: list[WeightedObjective],
        data: TrainingData,
        config: FitConfig,
        seed: int,
        pruner: Pruner | None,
    ) -> None:
        self.fabric, self.config, self.terms, self.pruner = fabric, config, terms, pruner
        for part in (*(term.objective for term in terms), pruner):
            fabric.to_device(part)
        self.own = [p for term in terms for p in term.objective.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            [*model.parameters(), *self.own],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.model, self.optimizer = fabric.setup(MultiOutputStudent(model), optimizer)
        self.student: nn.Module = self.model.module.student
        self.layers = sorted({name for term in terms for name in term.objective.layers})
        self.sampler: DistributedSampler[Any] = DistributedSampler(
            _rows(data, data.train),
            fabric.world_size,
            fabric.global_rank,
            shuffle=True,
            seed=seed,
        )
        size = config.batch_size
        self.train = DataLoader(_rows(data, data.train), size, sampler=self.sampler)
        self.validation = DataLoader(_rows(data, data.validation), size)

    def epoch(self, number: int) -> Epoch:
        """Train on every training series once, then validate."""
        self.sampler.set_epoch(number)
        share = self._share(number)
        active = [term for term in self.terms if share >= term.start]
        frozen = self.config.freeze_norm_from
        self.model.train()
        if frozen is not None and share >= frozen:
            _freeze_norm(self.model)
        total = 0.0
        first = (number - 1) * len(self.train)
        for step, batch in enumerate(self._placed(self.train), start=first):
            total += self._step(self._batch(batch, step), active)
        epoch = self._validate(number, self._mean(total / len(self.train)))
        for what, loss in (
            ("training", epoch.train_loss),
            ("validation", epoch.validation_loss + epoch.validation_cross_entropy),
        ):
            if not math.isfinite(loss):
                raise ModelError(
                    f"The {what} loss became {loss} in epoch {number}. Lower learning_rate "
                    f"(now {self.config.learning_rate:g}) or set clip."
                )
        return epoch

    def judge(self, epoch: Epoch, progress: Progress) -> None:
        """Keep the weights if they are the best so far by the rule of the configuration."""
        joined = max(term.ramp_end for term in self.terms)
        narrow = 0.0 if self.pruner is None else self.pruner.until
        if self._share(epoch.epoch) < max(joined, narrow):
            progress.best_epoch = epoch.epoch  # patience runs only once every term has joined
            return
        score = {
            "objective": epoch.validation_loss,
            "cross_entropy": epoch.validation_cross_entropy,
            "last": -float(epoch.epoch),
        }[self.config.select]
        if score < progress.best:
            progress.best, progress.best_epoch = score, epoch.epoch
            progress.weights = {
                name: value.detach().cpu().clone()
                for name, value in self.student.state_dict().items()
            }

    def save(self, path: Path | None, key: str, progress: Progress) -> None:
        """Write a checkpoint for `resume`."""
        if path is None or not self.fabric.is_global_zero:
            return
        state = {
            "model": self.student.state_dict(),
            "objectives": [term.objective.state_dict() for term in self.terms],
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in progress.history],
            "best": progress.best,
            "best_epoch": progress.best_epoch,
            "weights": progress.weights,
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
        }
        _save_checkpoint(path, key, state)

    def resume(self, path: Path | None, key: str) -> Progress:
        """Load the checkpoint of this very run, if there is one."""
        state = None if path is None else _load_checkpoint(path, key)
        if state is None:
            return Progress()
        self.student.load_state_dict(state["model"])
        for term, objective_state in zip(self.terms, state["objectives"], strict=True):
            term.objective.load_state_dict(objective_state)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        return Progress(
            history=[Epoch(**epoch) for epoch in state["history"]],
            best=state["best"],
            best_epoch=state["best_epoch"],
            weights=state["weights"],
        )

    def _step(self, batch: Batch, active: list[WeightedObjective]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(batch.step)
        self.optimizer.zero_grad()
        loss, _ = self._loss(batch, active, self._share_at(batch.step))
        self.fabric.backward(loss)
        self._share_gradients()
        if self.pruner is not None:
            self.pruner.accumulate_importance(self.student)
        if self.config.clip is not None and len(active) == len(self.terms):
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.config.clip)
        self.optimizer.step()
        if self.pruner is not None:
            done = (batch.step + 1) / (self.config.epochs * len(self.train))
            self.pruner.prune(self.student, done)
        return loss.item()

    def _share_gradients(self) -> None:
        """Average the gradients of the objectives' parameters; DDP does the student's."""
        if self.fabric.world_size == 1:
            return
        for parameter in self.own:
            if parameter.grad is not None:
                parameter.grad = torch.as_tensor(
                    self.fabric.all_reduce(parameter.grad, reduce_op="mean")
                )

    def _loss(
        self, batch: Batch, terms: list[WeightedObjective], share: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, weighted as after a share of training, and the clean logits.

        One clean pass serves all terms.
        """
        windows = [term.objective.windows(batch) for term in terms]
        views = [term.objective.views(batch) for term in terms]
        logits, changes, features, of_views = self.model(batch.series, windows, self.layers, views)
        view_outputs = [
            None if view is None else ViewOutputs(view, *outputs)
            for view, outputs in zip(views, of_views, strict=True)
        ]
        losses = [
            term.weight_at(share)
            * term.objective(batch, StudentOutputs(logits, part, change, features, others))
            for term, part, change, others in zip(
                terms, windows, changes, view_outputs, strict=True
            )
        ]
        return torch.stack(losses).sum(), logits

    @torch.no_grad()
    def _validate(self, number: int, train_loss: float) -> Epoch:
        self.model.eval()
        loss = entropy = hits = 0.0
        count = 0
        for tensors in self._placed(self.validation):
            batch = self._batch(tensors, VALIDATION_STEP)
            labels = batch.labels
            count += len(labels)
            part, logits = self._loss(batch, self.terms)
            loss += part.item() * len(labels)
            entropy += functional.cross_entropy(logits, labels, reduction="sum").item()
            hits += (logits.argmax(dim=1) == labels).sum().item()
        return Epoch(
            epoch=number,
            train_loss=train_loss,
            validation_loss=self._mean(loss / count),
            validation_cross_entropy=self._mean(entropy / count),
            validation_accuracy=self._mean(hits / count),
        )

    def _batch(self, tensors: list[Tensor], step: int) -> Batch:
        rows, series, labels, *labeled = tensors
        return Batch(rows, series, labels, step, labeled[0] if labeled else None)

    def _share(self, number: int) -> float:
        """Return the share of training done; in the last epoch every term has joined."""
        return 1.0 if number == self.config.epochs else (number - 1) / self.config.epochs

    def _share_at(self, step: int) -> float:
        """Return the share of training done before an optimizer step."""
        number = step // len(self.train) + 1
        return max(self._share(number), step / (self.config.epochs * len(self.train)))

    def _learning_rate(self, step: int) -> float:
        if self.config.schedule == "constant":
            return self.config.learning_rate
        share = step / (self.config.epochs * len(self.train))
        return self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def _mean(self, value: float) -> float:
        """Return the mean over processes, so that all decide the same."""
        return torch.as_tensor(self.fabric.all_reduce(torch.tensor(value), reduce_op="mean")).item()

    def _placed(self, loader: DataLoader[Any]) -> Iterator[list[Tensor]]:
        """Yield batches on the device.

        Fabric's own loader would count epochs from the start of the process, so a resumed
        run would see the series in another order.
        """
        for batch in loader:
            yield self.fabric.to_device(batch)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, and the partial file of a process that was killed while it wrote one."""
    for stale in (path, *path.parent.glob(f".{path.name}.*")):
        stale.unlink(missing_ok=True)


def _rows(data: TrainingData, rows: Tensor) -> TensorDataset:
    labeled = () if data.labeled is None else (data.labeled[rows],)
    return TensorDataset(rows, data.series[rows], data.labels[rows], *labeled)


def _freeze_norm(model: nn.Module) -> None:
    """Keep batch-norm statistics: the student will run on series, not on perturbed copies."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _save_checkpoint(path: Path, key: str, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values of the run `key`, whole or not at all."""
    buffer = io.BytesIO()  # torch hides the disk's error when it writes by itself
    torch.save({"key": key, **state}, buffer)
    with whole_file(path) as partial:
        partial.write_bytes(buffer.getvalue())


def _load_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Return the state that `_save_checkpoint` wrote of this very run; None if there is none.

    A damaged file counts as none: a fresh start ends with the same weights.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return None
    return state if state["key"] == key else None
