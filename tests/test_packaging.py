"""The wheel holds what an installed package needs, and works from where it is unpacked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    *("edgedistill/py.typed", "edgedistill_kernels/py.typed", "edgedistill_kernels/__init__.py"),
    *("edgedistill/bundle/schema.json", "edgedistill/report/schema.json"),
    *("edgedistill/report/report.html.j2", "edgedistill/report/report.css"),
    *("edgedistill/experiment/page.html.j2", "edgedistill/explain/page.html.j2"),
    *("edgedistill/cli/recipe.yaml", "edgedistill/targets_data/aarch64.toml"),
    "edgedistill/targets_data/systems/jetpack.toml",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout without a network."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", str(ROOT), "--quiet", "--wheel-dir", str(out)),
            *("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"),
        ],
        check=True,
    )
    (found,) = out.glob("edgedistill-*.whl")
    return found


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an installer unpacks it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def _python(site: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_wheel_holds_what_is_needed(wheel):
    """Both packages, their data files and the license."""
    names = set(zipfile.ZipFile(wheel).namelist())

    assert set(NEEDED) <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_nothing_else(wheel):
    """No tests, no benchmarks, no leftovers."""
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "edgedistill",
        "edgedistill_kernels",
    }
    assert not [name for name in names if name.endswith((".pyc", ".orig")) or "test" in name]


def test_wheel_holds_every_target(unpacked):
    """What a person edits in the checkout is what an installed package knows."""
    script = "import edgedistill, json; from edgedistill import targets; "
    script += (
        "print(json.dumps([edgedistill.__file__, targets.names(), targets.settings('aarch64')]))"
    )

    file, names, settings = json.loads(_python(unpacked, "-c", script))

    assert Path(file).is_relative_to(unpacked)
    assert names == sorted(path.stem for path in (ROOT / "deploy" / "targets").glob("*.toml"))
    assert settings["optimize"]["precisions"] == ["fp32", "int8"]


def test_device_side_runs_from_the_wheel(unpacked):
    """As on a board after `pip install --no-deps`."""
    script = "import edgedistill, runpy, sys; print(edgedistill.__file__, file=sys.stderr); "
    script += "sys.argv[1:] = ['environment', '--json']; "
    script += "runpy.run_module('edgedistill.device', run_name='__main__')"

    facts = json.loads(_python(unpacked, "-c", script))

    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_program_from_the_wheel_is_that_of_the_checkout(unpacked):
    """Byte by byte: it does not matter where the sources lie."""
    from edgedistill.deployment.zipapp import write_program

    script = "import sys; from pathlib import Path; "
    script += "from edgedistill.deployment.zipapp import write_program; "
    script += "print(write_program(Path(sys.argv[1])))"

    from_wheel = _python(unpacked, "-c", script, str(unpacked.parent / "wheel.pyz")).strip()

    assert from_wheel == write_program(unpacked.parent / "checkout.pyz")


def test_version_is_the_package_s_own(wheel):
    """One number, in the file name and in the code."""
    import edgedistill

    assert wheel.name.startswith(f"edgedistill-{edgedistill.__version__}-")
