"""ONNX Runtime sessions: the one runtime that every board has.

ONNX Runtime leaves to the CPU what a provider cannot start or cannot run, and goes on. A
measurement of that would have the wrong name, so here it is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from edgedistill.errors import MachineError, ModelError, ShapeError
from edgedistill.io.arrays import Floats
from edgedistill.runtimes.onnx_file import check_alone
from edgedistill.runtimes.session_settings import DEFAULT, SessionSettings, use_exact_int8

if TYPE_CHECKING:
    from edgedistill.runtimes.call_limit import CallLimit

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
ORT_FORMAT: Final = ".ort"  # the suffix by which ONNX Runtime recognizes it
_ERRORS_ONLY = 3  # ORT's severity; its warnings are about its own graph passes
_NOT_STARTED = (
    "did not start on this machine: its libraries or its device are missing, as ONNX Runtime says "
    "on stderr"
)


class OrtRuntime:
    """An ONNX model in an ONNX Runtime session.

    Args:
        path: path of the ONNX or .ort file; one float32 input (N, C, T) and one float32 output
            (N, K), where N is free.
        settings: settings of the session.
        provider: "cpu", "cuda", "tensorrt", or ONNX Runtime's name of another provider.
        exact_int8: compute INT8 exactly; False only to time it.

    Raises:
        MachineError: ONNX Runtime or the provider is missing on this machine, or the provider
            leaves a part of the model to the CPU.
        ModelError: the file is no model that this ONNX Runtime can run, or of other shapes.
    """

    name: ClassVar[str] = "onnxruntime"
    can_explain: ClassVar[bool] = True
    changes: ClassVar[None] = None

    def __init__(
        self,
        path: Path,
        *,
        settings: SessionSettings = DEFAULT,
        provider: str = "cpu",
        exact_int8: bool = True,
    ) -> None:
        self._path = path
        self._settings = settings
        self._limit: CallLimit | None = None
        self._ort = _onnxruntime()
        self._session = open_session(self._ort, path, settings, provider, exact_int8=exact_int8)
        with translate_ort_errors(path):  # a name that is no text
            self._input = _one_tensor("input", self._session.get_inputs(), 3, path)
            self._output = _one_tensor("output", self._session.get_outputs(), 2, path)
        columns = self._output.shape[1]
        self.classes = columns if isinstance(columns, int) else 0

    def logits(self, series: Floats) -> Floats:
        """Return the logits of a batch, (N, C, T) -> (N, K).

        Raises:
            ShapeError: the series are not what the model takes.
            ModelError: ONNX Runtime fails while it runs the model, or a call takes too long.
        """
        wanted = self._input.shape
        fits = series.ndim == 3 and all(
            not isinstance(want, int) or want == have
            for want, have in zip(wanted[1:], series.shape[1:], strict=True)
        )
        if not fits:
            raise ShapeError(
                f"Got series of shape {series.shape} for {self._path.name}, which takes "
                f"{tuple(wanted)}. Preprocess them with the bundle's preprocessing."
            )
        batch = np.ascontiguousarray(series, dtype=np.float32)
        feed = {self._input.name: batch}
        if self._limit is None:
            with translate_ort_errors(self._path):
                (logits,) = self._session.run([self._output.name], feed)
        else:
            with self._limit.call(self._path.name), translate_ort_errors(self._path):
                (logits,) = self._session.run([self._output.name], feed, self._limit.options)
        result: Floats = logits
        return result

    @contextmanager
    def limit_calls(self, limit_s: float) -> Iterator[None]:
        """Stop calls that take longer, while entered.

        Args:
            limit_s: seconds that one call may take.

        Raises:
            UsageError: the limit is not above 0.
        """
        from edgedistill.runtimes.call_limit import CallLimit  # here: `predict` starts faster

        with CallLimit(self._ort, limit_s).watching() as self._limit:
            try:
                yield
            finally:
                self._limit = None

    def describe(self) -> dict[str, str]:
        """Return version, providers in use and settings, as text."""
        return {
            "runtime": f"{self.name} {self._ort.__version__}",
            "providers": ", ".join(self._session.get_providers()),
            "session": str(self._settings),
        }


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
        path: path of the ONNX or .ort file.
        settings: settings of the session.
        provider: a key of `PROVIDERS`, or ONNX Runtime's own name of another one.
        exact_int8: compute INT8 exactly; False only to time it, see `use_exact_int8`.

    Raises:
        MachineError: this build has no such provider, it does not start here, or it leaves a part
            of the model to the CPU.
        ModelError: the file is no model that this ONNX Runtime can run, or keeps a part of it in
            other files.
    """
    name = PROVIDERS.get(provider, provider)
    _check_provider(ort, name)
    if path.suffix != ORT_FORMAT:  # which has no tensors elsewhere
        check_alone(path)
    options = session_options(ort, settings)
    if exact_int8:
        use_exact_int8(options)
    if name == CPU:
        return _open(ort, path, options, CPU)
    return _open_without_fallback(ort, path, settings, options, name)


def session_options(ort: ModuleType, settings: SessionSettings) -> Any:
    """Return the `SessionOptions` of settings."""
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
    """Translate ONNX Runtime's errors, which share no base class, into a `ModelError`."""
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


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MachineError(
            f"ONNX Runtime cannot be loaded on this machine ({error}). Install it with: "
            "python -m pip install onnxruntime"
        ) from error
    module: ModuleType = onnxruntime
    return module


def _one_tensor(what: str, tensors: Sequence[Any], rank: int, path: Path) -> Any:
    """Return the model's only input or output if it is float32, of this rank, with free N."""
    seen = ", ".join(f"{item.name} {item.type} {item.shape}" for item in tensors) or "not there"
    right = [
        item
        for item in tensors
        if item.type == "tensor(float)"
        and len(item.shape) == rank
        and not isinstance(item.shape[0], int)
    ]
    if len(tensors) != 1 or not right:
        axes = "(N, C, T)" if rank == 3 else "(N, K)"
        raise ModelError(
            f"The {what} of {path.name} is {seen}; one float32 {axes} with free N is needed. "
            "Export the model with edgedistill, with a dynamic batch."
        )
    return right[0]


def _open(ort: ModuleType, path: Path, options: Any, name: str) -> Any:
    with translate_ort_errors(path):
        return ort.InferenceSession(
            str(path),
            sess_options=options,
            providers=[(name, _OPTIONS.get(name, {}))],
            enable_fallback=0,  # else a provider that raises is replaced, with a line on stdout
        )


def _check_provider(ort: ModuleType, name: str) -> None:
    available = ort.get_available_providers()
    if name not in available:
        raise MachineError(
            f"ONNX Runtime {ort.__version__} on this machine has no {name}; it has "
            f"{', '.join(available)}. Install the build of ONNX Runtime for this board, for a "
            "CUDA device: python -m pip install onnxruntime-gpu"
        )


def _open_without_fallback(
    ort: ModuleType, path: Path, settings: SessionSettings, options: Any, name: str
) -> Any:
    """Return a session of another provider than the CPU, which must run the whole model."""
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = _open(ort, path, options, name)
    except ModelError as error:
        _open(ort, path, session_options(ort, settings), CPU)  # or it is the model's fault
        raise _refusal(name, _reason(ort, path, settings, name)) from error
    if name not in session.get_providers():  # a model without nodes leaves nothing to fall back
        raise _refusal(name, _NOT_STARTED)
    return session


def _reason(ort: ModuleType, path: Path, settings: SessionSettings, name: str) -> str:
    """Return why a provider does not run a model that the CPU runs: it falls back once."""
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
    """Return the nodes that the CPU got, or "" where ONNX Runtime is too old to report them."""
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
