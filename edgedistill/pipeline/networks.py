"""A network of ours on disk: weights as safetensors, beside what builds it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialized
from torch import nn

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError, DataError, ModelError
from edgedistill.io.files import read_json, whole_file, write_json
from edgedistill.models import ModelSpec, build, cost
from edgedistill.recipe.schema import ModelSection
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


def model_spec(section: ModelSection) -> ModelSpec:
    """Return the architecture that a section of a recipe names."""
    return ModelSpec(
        family=section.family,
        width=section.width,
        depth=section.depth,
        explained=section.explained,
    )


def build_untrained(section: ModelSection, data: Prepared, *, seed: int) -> nn.Module:
    """Return an untrained network for these series; the seed decides its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(model_spec(section), **_shape(data))


def save(
    model: nn.Module, section: ModelSection, data: Prepared, history: list[Epoch], out: Path
) -> None:
    """Write weights, what builds the network, its cost and its learning curves."""
    facts = {
        "spec": asdict(model_spec(section)),
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


def _shape(data: Prepared) -> dict[str, int]:
    return {"channels": data.channels, "classes": data.classes, "length": data.length}
