"""Models, a full disk, and stand-ins for a GPU, as the tests of the device side have them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _device_fixtures():
    """Import the fixtures beside; a conftest.py is no package."""
    path = Path(__file__).parents[1] / "device" / "conftest.py"
    spec = importlib.util.spec_from_file_location("device_fixtures_of_runtimes", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look
    spec.loader.exec_module(module)
    return module


device = _device_fixtures()
world, italy, write_onnx = device.world, device.italy, device._write_onnx
full_disk, rtx = device.full_disk, device.rtx
fake_cuda, fake_tensorrt, libcuda = device.fake_cuda, device.fake_tensorrt, device.libcuda
