"""The opset and IR version of ONNX: a model of an older one is raised to ours when it is loaded.

Passes write operators of opset 20, such as a `Squeeze` whose axes are an input and a
`DequantizeLinear` with a 16-bit scale. A newer opset stays: nothing lowers one.
"""

from __future__ import annotations

import onnx
from onnx import inliner, shape_inference, version_converter

from edgedistill.errors import ModelError

OPSET = 20  # the newest that TensorRT 10.3 (JetPack 6) and ONNX Runtime 1.20 both read
IR_VERSION = 10  # the one of opset 20 to 22

COMPLAINTS = (  # of the checker and of type and shape inference
    onnx.checker.ValidationError,
    shape_inference.InferenceError,
)
TOOL_ERRORS = (  # of converters, optimizers and quantizers, on what they do not expect
    *COMPLAINTS,
    version_converter.ConvertError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
_DEFAULT_DOMAIN = ("", "ai.onnx")


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators in a model; 0 if it has none."""
    imports = (o.version for o in model.opset_import if o.domain in _DEFAULT_DOMAIN)
    return max(imports, default=0)


def with_latest_version(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str | None]:
    """Return an equal model of at least our opset and IR version, and a note on the change.

    A model that cannot be converted keeps its opset, and the note is the reason.

    Args:
        model: checked model; not modified.
    """
    before, modern = opset_of(model), with_latest_ir(model)
    if before > OPSET:
        return modern, f"opset {before} stays; boards need a runtime that reads it"
    if before == OPSET:
        return modern, None
    try:
        raised = with_latest_ir(convert(modern, OPSET))
    except ModelError as error:
        return modern, f"opset {before} stays: {error}"
    return raised, f"raised from opset {before} to {OPSET}"


def with_latest_ir(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in at least our IR version, where initializers are no inputs.

    They had to be up to IR 3.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ir_version = max(model.ir_version, IR_VERSION)
    constants = {tensor.name for tensor in result.graph.initializer}
    inputs = [value for value in result.graph.input if value.name not in constants]
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    return result


def convert(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return an equal model of another opset.

    Raises:
        ModelError: onnx has no conversion of one of its operators, or makes an invalid model.
    """
    if opset_of(model) == version:
        return model
    try:
        # The converter drops local functions, and with them what the model computes
        whole = inliner.inline_local_functions(model) if model.functions else model
        result = version_converter.convert_version(whole, version)
        onnx.checker.check_model(result, full_check=True)
        if _ends(result) != _ends(whole):
            raise ValueError(f"inputs and outputs became {_ends(result)}, from {_ends(whole)}")
    except TOOL_ERRORS as error:
        raise ModelError(
            f"onnx {onnx.__version__} cannot convert opset {opset_of(model)} to {version}: "
            f"{brief(error)}"
        ) from error
    return result


def brief(error: Exception) -> str:
    """Return a complaint of onnx on one line; it may quote whole node listings."""
    return " ".join(str(error).split())[:300].rstrip(".") + "."


def _ends(model: onnx.ModelProto) -> list[tuple[str, int]]:
    """Return the inputs and outputs of a model, each with its number of axes."""
    values = (*model.graph.input, *model.graph.output)
    return [(value.name, len(value.type.tensor_type.shape.dim)) for value in values]
