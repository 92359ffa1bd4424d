"""ONNX Runtime's own format, for a build without ONNX's parser and optimizer.

The graph is optimized when the file is written and stays as it is. Up to the level "extended" that
holds on every CPU: the fused operators are ONNX Runtime's own and in all of its builds. Beyond it,
"layout" and "all" arrange weights for the vector registers of the machine that writes, and "basic"
fuses no 8-bit operators, which then compute in float32.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnxruntime

from edgedistill.errors import ModelError
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.optimize.execution import REFUSALS, TOLERANCE, assert_close, check_series, logits

SUFFIX: Final = ".ort"
CONFIG: Final = ".required_operators_and_types.config"  # the name that ONNX Runtime gives it
WIDENED: Final = ("fp16", "bf16", "w8a16")  # an x86 CPU widens their weights, and .ort keeps it so

_ERRORS_ONLY = 3


def to_ort(model: Path, out: Path, series: Floats) -> None:
    """Write an ONNX file in ONNX Runtime's format, and the operators that a minimal build needs.

    The latter is named like `out`, with `CONFIG` for a suffix; ONNX Runtime's build takes it as
    `--include_ops_by_config FILE --enable_reduced_operator_type_support`.

    Args:
        model: path of an ONNX file that ONNX Runtime runs.
        out: path of the file to write, with the suffix .ort.
        series: real series, (N, C, T): both files must give the same logits for them.

    Raises:
        DataError: series is empty or not finite.
        ModelError: ONNX Runtime cannot load the file, or write what it holds.
        VerificationError: the new file gives other logits; it is not written.
    """
    check_series(series, "check of the .ort file")
    expected = logits(model, series, exact_int8=False)  # as the .ort file must compute
    with files.whole_file(out) as partial:
        _convert(model, partial)
        assert_close(
            f"The .ort file of {model.name}",
            expected,
            logits(partial, series, exact_int8=False),
            TOLERANCE,
        )
        files.write_text(out.with_suffix(CONFIG), _required(partial))


def _convert(model: Path, out: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = _ERRORS_ONLY
    try:
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise ModelError(
            f"ONNX Runtime {onnxruntime.__version__} cannot write {model.name} in its own format: "
            f"{' '.join(str(error).split())[:300]} Leave ort out of the formats."
        ) from error


def _required(model: Path) -> str:
    """Return the operators of an .ort file with their types, as ONNX Runtime's build reads them."""
    with _quiet(), tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        from onnxruntime.tools import ort_format_model

        config = Path(folder) / "config"
        ort_format_model.create_config_from_models([model], config, enable_type_reduction=True)
        lines = config.read_text("utf-8").splitlines()
    return "".join(f"{line}\n" for line in lines if not line.startswith("#"))  # the file's path


@contextmanager
def _quiet() -> Iterator[None]:
    """Undo the side effects of ONNX Runtime's tools.

    They add a handler to every logger of the process, log each file, and leave one open.
    """
    handlers = logging.root.handlers[:]
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logging.disable(logging.NOTSET)
        logging.root.handlers[:] = handlers
