"""A profile is kept while series are predicted, and `drift` answers from it: with the commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.bundle.drift_reference import DriftLimits, Reference, features
from edgedistill.bundle.reader import open_bundle
from edgedistill.device.__main__ import main
from edgedistill.device.drift import profile as profiling
from edgedistill.device.drift.profile import Bins, Profile, Profiler, load
from edgedistill.errors import DataError, MachineError
from edgedistill.runtimes.onnxruntime import OrtRuntime
from edgedistill.saliency.occlusion import explain

SEEN = slice(348, 500)


@pytest.fixture(scope="module")
def recorded():
    """Series as they were recorded, (N, 1, 24)."""
    return load_italy_power_demand(split="test")[0]


@pytest.fixture(scope="module")
def reference(world, recorded):
    """Of 300 series that are not predicted below."""
    x = world.kwargs["preprocessing"].apply(list(recorded[48:348]))
    said = explain(OrtRuntime(world.folder / "student.onnx").logits, x, world.kwargs["plan"])
    return Reference(features=features(x), logits=said.logits, signed=said.signed)


@pytest.fixture(scope="module")
def bundle(world, reference, tmp_path_factory):
    """A bundle with a reference."""
    path = tmp_path_factory.mktemp("drift") / "italy.zip"
    return world.write(path, reference=(reference, DriftLimits()))


@pytest.fixture
def predict(bundle, tmp_path, capsys):
    """Predict series with the command; return its exit code and what it told."""

    def run(series, *options):
        file = tmp_path / "series.csv"
        np.savetxt(file, series[:, 0], delimiter=",", fmt="%.8g")
        profile = str(tmp_path / "profile.npz")
        code = main(["predict", str(bundle), str(file), "--json", "--profile", profile, *options])
        return code, capsys.readouterr().err

    return run


@pytest.fixture
def drift(bundle, tmp_path, capsys):
    """Ask for drift with the command; return its exit code and the JSON."""

    def run(*profiles):
        named = [str(tmp_path / name) for name in profiles or ("profile.npz",)]
        code = main(["drift", str(bundle), *named, "--json"])
        ran = capsys.readouterr()
        return code, json.loads(ran.out) if ran.out else ran.err

    return run


def test_held_out_series_do_not_drift(predict, drift, recorded):
    """From recorded series to the answer."""
    assert predict(recorded[SEEN], "--saliency-every", "2")[0] == 0

    code, found = drift()

    assert code == 0
    assert (found["series"], found["explained"], found["reference"]) == (152, 76, 300)
    assert found["drifted"] == {"inputs": False, "predictions": False, "reasons": False}


def test_changed_series_drift(predict, drift, recorded):
    """Exit code 4, as for any contract that is broken."""
    predict(np.roll(recorded[SEEN], 5, axis=2), "--saliency-every", "1")

    code, found = drift()

    assert code == 4
    assert found["drifted"]["reasons"] is True


def test_a_person_gets_a_table(predict, bundle, tmp_path, recorded, capsys):
    """With the answers at its end."""
    predict(recorded[SEEN], "--saliency-every", "0")

    code = main(["drift", str(bundle), str(tmp_path / "profile.npz")])

    out = capsys.readouterr().out
    assert code == 0
    assert "class rates" in out
    assert "not judged: reasons for winter: 0 maps" in out
    assert out.splitlines()[-3:] == [
        "inputs       as expected",
        "predictions  as expected",
        "reasons      not judged",
    ]


def test_existing_profile_is_continued(predict, drift, tmp_path, recorded):
    """A second run adds to what is there; so do several profiles."""
    predict(recorded[SEEN])
    predict(recorded[:48])
    (tmp_path / "first.npz").write_bytes((tmp_path / "profile.npz").read_bytes())

    assert drift()[1]["series"] == 200
    assert drift("profile.npz", "first.npz")[1]["series"] == 400


def test_another_bundles_profile_is_moved_aside(predict, reference, tmp_path, recorded):
    """A service must start after the release was switched; nothing is lost."""
    other = Reference(
        features=reference.features + 1, logits=reference.logits, signed=reference.signed
    )
    for name in ("profile.npz", "profile.1.npz"):
        Profile(Bins.from_reference(other)).save(tmp_path / name)

    code, told = predict(recorded[SEEN])

    assert code == 0
    assert "profile.npz was kept with another bundle" in told
    assert load(tmp_path / "profile.2.npz", Bins.from_reference(other)).series == 0
    assert load(tmp_path / "profile.npz", Bins.from_reference(reference)).series == 152


def test_other_file_is_not_overwritten(predict, tmp_path, recorded):
    """It may be anything."""
    (tmp_path / "profile.npz").write_text("my notes")

    code, told = predict(recorded[SEEN])

    assert code == DataError.exit_code
    assert "is no profile" in told
    assert (tmp_path / "profile.npz").read_text() == "my notes"


def test_bundle_without_a_reference_is_refused(italy, tmp_path, recorded, capsys):
    """Old bundles have none; predicting needs none."""
    np.savetxt(tmp_path / "series.csv", recorded[:3, 0], delimiter=",")
    file = str(tmp_path / "series.csv")

    assert main(["predict", str(italy), file, "--json"]) == 0
    code = main(["predict", str(italy), file, "--profile", str(tmp_path / "profile.npz")])

    assert code == 2
    assert "has no reference to measure drift from" in capsys.readouterr().err


def test_a_negative_interval_is_refused(predict, recorded):
    """Before anything is predicted."""
    code, told = predict(recorded[:2], "--saliency-every", "-1")

    assert code == 2
    assert "--saliency-every is -1" in told


def test_a_place_that_cannot_be_written_stops_before_the_first_series(bundle, full_disk, reference):
    """Not after a week of counting."""
    with (
        pytest.raises(MachineError, match="disk is full"),
        Profiler(full_disk / "profile.npz", reference),
    ):
        pytest.fail("it was entered")


def test_the_profile_is_written_now_and_then(reference, tmp_path, monkeypatch):
    """A power cut loses a minute at most, and a full disk stops no prediction."""
    told = []
    series, logits = np.zeros((1, 24), np.float32), reference.logits[0]
    path = tmp_path / "folder" / "profile.npz"
    with Profiler(path, reference, log=told.append) as profiler:
        profiler(series, logits, None)
        assert load(path, profiler.profile.bins).series == 0
        monkeypatch.setattr(profiling, "SAVE_S", 0.0)
        profiler(series, logits, reference.signed[0])
        assert load(path, profiler.profile.bins).series == 2
        path.unlink()
        path.mkdir()
        profiler(series, logits, None)
        assert "The profile was not written" in told[0]
        path.rmdir()
    assert load(path, profiler.profile.bins).series == 3


def test_reference_is_stored_in_the_bundle(bundle, reference):
    """With its limits, as the bundle gives them back."""
    with open_bundle(bundle) as opened:
        found, limits = opened.reference()

    np.testing.assert_array_equal(found.signed, reference.signed)
    assert limits == DriftLimits()
