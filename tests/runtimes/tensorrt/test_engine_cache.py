"""The cache of engines: what makes an engine another, and which is refused before it is loaded."""

from __future__ import annotations

import dataclasses
import json

import pytest

from edgedistill.errors import DataError, IntegrityError, MachineError, UsageError
from edgedistill.io.vendor_tools import power_mode
from edgedistill.runtimes.tensorrt.builder import BuildOptions
from edgedistill.runtimes.tensorrt.engine_cache import (
    FACTS,
    PLAN,
    Engines,
    EngineTarget,
    default_cache,
    engine_target,
    read,
)

pytestmark = pytest.mark.slow

PLACE = {
    "library": "tensorrt",
    "version": "10",
    "gpu": "Orin",
    "compute_capability": "8.7",
    "multiprocessors": 8,
    "power_mode": "15W (0)",
}


@pytest.fixture
def built(rtx, world, tmp_path):
    """Engines with one in the cache, and where it is valid."""
    engines, here = Engines(cache=tmp_path), engine_target(rtx, compute_capability="8.6")
    return engines, engines.build(world.folder / "student.onnx", rtx, here), here


def test_an_engine_is_a_plan_with_facts(built, world):
    """The JSON beside the plan says everything that the key is made of."""
    _, engine, here = built

    facts = json.loads(engine.plan.with_name(FACTS).read_text())

    assert facts["place"] == {
        "library": "tensorrt_rtx",
        "version": here.version,
        "gpu": "any",
        "compute_capability": "8.6",
        "multiprocessors": 0,
        "power_mode": "",
    }
    assert facts["options"]["max_batch"] == 64
    assert facts["model"] == "student.onnx"
    assert sorted(path.name for path in engine.plan.parent.iterdir()) == [FACTS, PLAN]


def test_finds_what_it_built_and_nothing_else(built, world, write_onnx, tmp_path, rng):
    """Another model, option, version, GPU or compute capability is another engine."""
    engines, engine, here = built
    model = world.folder / "student.onnx"
    other = write_onnx(tmp_path / "other.onnx", world.student.noisy(0.1, rng))

    assert engines.find(model, here) == engine
    assert engines.find(other, here) is None
    for change in (
        *({"version": "1.0"}, {"gpu": "Orin"}, {"compute_capability": "8.9"}),
        *({"multiprocessors": 8}, {"power_mode": "15W (0)"}),
    ):
        assert engines.find(model, dataclasses.replace(here, **change)) is None
    for change in (
        {"max_batch": 1},
        {"level": 1},
        {"workspace_mib": 9},
        {"dla_core": 0},
        {"version_compatible": True},
        {"refit": True},
    ):
        changed = dataclasses.replace(engines, options=BuildOptions(**change))
        assert changed.find(model, here) is None


@pytest.mark.parametrize(
    "change",
    [
        {"library": "tensorrt"},
        {"version": "1.6.0"},
        {"compute_capability": "8.9"},
    ],
    ids=str,
)
def test_engine_for_another_target_is_refused(built, change):
    """The message names both places and what to do."""
    _, engine, here = built
    there = dataclasses.replace(here, **change)

    with pytest.raises(IntegrityError, match=r"was built by tensorrt_rtx .*this is .*build BUNDLE"):
        engine.check(there)


@pytest.mark.parametrize(
    ("change", "seen"),
    [({"multiprocessors": 4}, "4 multiprocessors"), ({"power_mode": "7W (1)"}, "power mode 7W")],
    ids=["multiprocessors", "power mode"],
)
def test_orins_are_told_apart(built, change, seen):
    """All have one name and one compute capability; an engine is tuned for one of them."""
    _, engine, here = built
    nano = dataclasses.replace(here, gpu="Orin", multiprocessors=8, power_mode="15W (0)")

    with pytest.raises(IntegrityError, match=rf"8 multiprocessors, power mode 15W.*{seen}"):
        dataclasses.replace(engine, place=nano).check(dataclasses.replace(nano, **change))


def test_engine_of_another_gpu_is_refused(built):
    """An engine of TensorRT-RTX for any GPU runs on each; one for a named GPU does not."""
    _, engine, here = built
    orin, xavier = (dataclasses.replace(here, gpu=name) for name in ("Orin", "Xavier"))

    engine.check(orin)
    with pytest.raises(IntegrityError, match=r"on GPU Orin.*on GPU Xavier"):
        dataclasses.replace(engine, place=orin).check(xavier)


@pytest.mark.parametrize(
    ("here", "fits"),
    [("10.3.0", True), ("10.13.2", True), ("10.2.9", False), ("11.4.0.106", False)],
)
def test_version_compatible_engines_run_on_later_releases(built, here, fits):
    """Of the same major version, and only later; without the option, on none but their own."""
    _, engine, _ = built
    there, place = (
        EngineTarget("tensorrt", version, "Orin", "8.7") for version in ("10.3.0", here)
    )
    options = BuildOptions(version_compatible=True)
    engine = dataclasses.replace(engine, place=there, options=options)

    if fits:
        engine.check(place)
    else:
        with pytest.raises(IntegrityError, match="An engine runs only where it was built"):
            engine.check(place)
    if here != "10.3.0":
        with pytest.raises(IntegrityError):
            dataclasses.replace(engine, options=BuildOptions()).check(place)


def test_damaged_plan_is_refused(built):
    """One byte is enough."""
    _, engine, here = built
    content = bytearray(engine.plan.read_bytes())
    content[100] ^= 1
    engine.plan.write_bytes(content)

    with pytest.raises(IntegrityError, match=r"is not the plan that engine.json beside it"):
        engine.check(here)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not of format edgedistill.engine/2"),
        ('{"format": "edgedistill.engine/9"}', "not of format edgedistill.engine/2"),
        ('{"format": "edgedistill.engine/2"}', "is damaged: KeyError"),
    ],
    ids=["no object", "other version", "half of it"],
)
def test_damaged_facts_are_refused(built, text, message):
    """What is no description of ours is not guessed at."""
    _, engine, _ = built
    engine.plan.with_name(FACTS).write_text(text)

    with pytest.raises(IntegrityError, match=message):
        read(engine.plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpu_fallback": [1]}, "1 stands where a text belongs"),
        ({"sha256": None}, "None stands where a text belongs"),
        ({"place": {**PLACE, "version": ["10"]}}, "stands where a text belongs"),
        ({"place": {**PLACE, "multiprocessors": "8"}}, "stands where a whole number belongs"),
        ({"place": "here"}, "is damaged: ValueError"),
    ],
    ids=["layer", "hash", "version", "multiprocessors", "place"],
)
def test_facts_of_other_types_are_refused(built, change, message):
    """Before anything is computed from them."""
    _, engine, _ = built
    facts = json.loads(engine.plan.with_name(FACTS).read_text())
    engine.plan.with_name(FACTS).write_text(json.dumps({**facts, **change}))

    with pytest.raises(IntegrityError, match=message):
        read(engine.plan)


@pytest.mark.parametrize("version", ["", "ten", "9" * 5000, "٣٣٣٣٣٣٣٣٣٣٣٣"])
def test_a_version_that_is_none_fits_nowhere(built, version):
    """Not even where a later release of the same major version would do."""
    _, engine, here = built
    options = dataclasses.replace(engine.options, version_compatible=True)
    place = dataclasses.replace(here, version=version)
    other = dataclasses.replace(engine, options=options, place=place)

    with pytest.raises(IntegrityError, match="An engine runs only where it was built"):
        other.check(here)


def test_impossible_options_in_the_facts_are_refused(built):
    """They are checked like those of a user."""
    _, engine, _ = built
    facts = json.loads(engine.plan.with_name(FACTS).read_text())
    facts["options"]["level"] = 77
    engine.plan.with_name(FACTS).write_text(json.dumps(facts))

    with pytest.raises(IntegrityError, match="is damaged: UsageError"):
        read(engine.plan)


@pytest.mark.parametrize(("missing", "message"), [(PLAN, "no plan at"), (FACTS, "Cannot read")])
def test_half_an_engine_is_a_data_error(built, missing, message):
    """Either file alone is worth nothing."""
    _, engine, _ = built
    engine.plan.with_name(missing).unlink()

    with pytest.raises(DataError, match=message):
        read(engine.plan)


def test_others_are_those_of_the_same_model(built, world, rtx):
    """For any place, and without those that cannot be read."""
    engines, engine, here = built
    model = world.folder / "student.onnx"
    there = dataclasses.replace(here, compute_capability="8.9")
    other = engines.build(model, rtx, there)

    assert {found.place for found in engines.others(model)} == {here, there}
    other.plan.with_name(FACTS).write_text("{")
    assert engines.others(model) == (engine,)


def test_failed_build_leaves_nothing(rtx, world, tmp_path):
    """No folder of an engine that there is not."""
    engines = Engines(cache=tmp_path, options=BuildOptions(dla_core=0))
    here = engine_target(rtx, compute_capability="8.6")

    with pytest.raises(MachineError):
        engines.build(world.folder / "student.onnx", rtx, here)

    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing(rtx, world, full_disk):
    """A plan that does not fit is not there by half."""
    engines, here = Engines(cache=full_disk), engine_target(rtx, compute_capability="8.6")

    with pytest.raises(MachineError, match="The disk is full"):
        engines.build(world.folder / "student.onnx", rtx, here)

    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_only_rtx_builds_for_a_gpu_elsewhere(rtx):
    """TensorRT itself times kernels on the GPU that is here."""
    vendor = dataclasses.replace(rtx, name="tensorrt")

    with pytest.raises(UsageError, match=r"builds for the GPU that is here, not for compute cap"):
        engine_target(vendor, compute_capability="8.7")


def test_engine_target_is_the_gpu_here(rtx, fake_cuda):
    """Name and compute capability come from CUDA, the version from TensorRT."""
    assert engine_target(rtx) == EngineTarget(
        "tensorrt_rtx", rtx.version, "Orin", "8.7", 8, power_mode()
    )


def test_cache_follows_xdg_cache_home(monkeypatch, tmp_path):
    """XDG_CACHE_HOME if it is set, else .cache at home."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_cache() == tmp_path / "x" / "edgedistill" / "engines"

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "edgedistill" / "engines"
