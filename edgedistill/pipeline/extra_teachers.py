"""Other teachers, asked beside the one of the teacher stage."""

from __future__ import annotations

from pathlib import Path

from edgedistill.data import Prepared
from edgedistill.errors import ModelError
from edgedistill.pipeline import networks
from edgedistill.pipeline.stages.teacher import load_external_teacher
from edgedistill.recipe.recipe import Recipe
from edgedistill.recipe.schema import TeacherSection
from edgedistill.teachers import Classifier, TorchClassifier


def open_source(source: str, recipe: Recipe, data: Prepared, *, trust: bool) -> Classifier:
    """Return the teacher of a folder that `train` wrote, or one that a recipe can bring.

    Args:
        source: the folder, or what `teacher.source` takes.
        recipe: names the data that it is tried on.
        data: its series and classes.
        trust: whether a joblib file may run the code it contains.

    Raises:
        ModelError: it cannot be read, or was made for other classes or channels.
        UsageError: it names no teacher.
    """
    if not Path(source).is_dir():
        section = TeacherSection(source=source, trust=trust)
        return load_external_teacher(recipe.model_copy(update={"teacher": section}), data)
    module, facts = networks.open_network(Path(source))
    known = facts["classes"], facts["channels"]
    needed = data.classes, data.channels
    if known != needed:
        raise ModelError(
            f"The network in {source} knows {known[0]} classes of series with {known[1]} "
            f"channels; the data set has {needed[0]} classes and {needed[1]} channels. Take a "
            "teacher of this data set."
        )
    return TorchClassifier(module, classes=needed[0], name=source)
