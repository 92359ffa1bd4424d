"""Families of boards: their files are consistent, and an invalid file has a clear error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.version import Version

from edgedistill import targets
from edgedistill.errors import ConfigError
from edgedistill.recipe import recipe as config

FOLDER = Path(__file__).parents[1] / "deploy" / "targets"
JETSONS = ("jetson-orin", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-thor")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the files, to be changed."""
    copy = tmp_path / "targets"
    shutil.copytree(FOLDER, copy)
    monkeypatch.setattr(targets, "_folder", lambda: copy)
    return copy


def test_families_are_those_of_the_documentation():
    """Every documented family has a file."""
    assert set(targets.names()) == {*JETSONS, "aarch64", "x86-64"}


@pytest.mark.parametrize("name", targets.names())
def test_every_file_makes_a_target_and_a_recipe(name):
    """Its settings are a recipe's, and its requirements are complete."""
    target = targets.load(name)

    recipe = config.parse(f"target: {name}")

    assert recipe.target == name
    assert set(recipe.optimize.runtimes) <= set(target.requires.runtimes)
    assert bool(target.releases) == (name in JETSONS)


@pytest.mark.parametrize("name", JETSONS)
def test_releases_are_ordered_and_run_on_the_chip(name):
    """Newer releases of the system have newer parts, so the last is the one to install."""
    target = targets.load(name)

    for part in ("version", "linux", "tensorrt", "cuda", "python"):
        versions = [Version(getattr(release, part)) for release in target.releases]
        assert versions == sorted(versions)
    assert all(target.board.compatible in release.boards for release in target.releases)


def test_family_inherits_values_of_the_one_it_extends():
    """A module of a family differs in the values of its own file."""
    family, nano = targets.load("jetson-orin"), targets.load("jetson-orin-nano")

    assert nano.recipe == family.recipe
    assert nano.requires == family.requires
    assert nano.hardware.compute_capability == family.hardware.compute_capability
    assert (nano.hardware.memory_gb, family.hardware.memory_gb) == ((4, 8), ())


def test_new_family_can_extend_another(folder):
    """One new file is enough: it is recognized before its family, and inherits the rest."""
    (folder / "gateway.toml").write_text(
        'description = "Our gateway"\nextends = "jetson-orin-nx"\n'
        '[board]\nnames = ["ACME Gateway"]\n[limits]\ndisk_mib = 4096\n'
    )

    found = targets.recognize("aarch64", "ACME Gateway 2", "nvidia,tegra234")

    assert found is not None
    assert (found.name, found.limits.disk_mib) == ("gateway", 4096)
    assert found.limits.memory_mib == targets.load("jetson-orin-nx").limits.memory_mib


@pytest.mark.parametrize(
    ("machine", "board", "compatible", "name"),
    [
        ("x86_64", "", "", "x86-64"),
        ("aarch64", "", "", "aarch64"),
        ("aarch64", "Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "aarch64"),
        (
            "aarch64",
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "nvidia,p3768-0000+p3767-0005-super nvidia,p3767-0005 nvidia,tegra234",
            "jetson-orin-nano",
        ),
        ("aarch64", "NVIDIA Jetson AGX Orin Developer Kit", "nvidia,tegra234", "jetson-agx-orin"),
        ("aarch64", "NVIDIA Orin NX Developer Kit", "nvidia,tegra234", "jetson-orin-nx"),
        ("aarch64", "A carrier of one's own", "nvidia,tegra234", "jetson-orin"),
        ("aarch64", "NVIDIA Jetson AGX Thor Developer Kit", "nvidia,tegra264", "jetson-thor"),
    ],
)
def test_board_is_recognized_by_its_device_tree(machine, board, compatible, name):
    """The most specific family whose rules all hold."""
    found = targets.recognize(machine, board, compatible)

    assert found is not None
    assert found.name == name


def test_unknown_processor_has_no_family():
    """None is guessed."""
    assert targets.recognize("riscv64", "", "") is None


def test_error_of_an_unknown_name_has_the_nearest():
    """The message lists all families."""
    with pytest.raises(ConfigError, match="Did you mean jetson-orin-nano"):
        targets.load("jetson-orin-nan")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('glibc = "2.27"', "", r"Target aarch64: limits.glibc: Field required. Mend aarch64.toml"),
        ('glibc = "2.27"', 'glibc = "new"', "'new' is no version"),
        ('python = ">=3.10"', 'python = "3.10 up"', "no bounds of versions"),
        ("disk_mib = 200", "disk_mb = 200", "limits.disk_mib"),
        ("[limits]", "[limits", "aarch64.toml cannot be read"),
        ("[board]", 'extends = "mars"\n[board]', "extends 'mars', which does not exist"),
        ("[board]", 'extends = "aarch64"\n[board]', "leads in a circle"),
    ],
)
def test_error_of_an_invalid_file_has_file_and_key(folder, old, new, message):
    """People edit these files."""
    file = folder / "aarch64.toml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")

    with pytest.raises(ConfigError, match=message):
        targets.load("aarch64")


def test_missing_list_of_releases_is_an_error(folder):
    """A family may have a system without a file."""
    (folder / "systems" / "jetpack.toml").unlink()

    with pytest.raises(ConfigError, match=r"systems/jetpack.toml cannot be read"):
        targets.load("jetson-orin")


@pytest.mark.parametrize("extra", ["tensorrt", "cuda12", "cuda13"])
def test_extras_name_nothing_that_a_jetson_cannot_install(extra):
    """PyPI has wheels of TensorRT, and of ONNX Runtime with CUDA, for x86-64 alone."""
    project = tomli.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    wanted = [Requirement(text) for text in project["project"]["optional-dependencies"][extra]]

    def names(machine):
        place = {"sys_platform": "linux", "platform_machine": machine}
        return {each.name for each in wanted if each.marker is None or each.marker.evaluate(place)}

    assert names("aarch64") == names("x86_64") - {"tensorrt", "onnxruntime-gpu"}
    assert names("x86_64") & {"tensorrt", "onnxruntime-gpu"}
    for each in wanted:
        if each.name == "numba-cuda":
            assert each.extras == {extra.replace("cuda", "cu")}
