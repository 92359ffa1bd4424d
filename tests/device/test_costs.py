"""What a model takes, measured in fresh processes."""

from __future__ import annotations

import subprocess
import sys
import zipapp
from dataclasses import asdict, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import edgedistill
from edgedistill import report
from edgedistill.bundle.reader import Model
from edgedistill.device import costs
from edgedistill.errors import MachineError
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.runtimes.session_settings import SessionSettings


@pytest.fixture(scope="module")
def model(world):
    return Model(
        name="m",
        path=world.folder / "student.onnx",
        runtime="onnxruntime",
        precision="fp32",
        parameters=58,
        session=SessionSettings(memory_arena=False),
    )


def test_costs_of_a_real_model(world, model):
    """A process with the model needs more memory than one without; a start takes its time."""
    found = costs.measure_costs(model, OrtRuntime(model.path), world.series[:1], starts=1)

    assert 10 < found.bare_mib < found.peak_mib < 1000
    assert 10 < found.cold_start_ms < 60_000
    assert found.best_series_per_s >= found.series_per_s > 0
    described = {"$ref": "#/$defs/costs", "$defs": report.schema()["$defs"]}
    jsonschema.validate(asdict(found), described)


def test_a_fresh_process_that_fails_is_explained(world, model, tmp_path):
    """What it said last is in the message."""
    gone = replace(model, path=tmp_path / "gone.onnx")

    with pytest.raises(MachineError, match=r"gave no answer: .*gone\.onnx.*leave out the costs"):
        costs.measure_costs(gone, OrtRuntime(model.path), world.series[:1], starts=1)


def test_a_fresh_process_that_hangs_is_ended(world, model, monkeypatch):
    """Not waited for longer than the limit."""
    monkeypatch.setattr(costs, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(costs, "_PROBE", "import time; time.sleep(60)")

    with pytest.raises(MachineError, match=r"gave no answer: .*timed out after 0\.2 seconds"):
        costs.measure_costs(model, OrtRuntime(model.path), world.series[:1], starts=1)


def test_peak_is_this_process_alone():
    """A child of a large process starts small: what `getrusage` says would start large."""
    hog = np.ones(200 << 17)  # 200 MiB
    code = "from edgedistill.device.costs import peak_kib; print(peak_kib())"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert costs.peak_kib() > hog.nbytes / 1024
    assert int(ran.stdout) < hog.nbytes / 1024


def test_no_peak_memory_without_proc(monkeypatch, tmp_path):
    """Then the memory is not measured."""
    monkeypatch.setattr(costs, "_STATUS", tmp_path / "absent")

    assert costs.peak_kib() is None


def test_works_from_a_zipapp(model, tmp_path):
    """A fresh process finds the package in the file that it was started from."""
    package = Path(edgedistill.__file__).parent
    app = tmp_path / "app.pyz"
    main = (
        "import json, sys\nfrom pathlib import Path\nimport numpy as np\nimport edgedistill\n"
        "from edgedistill.bundle.reader import Model\nfrom edgedistill.device import costs\n"
        "from edgedistill.runtimes.onnxruntime import OrtRuntime\n"
        "assert '.pyz' in edgedistill.__file__, edgedistill.__file__\n"
        "path = Path(sys.argv[1])\n"
        "m = Model(name='m', path=path, runtime='onnxruntime', precision='fp32', parameters=1)\n"
        "found = costs.measure_costs("
        "m, OrtRuntime(path), np.zeros((1, 1, 24), np.float32), starts=1)\n"
        "print(found.cold_start_ms)\n"
    )
    source = tmp_path / "source"
    _copy(package, source / "edgedistill")
    (source / "__main__.py").write_text(main)
    zipapp.create_archive(source, app)

    ran = subprocess.run(
        [sys.executable, app, model.path], capture_output=True, text=True, cwd=tmp_path
    )

    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) > 0


def _copy(package, target):
    for file in package.rglob("*"):
        if file.is_file() and file.suffix in {".py", ".json"}:
            place = target / file.relative_to(package)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
