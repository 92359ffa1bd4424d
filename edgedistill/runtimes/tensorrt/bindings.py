"""NVIDIA's Python bindings: TensorRT's module with its log.

TensorRT and TensorRT-RTX have the same classes, so everything above works with either; only a
function whose name ends in `_rtx` may use what TensorRT-RTX alone has. Nothing is imported before
`load_tensorrt`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from edgedistill.errors import MachineError

if TYPE_CHECKING:
    import tensorrt

_MODULES: Final = ("tensorrt", "tensorrt_rtx")  # best first
_MOST_KEPT: Final = 200  # messages; a service may run for years
_MOST_SHOWN: Final = 20
_LONGEST: Final = 500  # characters of one


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded module and the one log that it may have.

    TensorRT keeps the first log and ignores all later ones, so a process
    has one `Library`.
    """

    name: str  # "tensorrt" or "tensorrt_rtx"
    trt: Any  # the module
    log: Any  # logger of each builder, parser and runtime
    _messages: deque[str]

    @property
    def version(self) -> str:
        """Return the version, such as "10.3.0"."""
        return str(self.trt.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX, which has no timing cache and no DLA."""
        return self.name == "tensorrt_rtx"

    def drain_warnings(self) -> tuple[str, ...]:
        """Return the warnings and errors since the last call, each once, and forget them."""
        texts = [text[:_LONGEST] for text in dict.fromkeys(self._messages)]
        self._messages.clear()
        more = len(texts) - _MOST_SHOWN
        return (*texts[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else []))

    def drain_messages(self) -> str:
        """Return the same as one text."""
        return "; ".join(self.drain_warnings())


@cache
def load_tensorrt() -> Library:
    """Import TensorRT, or TensorRT-RTX if TensorRT is not installed.

    Raises:
        MachineError: neither is installed, or the one that is cannot be loaded.
    """
    for name in _MODULES:
        try:
            trt = import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                continue
            raise _unloadable(name, error) from error
        except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
            raise _unloadable(name, error) from error
        messages: deque[str] = deque(maxlen=_MOST_KEPT)
        return Library(name, trt, _logger(trt, messages.append), messages)
    raise MachineError(
        "TensorRT is not installed for this Python. On a Jetson it comes with JetPack: install "
        "python3-libnvinfer and make the environment with --system-site-packages. Elsewhere: "
        "python -m pip install tensorrt"
    )


def make_runtime(library: Library) -> tensorrt.Runtime:
    """Return what loads engines; it needs a GPU that works.

    Raises:
        MachineError: TensorRT cannot use CUDA here; in its own words.
    """
    return _made(library, library.trt.Runtime)


def make_builder(library: Library) -> tensorrt.Builder:
    """Return what builds engines; TensorRT-RTX's needs no GPU.

    Raises:
        MachineError: TensorRT cannot use CUDA here; in its own words.
    """
    return _made(library, library.trt.Builder)


def _made(library: Library, kind: Any) -> Any:
    library.drain_messages()
    try:
        return kind(library.log)
    except TypeError as error:  # pybind11's word for the null pointer that TensorRT returns
        raise MachineError(
            f"{library.name} {library.version} cannot use this GPU: "
            f"{library.drain_messages() or error}. TensorRT must be of a release for this "
            "driver's CUDA; on a Jetson, of the same JetPack as the board's Linux."
        ) from error


def _unloadable(name: str, error: Exception) -> MachineError:
    return MachineError(
        f"{name} is installed but cannot be loaded: {error}. Install the TensorRT libraries of the "
        "same version as its Python module."
    )


def _logger(trt: Any, keep: Callable[[str], None]) -> tensorrt.ILogger:
    """Return a log that keeps warnings and errors; TensorRT writes thousands of other lines."""
    severities = trt.ILogger.Severity
    kept = {severities.INTERNAL_ERROR, severities.ERROR, severities.WARNING}

    class Log(trt.ILogger):  # type: ignore[misc]  # the base is loaded at run time
        def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
            if severity in kept:
                keep(msg.strip())

    return Log()
