"""A torch module from a named factory and a file of safetensors."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgedistill.errors import ModelError, UsageError

_SHOWN = 5  # names of tensors in a message


def load_module(
    spec: str, *, weights: Path | None, channels: int, classes: int, length: int
) -> nn.Module:
    """Return the module that `package.module:factory` makes, with `weights` in it.

    The factory gets those of `channels`, `classes` and `length` that it has parameters for. Modules
    of the current folder can be named too. Without weights the module stays as the factory made it.

    Raises:
        UsageError: no such module or factory, or the weights are no safetensors file.
        ModelError: the factory makes no `nn.Module`, or the weights do not fit it exactly.
    """
    factory = _find(spec)
    offered = {"channels": channels, "classes": classes, "length": length}
    module = factory(**_accepted(factory, offered))
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{spec} makes a {type(module).__name__}. A factory returns a torch.nn.Module."
        )
    if weights is not None:
        _fill(module, weights)
    return module


def _find(spec: str) -> Callable[..., object]:
    module_name, _, name = spec.partition(":")
    try:
        with _current_folder_importable():
            module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise UsageError(
            f"Cannot import {module_name!r} of the teacher {spec!r}: {error}. "
            "Install its package, or run in the folder that holds it."
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(
            f"{module_name} has no factory {name!r}.{_near(name, module)} Name a function or class "
            "that returns the module."
        )
    found: Callable[..., object] = factory
    return found


def _near(name: str, module: ModuleType) -> str:
    near = difflib.get_close_matches(name, dir(module), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Let `my_model:build` be found beside the recipe, as under `python -m`."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _accepted(factory: Callable[..., object], offered: dict[str, int]) -> dict[str, int]:
    parameters = inspect.signature(factory).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return offered
    return {name: value for name, value in offered.items() if name in parameters}


def _fill(module: nn.Module, weights: Path) -> None:
    if weights.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{weights} is no .safetensors file, and pickled weights run code when they are "
            "opened. Save them with safetensors.torch.save_file(module.state_dict(), path)."
        )
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"Cannot read {weights}: {error}. Copy or save it again.") from error
    problems = _misfits(module.state_dict(), tensors)
    if problems:
        raise ModelError(
            f"{weights} does not fit the module: {'; '.join(problems)}. "
            "Give the weights of this very architecture."
        )
    module.load_state_dict(tensors)


def _misfits(expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    shapes = [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    groups = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": shapes,
    }
    return [f"{len(g)} {kind} ({_some(g)})" for kind, g in groups.items() if g]


def _some(names: list[str]) -> str:
    more = "" if len(names) <= _SHOWN else ", ..."
    return ", ".join(names[:_SHOWN]) + more
