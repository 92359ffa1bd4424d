"""One file that gives a student's logits and the saliency map that it predicts.

The map is what the student believes its teacher looks at, for one forward pass. What the student
itself looks at is measured by perturbation: `export.explainer` writes that file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch

from edgedistill.errors import ModelError, VerificationError
from edgedistill.export.export import INPUT, OUTPUT, evaluation_copy, torch_logits, trace
from edgedistill.io import files
from edgedistill.io.arrays import Floats
from edgedistill.models.explained import SelfExplainingNetwork, WithExplanation
from edgedistill.optimize.execution import TOLERANCE, assert_close, check_series, errors, logits
from edgedistill.optimize.passes.graph import load, strip
from edgedistill.optimize.passes.opset import OPSET

EXPLANATION = "explanation"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationFacts:
    """Errors of an exported file against torch on the same series."""

    max_abs_error_logits: float
    max_abs_error: float  # of the predicted map, whose scale is about 1
    opset: int
    size_bytes: int


def export_explanation(
    model: SelfExplainingNetwork, path: Path, sample: Floats, *, tolerance: float = TOLERANCE
) -> ExplanationFacts:
    """Write a student and the map it predicts as ONNX, for any N.

    `series` (N, C, T) to `logits` (N, K) and `explanation` (N, T). The file is compared with torch,
    on one series and on all of them, before it takes its name: on any miss there is no file.

    Args:
        model: in any mode and on any device; it stays as it is.
        path: path of the ONNX file.
        sample: real series, (N, C, T).
        tolerance: largest difference, over the largest |logit| or |value of a map| (at least 1).

    Raises:
        DataError: the sample is empty or not finite.
        ModelError: the model does not take the sample, gives no finite values, or cannot be
            exported.
        VerificationError: ONNX Runtime gives other logits or another map than torch.
    """
    check_series(sample, "check of the explanation")
    module = evaluation_copy(model)
    expected = torch_logits(module, sample), _maps(module, sample)
    whole = WithExplanation(module).eval()
    proto = _named(strip(trace(whole, sample)), sample.shape[2])
    with files.whole_file(path) as partial:
        partial.write_bytes(proto.SerializeToString())
        load(partial)
        logits(partial, sample[:1])  # raises if it cannot be run
        absolute_logits, absolute = _verify(partial, sample, expected, tolerance)
    return ExplanationFacts(
        max_abs_error_logits=absolute_logits,
        max_abs_error=absolute,
        opset=OPSET,
        size_bytes=path.stat().st_size,
    )


@torch.no_grad()
def _maps(module: SelfExplainingNetwork, sample: Floats) -> Floats:
    """Return the maps that a module predicts, (N, T), refusing what is not finite."""
    found: Floats = module.explain(torch.from_numpy(sample))[1].numpy()
    if not np.isfinite(found).all():
        raise ModelError(
            f"The model predicts maps of which {int((~np.isfinite(found)).sum())} values are not "
            "finite. Train it anew with a smaller learning rate."
        )
    return found


def _named(proto: onnx.ModelProto, length: int) -> onnx.ModelProto:
    """Return the graph with name and shape of its second output; the exporter sets the first's."""
    model = ir.from_proto(proto)
    output = model.graph.outputs[1]
    output.name, output.shape = EXPLANATION, ir.Shape(["batch", length])
    return ir.to_proto(model)


def _verify(
    path: Path, sample: Floats, expected: tuple[Floats, Floats], tolerance: float
) -> tuple[float, float]:
    """Return the largest errors of logits and of maps."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # All twice, so that a sample of one tries the batch too; and one series alone.
    batches = [sample[:1], np.concatenate([sample, sample])]
    found = [session.run([OUTPUT, EXPLANATION], {INPUT: batch}) for batch in batches]
    said, maps = (np.concatenate(parts) for parts in zip(*found, strict=True))
    right, right_maps = (np.concatenate([part[:1], part, part]) for part in expected)
    absolute_logits, _ = assert_close("The explained student", right, said, tolerance)
    absolute, relative = errors(right_maps, maps)
    if not relative <= tolerance:
        raise VerificationError(
            f"The explained student misses the map it must give by {absolute:.3g}, {relative:.3g} "
            f"of the largest value; {tolerance:.3g} is allowed. Nothing was written."
        )
    return absolute_logits, absolute
