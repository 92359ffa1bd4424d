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
from edgedistill.models.costs import cost
from edgedistill.models.networks import build
from edgedistill.models.spec import FactorySpec, ModelSpec, NetworkSpec
from edgedistill.teachers.classifier import describe_error
from edgedistill.teachers.factory import load_module
from edgedistill.teachers.torch import TorchClassifier
from edgedistill.training.config import FACTS, WEIGHTS, Epoch

_UNREADABLE = (
    ConfigError,  # a family or a size that `build` does not know
    DataError,
    KeyError,
    TypeError,
    OSError,
    RuntimeError,  # weights of another network
    SafetensorError,
)


def build_untrained(spec: NetworkSpec, data: Prepared, *, seed: int) -> nn.Module:
    """Return an untrained network for these series; the seed decides its weights.

    Raises:
        UsageError: a factory cannot be imported.
        ModelError: it fails, or what it makes is no classifier of these series.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _build(spec, **_shape(data))


def save(
    model: nn.Module, spec: NetworkSpec, data: Prepared, history: list[Epoch], out: Path
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
        model = _build(_spec(facts["spec"]), **shape)
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


def _spec(facts: Mapping[str, Any]) -> NetworkSpec:
    return FactorySpec(**facts) if "source" in facts else ModelSpec(**facts)


def _build(spec: NetworkSpec, *, channels: int, classes: int, length: int) -> nn.Module:
    sizes = {"channels": channels, "classes": classes, "length": length}
    if isinstance(spec, ModelSpec):
        return build(spec, **sizes)
    network = load_module(
        spec.source,
        weights=None,
        channels=channels,
        classes=classes,
        length=length,
        arguments=spec.arguments,
    )
    _check_classifier(network, spec.source, **sizes)
    return network


@torch.no_grad()
def _check_classifier(
    network: nn.Module, name: str, *, channels: int, classes: int, length: int
) -> None:
    """Refuse a network that does not return logits alone; this also makes its lazy layers.

    Raises:
        ModelError: it does not take series (N, C, T), or gives other than real numbers (N, K).
    """
    series = torch.zeros(2, channels, length)
    was_training = network.training
    try:
        output = network.eval()(series)
    except Exception as error:
        raise ModelError(
            f"The network of {name} cannot take series of shape {tuple(series.shape)} (N, C, T): "
            f"{describe_error(error)}. Run it on such a batch yourself to see more."
        ) from error
    network.train(was_training)
    is_tensor = isinstance(output, torch.Tensor)
    if not is_tensor or output.shape != (2, classes) or not output.is_floating_point():
        kind = f"shape {tuple(output.shape)}" if is_tensor else f"type {type(output).__name__}"
        raise ModelError(
            f"The network of {name} gives an output of {kind} for 2 series of {classes} classes. "
            f"Let it return the logits alone, real numbers of shape (2, {classes})."
        )


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
