"""Teachers and students from Python objects, as a recipe names them.

A recipe names a torch module by what makes it, so that another process can make it again, and its
weights are a file of their own; nothing is pickled. A teacher that nothing can make again is
exported to ONNX.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill.api.display import html_table
from edgedistill.errors import EdgeDistillError, ModelError, UsageError, brief
from edgedistill.io.files import whole_file

if TYPE_CHECKING:
    from torch import nn

    from edgedistill.api.datasets import Dataset
    from edgedistill.data import Prepared

_FAMILY = re.compile(r"(?P<family>[a-z]+)(:(?P<width>\d+))?")
_EXPORT_SERIES = 64  # real series that torch and ONNX Runtime must agree on


@dataclass(frozen=True, kw_only=True, repr=False)
class Teacher:
    """A model to distill: one that was trained here, a file, a torch module or an estimator.

    Args:
        model: what `teacher` takes; None: trained here.
        factory: what makes the torch module `model`.
        settings: keys of the recipe's section `teacher`.
        folder: folder of the teacher stage, of one that was trained here.
    """

    model: Any = None
    factory: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def is_module(self) -> bool:
        """Whether it is a torch module in memory."""
        return hasattr(self.model, "state_dict")

    @property
    def name(self) -> str:
        """The name of the file or factory, or of the class of an object."""
        if self.folder is not None:
            return str(self.folder)
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    def __repr__(self) -> str:
        facts = ", ".join(" ".join(row) for row in self._rows())
        return f"Teacher {self.name!r}{f': {facts}' if facts else ''}"

    def _repr_html_(self) -> str:
        return html_table(f"Teacher {self.name}", self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        shown = ("family", "width", "depth") if self.folder is not None else self.settings
        rows = [(key, self.settings[key]) for key in shown]
        return [(key, str(value)) for key, value in rows if value is not None]

    def write(self, folder: Path, data: Dataset, prepared: Prepared) -> dict[str, Any]:
        """Write what is in memory into the folder of a run; return the section `teacher`.

        Args:
            folder: folder of the run.
            data: data set, whose class names are those of the columns.
            prepared: the same as arrays.

        Raises:
            UsageError: the factory cannot be named.
            ModelError, VerificationError: a module that can neither be made again nor exported.
        """
        if self.folder is not None:
            _copy_stage(self.folder, folder / "teacher")
            return dict(self.settings)
        section = dict(self.settings)
        if self.is_module:
            section |= _module_section(self.model, self.factory, folder / "models", prepared)
        elif isinstance(self.model, str):
            section["source"] = self.model
        else:
            section |= _estimator_section(self.model, folder / "models")
        columns = data.class_names
        if "class_names" not in section and columns and list(columns) != sorted(columns):
            known = set(map(str, getattr(self.model, "classes_", ())))
            if not known & set(columns):  # an estimator that was fitted on names has its own order
                section["class_names"] = list(columns)
        return section


def teacher(
    model: Any,
    *,
    factory: Any = None,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    trust: bool = False,
) -> Teacher:
    """Return a teacher of your own.

    Args:
        model: a torch module; a fitted estimator of scikit-learn or aeon; the path of an ONNX,
            joblib or NPZ file; or `package.module:factory`.
        factory: what makes the torch module `model`: a class or function of an importable module,
            or a `functools.partial` of one with its arguments. Without it the class is tried, and
            a module that cannot be made again is exported to ONNX.
        weights: safetensors of `package.module:factory`.
        class_names: names of the columns, in their order.
        trust: whether a joblib file may run the code it contains.

    Raises:
        UsageError: arguments that contradict each other.

    >>> teacher("model.onnx", class_names=["walk", "run"])
    Teacher 'model.onnx': class_names ['walk', 'run']
    """
    if isinstance(model, Teacher):
        return model
    settings: dict[str, Any] = {}
    if isinstance(model, str | Path):
        model = str(model)
        if factory is not None:
            raise UsageError(f"factory makes a module in memory, and {model} names another one.")
    elif weights is not None or trust:
        raise UsageError("weights and trust belong to a teacher in files. Leave them out.")
    elif not hasattr(model, "state_dict") and not hasattr(model, "predict"):
        raise UsageError(
            f"A {type(model).__name__} is no teacher. Give a torch module, a fitted estimator, or "
            "the name of an .onnx, .joblib or .npz file or of package.module:factory."
        )
    if weights is not None:
        settings["weights"] = str(weights)
    if class_names is not None:
        settings["class_names"] = list(class_names)
    if trust:
        settings["trust"] = True
    return Teacher(model=model, factory=factory, settings=settings)


def student_section(student: Any, folder: Path, prepared: Prepared) -> dict[str, Any]:
    """Return keys of the recipe's section `student`; write the weights of a module in memory.

    Args:
        student: `family`, `family:width`, `package.module:factory`, what makes a torch module, a
            torch module, or the keys themselves.
        folder: folder of the run.
        prepared: series that it is for.

    Raises:
        UsageError: it is none of these, or cannot be named.
    """
    from edgedistill.models.spec import FAMILIES

    if isinstance(student, Mapping):
        return dict(student)
    if isinstance(student, str):
        found = _FAMILY.fullmatch(student)
        if found and found["family"] in FAMILIES:
            width = {} if found["width"] is None else {"width": int(found["width"])}
            return {"family": found["family"], **width}
        if ":" in student:
            return {"source": student}
        raise UsageError(
            f"{student!r} is no student. Give a family with its width, such as fcn:16 (families: "
            f"{', '.join(FAMILIES)}), package.module:factory, or a torch module."
        )
    if not hasattr(student, "state_dict") or isinstance(student, type):
        return _named(student)
    section = _named(type(student))
    if not _makes(section, student, prepared):
        raise UsageError(
            f"{type(student).__name__} cannot be made again as this module was, from channels, "
            "classes and length alone, and training starts several times. Give what makes it, "
            f"such as functools.partial({type(student).__name__}, width=8)."
        )
    return {**section, "weights": _save_weights(student, folder / "models" / "student")}


def _module_section(
    module: nn.Module, factory: Any, folder: Path, prepared: Prepared
) -> dict[str, Any]:
    """Return factory and weights of a teacher; where there is no factory, an ONNX file."""
    path = folder / "teacher"
    if factory is not None:
        section = _named(factory)
        if not _makes(section, module, prepared):
            raise UsageError(
                f"The factory {section['source']} makes another module than the teacher: the "
                "names or shapes of its weights differ. Give its arguments with functools.partial."
            )
        return {**section, "weights": _save_weights(module, path)}
    try:
        section = _named(type(module))
    except UsageError:
        section = {}
    if section and _makes(section, module, prepared):
        return {**section, "weights": _save_weights(module, path)}
    from edgedistill.export.export import export

    source = path.with_suffix(".onnx")
    export(module, source, prepared.train.x[:_EXPORT_SERIES])
    return {"source": str(source)}


def _estimator_section(estimator: Any, folder: Path) -> dict[str, Any]:
    import joblib

    path = folder / "teacher.joblib"
    with whole_file(path) as partial_file:
        joblib.dump(estimator, partial_file)
    return {"source": str(path), "trust": True}  # what was just written


def _named(factory: Any) -> dict[str, Any]:
    """Return how a recipe names a class or function, with the arguments of a partial.

    Raises:
        UsageError: another process could not import it, or an argument is no number.
    """
    arguments: dict[str, Any] = {}
    while isinstance(factory, partial):
        if factory.args:
            raise UsageError(f"Give the arguments of {factory.func.__name__} by their names.")
        arguments = {**factory.keywords, **arguments}
        factory = factory.func
    module, name = getattr(factory, "__module__", ""), getattr(factory, "__qualname__", "")
    if not callable(factory) or module in {"", "__main__"} or not name.isidentifier():
        raise UsageError(
            f"{brief(factory)} cannot be imported by the recipe, which names it as "
            "package.module:factory. Define it at the top of a file of its own, such as "
            "my_models.py (in a notebook: %%writefile my_models.py), and import it from there."
        )
    if getattr(import_module(module), name, None) is not factory:
        raise UsageError(f"{module} has another {name} than the one given. Import it anew.")
    if wrong := [key for key, value in arguments.items() if not isinstance(value, int | float)]:
        raise UsageError(
            f"The arguments {', '.join(wrong)} of {name} are no numbers. Fix them in a function of "
            "your own, and give that."
        )
    return {"source": f"{module}:{name}", **({"arguments": arguments} if arguments else {})}


def _makes(section: Mapping[str, Any], module: nn.Module, data: Prepared) -> bool:
    """Whether a factory makes a module with weights of the same names and shapes."""
    import torch

    from edgedistill.teachers.factory import load_module

    with torch.random.fork_rng(devices=[]):
        try:
            other = load_module(
                section["source"],
                weights=None,
                channels=data.channels,
                classes=data.classes,
                length=data.length,
                arguments=section.get("arguments"),
            )
        except EdgeDistillError:
            return False
    shapes = [
        {name: value.shape for name, value in each.state_dict().items()} for each in (module, other)
    ]
    return shapes[0] == shapes[1]


def _save_weights(module: nn.Module, path: Path) -> str:
    from safetensors.torch import save

    path = path.with_suffix(".safetensors")
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in module.state_dict().items()}
    with whole_file(path) as partial_file:
        partial_file.write_bytes(save(weights))
    return str(path)


def _copy_stage(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    if not source.is_dir():
        raise ModelError(f"{source} holds the trained teacher no longer. Train it again.")
    shutil.copytree(source, target, dirs_exist_ok=True)
