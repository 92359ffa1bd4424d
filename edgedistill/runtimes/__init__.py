"""Runtimes: ONNX Runtime, and TensorRT on NVIDIA GPUs. NumPy only."""

from edgedistill import public_name

__all__ = [
    "CALL_LIMIT_S",
    "CPU",
    "DEFAULT",
    "ORT_FORMAT",
    "PROVIDERS",
    "BuildOptions",
    "Engines",
    "InstructionSet",
    "OrtRuntime",
    "SessionSettings",
    "TensorRtRuntime",
    "default_cache",
    "engine_cache",
    "instruction_set",
    "prepare",
    "report",
    "use_exact_int8",
]
_HOMES = {
    "call_limit": ("CALL_LIMIT_S",),
    "instructions": ("InstructionSet", "instruction_set"),
    "onnxruntime": ("CPU", "ORT_FORMAT", "PROVIDERS", "OrtRuntime"),
    "session_settings": ("DEFAULT", "SessionSettings", "use_exact_int8"),
    "tensorrt": ("engine_cache",),
    "tensorrt.builder": ("BuildOptions",),
    "tensorrt.engine_cache": ("Engines", "default_cache"),
    "tensorrt.runtime": ("TensorRtRuntime", "prepare", "report"),
}


def __getattr__(name: str) -> object:
    return public_name(__name__, _HOMES, name)
