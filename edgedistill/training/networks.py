"""Save and load networks: weights as safetensors, with the facts that rebuild the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import nn

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError, DataError, ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.io.files import read_json, whole_file, write_json
from edgedistill.models import ModelSpec, build, cost
from edgedistill.teachers import TorchClassifier
from edgedistill.training.config import Epoch

WEIGHTS, FACTS = "weights.safetensors", "model.json"
_UNREADABLE = (
    ConfigError,  # a family or a size that `build` does not know
    DataError,
    KeyError,
    TypeError,
    OSError,
    RuntimeError,  # weights of another network
    SafetensorError,
)


def build_untrained(spec: ModelSpec, data: Prepared, *, seed: int) -> nn.Module:
    """Return an untrained network for these series; the seed decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(spec, **_shape(data))


def save(
    model: nn.Module, spec: ModelSpec, data: Prepared, history: list[Epoch], out: Path
) -> None:
    """Save weights, the facts that rebuild the network, its cost and its learning curves."""
    facts = {
        "spec": asdict(spec),
        **_shape(data),
        "cost": asdict(cost(model, channels=data.channels, length=data.length)),
        "history": [asdict(epoch) for epoch in history],
    }
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with whole_file(out / WEIGHTS) as partial:
        partial.write_bytes(serialized(tensors))
    write_json(out / FACTS, facts)


def open_network(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return a network in eval mode and the facts that `save` wrote.

    Raises:
        ModelError: the folder does not hold a network of ours.
    """
    try:
        facts = read_json(folder / FACTS)
        shape = {key: facts[key] for key in ("channels", "classes", "length")}
        model = build(ModelSpec(**facts["spec"]), **shape)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except _UNREADABLE as error:
        raise ModelError(
            f"{folder} does not hold a network of ours ({error}). Train it again."
        ) from error
    return model.eval(), facts


def open_classifier(
    folder: Path, names: tuple[str, ...], series: Floats, *, name: str | None = None
) -> TorchClassifier:
    """Return the network in a folder as a classifier of these series.

    Args:
        folder: folder that `save` wrote into.
        names: names of the classes.
        series: series that it will classify, (N, C, T).
        name: name of the classifier; None is the folder's.

    Raises:
        ModelError: the folder does not hold a network of ours.
        ShapeError: the network is made for other series.
    """
    module, facts = open_network(folder)
    _check_shape(folder, facts, series.shape[1], series.shape[2], len(names))
    return TorchClassifier(module, classes=len(names), name=name or folder.name)


def _shape(data: Prepared) -> dict[str, int]:
    return {"channels": data.channels, "classes": data.classes, "length": data.length}


def _check_shape(path: Path, facts: Mapping[str, Any], channels: int, length: int, k: int) -> None:
    """Refuse series of another shape than the network was trained on."""
    made = facts["channels"], facts["length"], facts["classes"]
    if made != (channels, length, k):
        raise ShapeError(
            f"The network in {path} is made for {made[0]} channels, {made[1]} steps and {made[2]} "
            f"classes; these series have {channels}, {length} and {k}. Name the data it was "
            "trained on, and repeat the settings it was trained with (--set)."
        )
