"""Source files of a module and of the modules of the same author that it imports.

The imports are read from the source, also those inside functions; nothing is run. Modules of the
standard library and of installed packages are left out, except the package of the module itself.
"""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from itertools import accumulate
from pathlib import Path

_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()
# Their version stands for their source, and a second import of torch would crash.
_NEVER_FOLLOWED = {"edgedistill", "edgedistill_kernels", "torch"}


def module_files(name: str) -> dict[str, Path]:
    """Return the source files of a module and of its author's modules that it imports.

    Args:
        name: dotted name of the module, as an import finds it now.

    Returns:
        Paths by dotted name; empty where there is no such module, or it is one of ours or torch's.
    """
    root = name.partition(".")[0]
    if root in _NEVER_FOLLOWED:
        return {}
    files: dict[str, Path] = {}
    waiting = list(_with_parents(name))
    visited: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in visited:
            continue
        visited.add(module)
        spec = _find_spec(module)
        if spec is None or not _is_authors(module, spec, root):
            continue
        if spec.has_location and spec.origin is not None and Path(spec.origin).is_file():
            files[module] = Path(spec.origin)
            waiting += [each for n in _imports(spec) for each in _with_parents(n)]
    return files


def _find_spec(name: str) -> ModuleSpec | None:
    """Find a module without importing the packages around it, which `importlib` would do."""
    top, *inner = accumulate(name.split("."), "{}.{}".format)
    spec = PathFinder.find_spec(top)
    if spec is None:  # an editable package has a finder of its own
        try:
            spec = importlib.util.find_spec(top)
        except ValueError:  # __main__ and others without a spec
            return None
    for part in inner:
        locations = spec.submodule_search_locations if spec is not None else None
        finders = [pkgutil.get_importer(location) for location in locations or ()]
        specs = (finder.find_spec(part) for finder in finders if finder is not None)
        spec = next((each for each in specs if each is not None), None)
    return spec


def _is_authors(name: str, spec: ModuleSpec, root: str) -> bool:
    """Whether a module is of the root's package, or lies outside of all installed ones."""
    top = name.partition(".")[0]
    if top == root:
        return True
    places = [spec.origin] if spec.has_location else spec.submodule_search_locations
    if top in _NEVER_FOLLOWED or not places:
        return False
    paths = [Path(place).resolve() for place in places if place is not None]
    return not any(
        _PACKAGE_FOLDERS.intersection(path.parts) or path.is_relative_to(_STANDARD_LIBRARY)
        for path in paths
    )


def _imports(spec: ModuleSpec) -> Iterator[str]:
    """Yield every name that a module's source imports, and names that may be submodules."""
    try:
        tree = ast.parse(Path(str(spec.origin)).read_bytes())
    except (OSError, SyntaxError, ValueError):  # compiled, or its import names the error
        return
    package = spec.name if spec.submodule_search_locations is not None else spec.parent
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:  # above the package; its import names the error
                continue
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _with_parents(name: str) -> Iterator[str]:
    """Yield a module's name and those of the packages around it."""
    yield from accumulate(name.split("."), "{}.{}".format)
