"""Which of the vendor's modules is taken, and what is said when none can be."""

from __future__ import annotations

import sys

import pytest

from edgedistill.errors import MachineError
from edgedistill.runtimes.tensorrt import bindings


@pytest.fixture(autouse=True)
def _forget():
    """Load anew in each test, and again afterwards."""
    bindings.load_tensorrt.cache_clear()
    yield
    bindings.load_tensorrt.cache_clear()


def _install(folder, monkeypatch, code):
    """Put a module of the name `tensorrt` where Python looks first."""
    (folder / "tensorrt.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # so that what is imported goes afterwards
    monkeypatch.delitem(sys.modules, "tensorrt")


LOGGER = """
class ILogger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)
"""


def test_takes_tensorrt_rtx_if_it_is_alone(monkeypatch, rtx):
    """The second choice is taken, and it says so."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    found = bindings.load_tensorrt()

    assert (found.name, found.is_rtx) == ("tensorrt_rtx", True)
    assert found.version == rtx.version


def test_takes_tensorrt_first(tmp_path, monkeypatch):
    """TensorRT itself goes before TensorRT-RTX."""
    _install(tmp_path, monkeypatch, f"__version__ = '10.3.0'{LOGGER}")

    found = bindings.load_tensorrt()

    assert (found.name, found.version, found.is_rtx) == ("tensorrt", "10.3.0", False)
    assert bindings.load_tensorrt() is found


def test_keeps_what_matters_of_the_log(tmp_path, monkeypatch):
    """Warnings and errors are kept once each until they are asked for; the rest is noise."""
    _install(tmp_path, monkeypatch, f"__version__ = '10.3.0'{LOGGER}")
    library = bindings.load_tensorrt()
    severity = library.trt.ILogger.Severity

    library.log.log(severity.INFO, "built a layer")
    library.log.log(severity.WARNING, " slow \n")
    library.log.log(severity.WARNING, "slow")
    library.log.log(severity.ERROR, "no memory")

    assert library.drain_messages() == "slow; no memory"
    assert library.drain_messages() == ""


def test_a_long_log_is_bounded(tmp_path, monkeypatch):
    """A warning with each call must not fill the memory of a service, nor the table."""
    _install(tmp_path, monkeypatch, f"__version__ = '10.3.0'{LOGGER}")
    library = bindings.load_tensorrt()

    for number in range(1000):
        library.log.log(library.trt.ILogger.Severity.WARNING, f"{number} {'x' * 1000}")
    kept = library.drain_warnings()

    assert len(kept) == 21
    assert kept[-1] == "and 180 more"
    assert {len(text) for text in kept[:-1]} == {500}
    assert library.drain_warnings() == ()


def test_nothing_installed_is_a_machine_error(monkeypatch):
    """The message says where TensorRT comes from, on a board and elsewhere."""
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(MachineError, match=r"JetPack.*--system-site-packages.*pip install tensor"):
        bindings.load_tensorrt()


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')",
        "raise OSError('libnvinfer.so.10: cannot open shared object file')",
        "import libnvinfer_so_10",
    ],
    ids=["import error", "missing library", "missing module"],
)
def test_a_broken_installation_is_not_passed_over(tmp_path, monkeypatch, code):
    """TensorRT that is there but cannot be loaded is named, not replaced by TensorRT-RTX."""
    _install(tmp_path, monkeypatch, code)

    with pytest.raises(MachineError, match=r"tensorrt is installed but cannot .*libnvinfer"):
        bindings.load_tensorrt()
