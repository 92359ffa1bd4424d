"""ONNX Runtime sessions: with the settings that were asked for, on the provider that was asked for.

ONNX Runtime leaves to the CPU what a provider cannot start or cannot run, and goes on. A
measurement of that would carry the wrong name, so here it is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from edgedistill.errors import MachineError, ModelError
from edgedistill.runtimes.onnx_file import check_alone
from edgedistill.runtimes.session_settings import SessionSettings, use_exact_int8

CPU: Final = "CPUExecutionProvider"
PROVIDERS: Final = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# An FP32 model is to be computed in FP32: TF32 keeps 10 bits of the mantissa.
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_ORT_FORMAT = ".ort"  # by its suffix ONNX Runtime, too, tells the format
_ERRORS_ONLY = 3  # ORT's severity; its warnings are about its own graph passes


def open_session(
    ort: ModuleType,
    path: Path,
    settings: SessionSettings,
    provider: str,
    *,
    exact_int8: bool = True,
) -> Any:
    """Return an `InferenceSession` in which one provider runs all of a model.

    Args:
        ort: the module `onnxruntime`.
        path: of an ONNX or .ort file.
        settings: of the session.
        provider: a key of `PROVIDERS`, or ONNX Runtime's own name of another one.
        exact_int8: compute INT8 exactly; False only to time it, see `use_exact_int8`.

    Raises:
        MachineError: this build has no such provider, it does not start here, or it leaves a part
            of the model to the CPU.
        ModelError: the file is no model that this ONNX Runtime can run, or keeps a part of it in
            other files.
    """
    name = PROVIDERS.get(provider, provider)
    available = ort.get_available_providers()
    if name not in available:
        raise MachineError(
            f"ONNX Runtime {ort.__version__} on this machine has no {name}; it has "
            f"{', '.join(available)}. Install the build of ONNX Runtime for this board, for a "
            "CUDA device: python -m pip install onnxruntime-gpu"
        )
    if path.suffix != _ORT_FORMAT:  # which has no tensors elsewhere
        check_alone(path)
    options = session_options(ort, settings)
    if exact_int8:
        use_exact_int8(options)
    if name == CPU:
        return _open(ort, path, options, CPU)
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = _open(ort, path, options, name)
    except ModelError as error:
        _open(ort, path, session_options(ort, settings), CPU)  # or it is the model's fault
        raise _refusal(name, _reason(ort, path, settings, name)) from error
    if name not in session.get_providers():  # a model without nodes leaves nothing to fall back
        raise _refusal(name, _NOT_STARTED)
    return session


def session_options(ort: ModuleType, settings: SessionSettings) -> Any:
    """Return the `SessionOptions` that settings stand for."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = settings.threads
    parallel = settings.execution == "parallel"
    options.inter_op_num_threads = settings.threads if parallel else 1
    mode = ort.ExecutionMode.ORT_PARALLEL if parallel else ort.ExecutionMode.ORT_SEQUENTIAL
    options.execution_mode = mode
    level = getattr(ort.GraphOptimizationLevel, _LEVELS[settings.optimization])
    options.graph_optimization_level = level
    options.enable_cpu_mem_arena = settings.memory_arena
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(
            f"session.{pool}.allow_spinning", str(int(settings.spinning))
        )
    return options


@contextmanager
def translate_ort_errors(path: Path) -> Iterator[None]:
    """Turn what ONNX Runtime raises, which share no base class, into one of ours."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    raised: tuple[type[Exception], ...] = (
        RuntimeError,
        ValueError,
        *(kind for kind in kinds if issubclass(kind, Exception)),
    )
    try:
        yield
    except raised as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"ONNX Runtime cannot run {path.name}: {first_line}. Copy or export the model again."
        ) from error


_NOT_STARTED = (
    "did not start on this machine: its libraries or its device are missing, as ONNX Runtime says "
    "on stderr"
)


def _open(ort: ModuleType, path: Path, options: Any, name: str) -> Any:
    with translate_ort_errors(path):
        return ort.InferenceSession(
            str(path),
            sess_options=options,
            providers=[(name, _OPTIONS.get(name, {}))],
            enable_fallback=0,  # else a provider that raises is replaced, with a line on stdout
        )


def _reason(ort: ModuleType, path: Path, settings: SessionSettings, name: str) -> str:
    """Say why a model that the CPU runs is not run by a provider, by letting it fall back once."""
    options = session_options(ort, settings)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        session = _open(ort, path, options, name)
    except ModelError as error:
        return f"failed: {error.__cause__ or error}".partition("\n")[0].rstrip(". ")
    if name not in session.get_providers():
        return _NOT_STARTED
    left = _left_to_cpu(session)
    return f"leaves to the CPU a part of {path.name}" + (f": {left}" if left else "")


def _left_to_cpu(session: Any) -> str:
    """Return which nodes the CPU got, or "" where ONNX Runtime is too old to tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return ""
    parts = session.get_provider_graph_assignment_info()
    kinds = Counter(
        node.op_type for part in parts if part.ep_name == CPU for node in part.get_nodes()
    )
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _refusal(name: str, reason: str) -> MachineError:
    return MachineError(
        f"{name} {reason}. Install the driver and the libraries that it needs, or take the CPU: "
        "--provider cpu."
    )
