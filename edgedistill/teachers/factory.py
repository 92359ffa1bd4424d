"""Torch modules from `package.module:factory`, with weights of a safetensors file."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgedistill.errors import ModelError, UsageError
from edgedistill.io.files import sha256
from edgedistill.models.spec import Argument
from edgedistill.teachers.classifier import NoteCallback, describe_error, ignore_notes
from edgedistill.teachers.module_files import module_files

_SHOWN = 5  # names of tensors in a message
_COMPILED = "_orig_mod."  # torch.compile puts it into the names of what it wraps
_imported: dict[str, str] = {}  # hashes of the modules that factories were imported with


def load_module(
    spec: str,
    *,
    weights: Path | None,
    channels: int,
    classes: int,
    length: int,
    arguments: Mapping[str, Argument] | None = None,
    on_note: NoteCallback = ignore_notes,
) -> nn.Module:
    """Return the module that `package.module:factory` makes, with `weights` in it.

    The factory gets those of `channels`, `classes` and `length` that it has parameters for, and
    all `arguments`. Modules of the current folder can be named too. Without weights the module
    stays as the factory made it.

    Raises:
        UsageError: no such module or factory, or the weights are no safetensors file.
        ModelError: the factory fails or makes no `nn.Module`, or the weights do not fit it.
    """
    factory = _find(spec)
    offered = {"channels": channels, "classes": classes, "length": length}
    try:
        with _current_folder_importable():  # factories may import where they are called
            module = factory(**{**_accepted(factory, offered), **(arguments or {})})
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec} fails: {describe_error(error)}. A factory is called with those of "
            f"{', '.join(offered)} that it has parameters for; all others need a default "
            "or a value under arguments."
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{spec} makes a {type(module).__name__}. A factory returns a torch.nn.Module."
        )
    if weights is not None:
        fill_weights(module, weights, on_note)
    return module


def source_hashes(spec: str) -> dict[str, str]:
    """Return the SHA-256 of each source file that `package.module:factory` consists of, by module.

    Those are the module and its author's modules that it imports; empty for any other teacher.
    """
    name, colon, _ = spec.partition(":")
    if not colon:
        return {}
    with _current_folder_importable():
        return {module: sha256(path) for module, path in sorted(module_files(name).items())}


def _find(spec: str) -> Callable[..., object]:
    module_name, _, name = spec.partition(":")
    try:
        with _current_folder_importable():
            _forget_edited(module_name)
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"Cannot import {module_name!r} of {spec!r}: {describe_error(error)}. "
            "Install its package, run in the folder that holds it, or mend the module."
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UsageError(
            f"{module_name} has no factory {name!r}.{_near(name, module)} Name a function or class "
            "that returns the module."
        )
    found: Callable[..., object] = factory
    return found


def _forget_edited(name: str) -> None:
    """Unload a module that was imported before its source was edited, or from another folder."""
    files = module_files(name)
    hashes = {module: sha256(path) for module, path in files.items()}
    if any(_is_outdated(module, files[module], hashes[module]) for module in files):
        for module in files:
            sys.modules.pop(module, None)
    _imported.update(hashes)


def _is_outdated(name: str, path: Path, sha: str) -> bool:
    module = sys.modules.get(name)
    if module is None:
        return False
    return getattr(module, "__file__", None) != str(path) or _imported.get(name, sha) != sha


def _near(name: str, module: ModuleType) -> str:
    near = difflib.get_close_matches(name, dir(module), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Make `my_model:build` importable from the current folder, as under `python -m`.

    No bytecode is written: a source edited within a second, to one of equal size, would not
    replace it.
    """
    folder, writes_bytecode = str(Path.cwd()), sys.dont_write_bytecode
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_bytecode
        with suppress(ValueError):  # the module may have changed it
            sys.path.remove(folder)


def _accepted(factory: Callable[..., object], offered: Mapping[str, int]) -> dict[str, int]:
    if getattr(factory, "__init__", None) is nn.Module.__init__:
        return {}  # it takes keywords only to refuse them
    parameters = inspect.signature(factory).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}


def fill_weights(module: nn.Module, weights: Path, on_note: NoteCallback = ignore_notes) -> None:
    """Load weights into a module, exactly: no tensor is left out and none left over.

    Raises:
        UsageError: the weights are no safetensors file.
        ModelError: they do not fit the module.
    """
    tensors = _read(weights)
    expected = module.state_dict(keep_vars=True)
    tensors = _without_prefix(tensors, expected, weights, on_note)
    _tie(tensors, expected)
    try:
        module.load_state_dict(tensors)  # converts names of older versions of its layers
    except (RuntimeError, ValueError, TypeError) as error:
        problems = _misfits(expected, tensors) or [describe_error(error)]
        raise ModelError(
            f"{weights} does not fit the module: {'; '.join(problems)}. "
            "Give the weights of this very architecture."
        ) from error


def _read(weights: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; also those that safetensors left out as equal to others."""
    if weights.suffix.lower() != ".safetensors":
        raise UsageError(
            f"{weights} is no .safetensors file, and pickled weights run code when they are "
            "opened. Save them with safetensors.torch.save_file(module.state_dict(), path)."
        )
    try:
        tensors: dict[str, Tensor] = load_file(weights)
        with safe_open(weights, framework="numpy") as stored:
            metadata = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"Cannot read {weights}: {error}. Copy or save it again.") from error
    tied = {name: tensors[kept] for name, kept in metadata.items() if kept in tensors}
    return tied | tensors


def _without_prefix(
    tensors: dict[str, Tensor],
    expected: Mapping[str, Tensor],
    weights: Path,
    on_note: NoteCallback,
) -> dict[str, Tensor]:
    """Rename tensors of a wrapped module, whose names begin with the wrapper's attribute."""
    plain = {name.replace(_COMPILED, ""): tensor for name, tensor in tensors.items()}
    if plain.keys() != tensors.keys() and len(plain) == len(tensors):
        on_note(f"Names in {weights.name} were taken without {_COMPILED!r} of torch.compile.")
    else:
        plain = tensors
    if prefix := _prefix(plain, expected):
        on_note(f"Names in {weights.name} were taken without their prefix {prefix!r}.")
        return {name.removeprefix(prefix): tensor for name, tensor in plain.items()}
    if prefix := _prefix(expected, plain):
        on_note(f"Names in {weights.name} were taken with the prefix {prefix!r} of the module.")
        return {prefix + name: tensor for name, tensor in plain.items()}
    return plain


def _prefix(longer: Mapping[str, Tensor], shorter: Mapping[str, Tensor]) -> str:
    """Return what all names of one mapping have before those of the other; else nothing.

    One side may lack some names of the other: those of tied weights.
    """
    first = next(iter(longer), "")
    for other in shorter:
        prefix = first.removesuffix(other)
        if prefix == first or not prefix.endswith("."):
            continue
        if all(name.startswith(prefix) for name in longer):
            names = {name.removeprefix(prefix) for name in longer}
            if names <= shorter.keys() or names >= shorter.keys():
                return prefix
    return ""


def _tie(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Add tensors that are left out because the module shares them with others of the file."""
    for name, parameter in expected.items():
        if name not in tensors:
            same = (n for n, other in expected.items() if other is parameter and n in tensors)
            if (shared := next(same, None)) is not None:
                tensors[name] = tensors[shared]


def _misfits(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
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
