"""The bundle: what is written can be opened, and nothing else can."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import zipfile
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from aeon.datasets import load_italy_power_demand

from edgedistill.bundle import reader as bundle
from edgedistill.bundle import writer as packing
from edgedistill.bundle.drift_reference import DriftLimits, Reference
from edgedistill.bundle.golden import Golden
from edgedistill.bundle.reader import Model, open_bundle
from edgedistill.errors import IntegrityError, ShapeError, UsageError
from edgedistill.evaluation.contract import Contract
from edgedistill.io import archives, files
from edgedistill.preprocessing.transforms import fit
from edgedistill.runtimes.session_settings import SessionSettings
from edgedistill.saliency import occlusion
from edgedistill.saliency.perturbation import default_plan

CLASSES = ("winter", "summer")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What a bundle is made of: real series, and a linear model of two strengths."""
    folder = tmp_path_factory.mktemp("parts")
    recorded, labels = load_italy_power_demand(split="train")
    preprocessing = fit(list(recorded), length=None, sizing="resample", normalization="series")
    series, y = preprocessing.apply(list(recorded))[:12], labels[:12].astype(np.int64) - 1
    weights = np.stack([series[y == k].mean(axis=0).ravel() for k in (0, 1)])
    plan = default_plan(series.shape[2])
    teacher, student = (
        occlusion.explain(lambda x, w=w: x.reshape(len(x), -1) @ w.T, series, plan)
        for w in (weights, 0.9 * weights)
    )
    models = []
    for precision in ("fp32", "int8"):
        path = folder / f"{precision}.onnx"
        path.write_bytes(f"stands in for a model of {precision}".encode() * 9)
        models.append(
            Model(
                name=f"student-{precision}",
                path=path,
                runtime="onnxruntime",
                precision=precision,
                parameters=48,
            )
        )
    return {
        "name": "ItalyPowerDemand",
        "created": "2026-01-02T03:04:05+00:00",
        "class_names": CLASSES,
        "preprocessing": preprocessing,
        "plan": plan,
        "contract": Contract(max_size_bytes=1e6),
        "chosen": "student-int8",
        "models": models,
        "golden": Golden(series=series, labels=y, teacher=teacher, student=student),
        "provenance": bundle.Provenance(
            recipe={"data": {"name": "ItalyPowerDemand"}},
            versions={"numpy": np.__version__},
            seeds={"teacher": 0},
            data="0" * 64,
        ),
    }


@pytest.fixture
def folder(parts, tmp_path):
    """A sound bundle as a folder."""
    path = tmp_path / "b"
    packing.write(path, packing.BundleContents(**parts))
    return path


def _opened(path):
    with open_bundle(path) as found:
        return found


def _edit(folder, **changes):
    """Rewrite the manifest; a callable gets the old value."""
    facts = json.loads((folder / "manifest.json").read_text())
    for key, new in changes.items():
        facts[key] = new(facts[key]) if callable(new) else new
    (folder / "manifest.json").write_text(json.dumps(facts))


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_round_trip(parts, tmp_path, name):
    """A folder and a zip give back what went in."""
    path = tmp_path / "new" / name
    packing.write(path, packing.BundleContents(**parts))

    with open_bundle(path) as found:
        golden, model = found.golden(), found.model()
        content = found.model("student-fp32").path.read_bytes()

        assert found.name == "ItalyPowerDemand"
        assert found.class_names == CLASSES
        assert found.preprocessing == parts["preprocessing"]
        assert found.plan == parts["plan"]
        assert found.contract == parts["contract"]
        assert (model.name, model.precision, model.parameters) == ("student-int8", "int8", 48)
        assert model.size_bytes == parts["models"][1].size_bytes
    assert content == parts["models"][0].path.read_bytes()
    for who in ("teacher", "student"):
        for field in ("logits", "kl", "signed"):
            expected = getattr(getattr(parts["golden"], who), field)
            np.testing.assert_array_equal(getattr(getattr(golden, who), field), expected)
    np.testing.assert_array_equal(golden.series, parts["golden"].series)
    np.testing.assert_array_equal(golden.labels, parts["golden"].labels)
    assert [entry.name for entry in path.parent.iterdir()] == [name]  # nothing beside it


def test_equal_contents_give_equal_bytes(parts, tmp_path):
    """A bundle can be compared by its hash."""
    for name in ("one.zip", "two.zip"):
        packing.write(tmp_path / name, packing.BundleContents(**parts))

    assert files.sha256(tmp_path / "one.zip") == files.sha256(tmp_path / "two.zip")


def test_manifest_keeps_to_the_schema(folder):
    """The written manifest is what the schema in the package describes."""
    text = resources.files("edgedistill.bundle").joinpath("schema.json").read_text("utf-8")
    schema = json.loads(text)
    facts = json.loads((folder / "manifest.json").read_text())

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(facts, schema)
    for broken in ({**facts, "models": []}, {**facts, "extra": 1}, {**facts, "plan": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


TUNED = SessionSettings(threads=2, spinning=False, optimization="extended", memory_arena=False)


def test_session_settings_travel(parts, tmp_path):
    """With the model that has them, as the schema says; the other has no such field."""
    models = [parts["models"][0], dataclasses.replace(parts["models"][1], session=TUNED)]
    packing.write(tmp_path / "b", packing.BundleContents(**{**parts, "models": models}))

    found = _opened(tmp_path / "b")
    facts = json.loads((tmp_path / "b" / "manifest.json").read_text())
    text = resources.files("edgedistill.bundle").joinpath("schema.json").read_text("utf-8")

    assert [model.session for model in found.models] == [None, TUNED]
    assert [("session" in entry) for entry in facts["models"]] == [False, True]
    jsonschema.validate(facts, json.loads(text))
    facts["models"][1]["session"]["threads"] = 0
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(facts, json.loads(text))


def test_session_settings_that_make_no_sense_are_refused(parts, tmp_path):
    """What the manifest says of threads is checked like the rest."""
    models = [parts["models"][0], dataclasses.replace(parts["models"][1], session=TUNED)]
    packing.write(tmp_path / "b", packing.BundleContents(**{**parts, "models": models}))

    _edit(tmp_path / "b", models=lambda old: [old[0], {**old[1], "session": {"threads": 2}}])

    with pytest.raises(IntegrityError, match="session settings lack execution, memory_arena"):
        _opened(tmp_path / "b")


def _with_reference(parts):
    """Return the parts with a reference of 20 series."""
    channels, windows = parts["preprocessing"].channels, len(parts["plan"].starts)
    shapes = {"features": (20, channels, 4), "logits": (20, len(CLASSES)), "signed": (20, windows)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return {**parts, "reference": (Reference(**arrays), DriftLimits(min_maps=7))}


def test_reference_is_stored_in_the_bundle(parts, tmp_path):
    """As the schema says; a bundle without one has no such field, and says so when asked."""
    packing.write(tmp_path / "with.zip", packing.BundleContents(**_with_reference(parts)))
    packing.write(tmp_path / "without.zip", packing.BundleContents(**parts))
    text = resources.files("edgedistill.bundle").joinpath("schema.json").read_text("utf-8")

    with open_bundle(tmp_path / "with.zip") as found:
        reference, limits = found.reference()
        jsonschema.validate(found.manifest, json.loads(text))
    with open_bundle(tmp_path / "without.zip") as found:
        assert "reference" not in found.manifest
        with pytest.raises(UsageError, match="has no reference to measure drift from"):
            found.reference()
    assert (len(reference.logits), limits.min_maps) == (20, 7)


def test_a_reference_that_does_not_fit_is_not_written(parts, tmp_path):
    """Its maps are those of the plan."""
    rows, limits = _with_reference(parts)["reference"]
    wrong = dataclasses.replace(rows, signed=rows.signed[:, 1:])

    with pytest.raises(ShapeError, match="signed of the reference has shape"):
        packing.write(
            tmp_path / "b", packing.BundleContents(**{**parts, "reference": (wrong, limits)})
        )

    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"file": "other.npz", "limits": {}}, "reference is 'other.npz', which files does not"),
        ({"file": "reference.npz"}, "reference lacks limits"),
        ({"file": "golden.npz", "limits": {}}, "The reference of .* is unusable: golden.npz is no"),
        ({"file": "reference.npz", "limits": {"colour": 1}}, "is unusable: Drift has no limit"),
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(parts, tmp_path, entry, told):
    """When the bundle is opened, or when the reference is asked for."""
    packing.write(tmp_path / "b", packing.BundleContents(**_with_reference(parts)))
    _edit(tmp_path / "b", reference=lambda _: entry)

    with pytest.raises(IntegrityError, match=told), open_bundle(tmp_path / "b") as found:
        found.reference()


@pytest.mark.parametrize("name", ["t", "t.zip"])
def test_rewrite_applies_the_change(folder, tmp_path, name):
    """The source stays as it is, and a signature of what was does not come along."""
    (folder / "manifest.json.sig").write_text("a signature")
    before = (folder / "manifest.json").read_bytes()

    with open_bundle(folder) as source:
        packing.rewrite(source, tmp_path / name, lambda root: _edit(root, name="other"))

    with open_bundle(tmp_path / name) as found:
        assert found.manifest == {**json.loads(before), "name": "other"}
        assert not (found.root / "manifest.json.sig").exists()
    assert (folder / "manifest.json").read_bytes() == before
    assert (folder / "manifest.json.sig").exists()


def test_rewrite_that_makes_no_bundle_is_not_written(folder, tmp_path):
    """What could not be opened again is never left behind; nor is a stranger's folder replaced."""
    (tmp_path / "photos").mkdir()

    with open_bundle(folder) as source:
        with pytest.raises(IntegrityError, match=r"missing golden.npz"):
            packing.rewrite(source, tmp_path / "t", lambda root: (root / "golden.npz").unlink())
        with pytest.raises(UsageError, match="exists and is no bundle"):
            packing.rewrite(source, tmp_path / "photos", lambda _: None)

    assert not (tmp_path / "t").exists()


def test_unpacked_zip_goes_when_the_bundle_closes(parts, tmp_path, monkeypatch):
    """No temporary folder is left, even if the work in between fails."""
    packing.write(tmp_path / "b.zip", packing.BundleContents(**parts))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    with pytest.raises(UsageError), open_bundle(tmp_path / "b.zip") as found:
        found.model("absent")

    assert list(scratch.iterdir()) == []


def test_rewriting_replaces_a_bundle_and_nothing_else(parts, folder, tmp_path):
    """An older bundle gives way; a folder of something else does not."""
    packing.write(folder, packing.BundleContents(**{**parts, "name": "newer"}))
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    (tmp_path / "dir.zip").mkdir()

    assert _opened(folder).name == "newer"
    for path in (other, tmp_path / "dir.zip"):
        with pytest.raises(UsageError, match="exists and is no bundle"):
            packing.write(path, packing.BundleContents(**parts))
    assert (other / "cat.jpg").read_bytes() == b"cat"


@pytest.mark.parametrize("name", ["b", "b.zip"])
def test_parts_that_do_not_fit_are_not_written(parts, tmp_path, name):
    """What could not be opened or used again leaves no file."""
    with pytest.raises(IntegrityError, match="'absent' was chosen"):
        packing.write(tmp_path / name, packing.BundleContents(**{**parts, "chosen": "absent"}))
    with pytest.raises(ShapeError, match="teacher_logits has shape"):
        packing.write(
            tmp_path / name, packing.BundleContents(**{**parts, "class_names": ("a", "b", "c")})
        )

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 65])
def test_model_names_are_file_names(name, tmp_path):
    """A name that could leave the folder or needs quoting is refused."""
    with pytest.raises(UsageError, match="cannot name a model's file"):
        Model(name=name, path=tmp_path, runtime="onnxruntime", precision="fp32", parameters=1)


def test_unknown_model_lists_those_there_are(folder):
    """A wrong name is answered with the right ones."""
    with pytest.raises(UsageError, match=r"'best'.*Choose one of student-fp32, student-int8"):
        _opened(folder).model("best")


def test_absent_path_is_a_usage_error(tmp_path):
    """Nothing there is another error than a bad bundle."""
    with pytest.raises(UsageError, match="There is no bundle at"):
        _opened(tmp_path / "absent.zip")


def test_folder_without_a_manifest_is_no_bundle(tmp_path):
    """The message says how to make one."""
    with pytest.raises(IntegrityError, match=r"is no bundle: it has no manifest.json"):
        _opened(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"text"])
def test_file_that_is_no_zip_is_refused(tmp_path, content):
    """A cut-off download is told apart from a sound bundle."""
    path = tmp_path / "b.zip"
    path.write_bytes(content)

    with pytest.raises(IntegrityError, match="is not a whole zip file"):
        _opened(path)


@pytest.mark.parametrize("name", ["models/student-fp32.onnx", "golden.npz"])
def test_changed_file_is_found(folder, name):
    """One flipped bit, same size."""
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)

    with pytest.raises(IntegrityError, match=rf"{name} in .* was changed: it has SHA-256"):
        _opened(folder)


def test_changed_hash_in_the_manifest_is_found(folder):
    """A manifest that was edited no longer fits its files."""
    _edit(
        folder,
        files=lambda old: {**old, "golden.npz": {**old["golden.npz"], "sha256": "0" * 64}},
    )

    with pytest.raises(IntegrityError, match=r"golden.npz in .* was changed"):
        _opened(folder)


def test_missing_and_unlisted_files_are_found(folder):
    """Both lists are named."""
    (folder / "golden.npz").rename(folder / "models" / "extra.onnx")

    with pytest.raises(
        IntegrityError, match=r"missing golden.npz, unlisted models/extra.onnx. Copy"
    ):
        _opened(folder)


@pytest.mark.parametrize("name", ["golden.npz", "models"])
def test_links_in_a_folder_are_refused(folder, tmp_path, name):
    """A link to the very same content is refused too: it can change after the check."""
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(IntegrityError, match=f"holds {name}, which is a link"):
        _opened(folder)


def test_pipe_in_a_folder_is_refused(folder):
    """A named pipe would block the reader for ever."""
    os.mkfifo(folder / "pipe")

    with pytest.raises(IntegrityError, match="holds pipe, which is a link or no plain file"):
        _opened(folder)


def test_linked_bundle_may_be_opened(folder, tmp_path):
    """The way to the bundle may be a link: releases are switched that way."""
    (tmp_path / "current").symlink_to(folder)

    assert _opened(tmp_path / "current").name == "ItalyPowerDemand"


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("../escaped", stat.S_IFREG, "leaves its folder"),
        ("/escaped", stat.S_IFREG, "leaves its folder"),
        ("models/link", stat.S_IFLNK, "no plain file"),
    ],
    ids=["parent", "absolute", "link"],
)
def test_unsafe_zip_is_refused(folder, tmp_path, name, mode, message):
    """Nothing is written outside, nothing stays inside."""
    path = tmp_path / "b.zip"
    archives.pack(folder, path)
    shutil.rmtree(folder)
    with zipfile.ZipFile(path, "a") as archive:
        member = zipfile.ZipInfo(name)
        member.external_attr = (mode | 0o644) << 16
        archive.writestr(member, "/etc/passwd")

    with pytest.raises(IntegrityError, match=message):
        _opened(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.zip"]
    assert not Path("/escaped").exists()


def test_zip_with_a_damaged_member_is_refused(folder, tmp_path):
    """The zip's own checksum is looked at as well."""
    path = tmp_path / "b.zip"
    archives.pack(folder, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(IntegrityError):
        _opened(path)


def test_zip_of_another_tool_is_opened(folder, tmp_path):
    """Some tools, Python's own zipfile among them, write permissions without a file type."""
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in folder.rglob("*.*"):
            archive.writestr(member.relative_to(folder).as_posix(), member.read_bytes())

    assert _opened(path).name == "ItalyPowerDemand"


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("plan", {"length": 24, "width": 99, "stride": 1}, "A window of 99 steps"),
        ("plan", {"width": 3}, "is no perturbation plan"),
        ("plan", {"length": "24", "width": 2, "stride": 1}, "is no perturbation plan"),
        ("contract", {"min_beauty": 1}, "no clause min_beauty"),
        ("contract", {"min_agreement": "high"}, "makes no sense"),
        ("contract", {"min_agreement": 10**400}, "makes no sense"),
        ("preprocessing", {}, "The preprocessing lacks"),
    ],
)
def test_parts_that_make_no_sense_are_integrity_errors(folder, part, value, message):
    """Whatever a part objects to is said as the bundle's fault, exit code 6."""
    _edit(folder, **{part: value})

    with pytest.raises(IntegrityError, match=message):
        _opened(folder)


def test_golden_set_is_checked_when_it_is_read(folder):
    """Fewer classes than logits: the golden set and the manifest contradict each other."""
    _edit(folder, class_names=["a", "b", "c"])

    with pytest.raises(IntegrityError, match="golden set of ItalyPowerDemand is unusable"):
        _opened(folder).golden()


def test_contract_survives_with_every_clause_off(parts, tmp_path):
    """null is a value of its own."""
    off = Contract(**dict.fromkeys(field.name for field in dataclasses.fields(Contract)))
    packing.write(tmp_path / "b", packing.BundleContents(**{**parts, "contract": off}))

    assert _opened(tmp_path / "b").contract == off
