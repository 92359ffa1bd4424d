"""The last step of the variant stage: the same variants in ONNX Runtime's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgedistill.data import Prepared
from edgedistill.errors import ConfigError
from edgedistill.io.files import read_json, write_json
from edgedistill.optimize.ort_format import SUFFIX, WIDENED, to_ort
from edgedistill.pipeline.stages.export import VARIANTS
from edgedistill.recipe.recipe import Recipe
from edgedistill.runtimes.onnxruntime import OrtRuntime

_CHECKED_SERIES = 64  # that both files must agree on


def add_formats(recipe: Recipe, data: Prepared, out: Path) -> None:
    """Add the .ort files to a folder of variants, and leave out of its list what is not asked for.

    Args:
        recipe: `optimize.formats`.
        data: its training series are what both formats must agree on.
        out: folder that `make_variants` filled.

    Raises:
        ConfigError: nothing would be left.
    """
    formats = recipe.optimize.formats
    if "ort" not in formats:
        return
    listed = read_json(out / VARIANTS)
    found: list[dict[str, Any]] = []
    for variant in listed["variants"]:
        if variant["runtime"] != OrtRuntime.name:
            found.append(variant)
            continue
        if "onnx" in formats:
            found.append(variant)
        if variant["precision"] not in WIDENED:
            found.append(_converted(variant, data, out))
    if not found:
        raise ConfigError(
            f"optimize.formats is {', '.join(formats)}, but no .ort file is made of "
            f"{' or '.join(WIDENED)}. Add onnx to the formats, or fp32 or int8 to the precisions."
        )
    write_json(out / VARIANTS, {**listed, "variants": found})


def _converted(variant: dict[str, Any], data: Prepared, out: Path) -> dict[str, Any]:
    source = out / variant["path"]
    path = source.with_suffix(SUFFIX)
    to_ort(source, path, data.train.x[:_CHECKED_SERIES])
    facts = {"name": f"{variant['name']}-ort", "path": path.name}
    # Its operators are not the variant's: they stand in the file beside it.
    rest = {key: value for key, value in variant.items() if key != "operators"}
    return {**rest, **facts, "size_bytes": path.stat().st_size}
