"""A variant folder: the files of one network, and a list that describes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx

from edgedistill.bundle.reader import Model
from edgedistill.errors import ConfigError, DataError, EdgeDistillError, ModelError
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.optimize.ort_format import SUFFIX, WIDENED, to_ort
from edgedistill.optimize.passes.graph import operators
from edgedistill.optimize.variants import VariantList
from edgedistill.runtimes.onnxruntime import OrtRuntime

VARIANTS = "variants.json"
_CHECKED_SERIES = 64  # that an ONNX file and its .ort file must agree on


def write_list(variants: VariantList, calibration: Floats, folder: Path) -> None:
    """Write the list of a folder.

    Args:
        variants: files in the folder, with the reasons for those that are missing.
        calibration: series that their ranges were taken from, (N, C, T).
        folder: folder of the variants.
    """
    entries = [{**asdict(variant), "path": variant.path.name} for variant in variants]
    facts = {"series": len(calibration), "sha256": sha256(calibration.tobytes()).hexdigest()}
    failures = {name: str(error) for name, error in variants.failures.items()}
    remarks = {"notes": list(variants.notes), "failures": failures}
    told = {name: remark for name, remark in remarks.items() if remark}
    files.write_json(folder / VARIANTS, {"variants": entries, "calibration": facts, **told})


def open_variants(folder: Path) -> list[Model]:
    """Return the models of a folder of variants.

    Raises:
        ModelError: the folder does not hold variants.
    """
    try:
        return [
            Model(
                name=entry["name"],
                path=folder / entry["path"],
                runtime=entry["runtime"],
                precision=entry["precision"],
                parameters=entry["parameters"],
            )
            for entry in files.read_json(folder / VARIANTS)["variants"]
        ]
    except (DataError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder} does not hold variants ({error}). Run `edgedistill optimize` again."
        ) from error


def open_failures(folder: Path) -> dict[str, str]:
    """Return the reasons for variants of a folder that could not be made, by their names.

    Raises:
        DataError: the folder does not hold variants.
    """
    failures: dict[str, str] = files.read_json(folder / VARIANTS).get("failures", {})
    return failures


def add_failure(name: str, error: EdgeDistillError, folder: Path) -> None:
    """List a variant that could not be made, with the reason."""
    listed = files.read_json(folder / VARIANTS)
    failures = {**listed.get("failures", {}), name: str(error)}
    files.write_json(folder / VARIANTS, {**listed, "failures": failures})


def add_variant(name: str, model: onnx.ModelProto, precision: str, folder: Path) -> None:
    """Write a model beside the other variants, unless it is one of them already.

    Args:
        name: name of the variant, and of its file.
        model: model for ONNX Runtime.
        precision: precision that the list names.
        folder: folder of the variants.
    """
    path = folder / f"{name}.onnx"
    with files.whole_file(path) as partial:
        partial.write_bytes(model.SerializeToString())
    listed = files.read_json(folder / VARIANTS)
    hashes = {files.sha256(folder / variant["path"]) for variant in listed["variants"]}
    if files.sha256(path) in hashes:
        path.unlink()
        return
    entry = {
        "name": name,
        "precision": precision,
        "runtime": OrtRuntime.name,
        "path": path.name,
        "size_bytes": path.stat().st_size,
        "parameters": listed["variants"][0]["parameters"],
        "operators": operators(model),
    }
    listed["variants"].append(entry)
    files.write_json(folder / VARIANTS, listed)


def add_formats(folder: Path, formats: Sequence[str], series: Floats) -> None:
    """Add the .ort files to a folder, and leave files of other formats out of its list.

    Args:
        folder: folder of the variants.
        formats: "onnx", "ort" or both.
        series: series that both formats must give the same logits for, (N, C, T).

    Raises:
        ConfigError: the list would be empty.
    """
    if "ort" not in formats:
        return
    listed = files.read_json(folder / VARIANTS)
    entries: list[dict[str, Any]] = []
    for variant in listed["variants"]:
        if variant["runtime"] != OrtRuntime.name:
            entries.append(variant)
            continue
        if "onnx" in formats:
            entries.append(variant)
        if variant["precision"] not in WIDENED:
            entries.append(_converted(variant, series[:_CHECKED_SERIES], folder))
    if not entries:
        raise ConfigError(
            f"optimize.formats is {', '.join(formats)}, but no .ort file is made of "
            f"{' or '.join(WIDENED)}. Add onnx to the formats, or fp32 or int8 to the precisions."
        )
    files.write_json(folder / VARIANTS, {**listed, "variants": entries})


def _converted(variant: dict[str, Any], series: Floats, folder: Path) -> dict[str, Any]:
    source = folder / variant["path"]
    path = source.with_suffix(SUFFIX)
    to_ort(source, path, series)
    facts = {"name": f"{variant['name']}-ort", "path": path.name}
    # Its operators are not the variant's: they stand in the file beside it.
    rest = {key: value for key, value in variant.items() if key != "operators"}
    return {**rest, **facts, "size_bytes": path.stat().st_size}
