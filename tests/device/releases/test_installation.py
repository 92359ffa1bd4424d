"""Installing and pruning: a release is whole or absent, and what runs is left alone."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from edgedistill.bundle import signature
from edgedistill.bundle.reader import open_bundle
from edgedistill.device.releases.installation import Request, install, prune, running_program
from edgedistill.device.releases.layout import Root, read
from edgedistill.device.releases.lock import file_lock
from edgedistill.device.releases.switch import root_lock
from edgedistill.errors import DataError, IntegrityError, MachineError, UsageError
from edgedistill.io import archives, files


@pytest.fixture
def root(tmp_path):
    """Nothing yet."""
    return Root(tmp_path / "root")


@pytest.fixture
def program(tmp_path):
    """A zipapp that stands in for the device program."""
    path = tmp_path / "p.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print('here')\n")
    return path


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_release_holds_bundle_program_and_record(root, italy, program):
    """All of it, whole, and nothing beside it."""
    release, fresh = install(root, italy, Request(program=program, model="student-fp32", threads=2))

    folder = root.folder(release.name)
    assert fresh
    assert _names(root.releases) == [release.name]
    assert _names(folder) == [
        *("bundle", "edgedistill-device.pyz", "edgedistill-device.pyz.sha256", "release.json")
    ]
    assert read(folder) == release
    assert (release.bundle, release.model, release.threads) == (
        *("ItalyPowerDemand", "student-fp32", 2),
    )
    assert release.sha256 == files.sha256(folder / "bundle" / "manifest.json")
    assert release.program == files.sha256(program)
    assert release.signer is None
    with open_bundle(folder / "bundle") as found:
        assert found.name == "ItalyPowerDemand"


def test_same_bundle_is_the_same_release(root, italy, program):
    """Installed again, nothing is written."""
    first, _ = install(root, italy, Request(program=program))
    before = {path: path.stat().st_mtime_ns for path in root.path.rglob("*") if path.is_file()}

    again, fresh = install(root, italy, Request(program=program))

    assert (again, fresh) == (first, False)
    assert before == {p: p.stat().st_mtime_ns for p in root.path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("change", [{"threads": 3}, {"model": "student-fp32"}, {"provider": "cpu"}])
def test_same_bundle_run_in_another_way_is_another_release(root, italy, program, change):
    """What was validated is left as it is; and each way has one name."""
    first, _ = install(root, italy, Request(program=program))

    other, fresh = install(root, italy, Request(program=program, **change))
    again, not_fresh = install(root, italy, Request(program=program, **change))

    assert fresh
    assert not not_fresh
    assert other.name == again.name
    assert other.name.startswith(f"{first.name}-")
    assert read(root.folder(first.name)) == first


def test_name_may_be_given_once(root, italy):
    """The same again is the same; anything else may not take its name."""
    assert install(root, italy, Request(name="mine"))[0].name == "mine"
    assert install(root, italy, Request(name="mine")) == (read(root.folder("mine")), False)

    with pytest.raises(UsageError, match="a release 'mine' of other contents"):
        install(root, italy, Request(name="mine", threads=2))
    with pytest.raises(UsageError, match="cannot name a release"):
        install(root, italy, Request(name="../mine"))
    assert _names(root.releases) == ["mine"]


@pytest.mark.parametrize("part", ["release.json", "edgedistill-device.pyz", "bundle/golden.npz"])
def test_damaged_release_is_replaced(root, italy, program, part):
    """So installing again mends it."""
    release, _ = install(root, italy, Request(program=program))
    path = root.folder(release.name) / part
    path.write_bytes(path.read_bytes()[:-40])

    mended, fresh = install(root, italy, Request(program=program))

    assert fresh
    assert mended.name == release.name
    assert not install(root, italy, Request(program=program))[1]
    assert _names(root.releases) == [release.name]


@pytest.fixture
def signed(italy, tmp_path, ssh_key):
    """A signed bundle, and the file that trusts its signer."""
    key = ssh_key(tmp_path / "id")
    archives.unpack(italy, tmp_path / "unpacked")
    signature.sign(tmp_path / "unpacked", key)
    archives.pack(tmp_path / "unpacked", tmp_path / "signed.zip")
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    return tmp_path / "signed.zip", allowed


def test_signed_bundle_is_installed_under_its_signer(root, signed):
    """Who it was stands in the record, and the signature stays with the bundle."""
    archive, allowed = signed

    release, _ = install(root, archive, Request(allowed_signers=allowed))

    assert release.signer == "alice"
    assert (root.folder(release.name) / "bundle" / "manifest.json.sig").exists()


def test_unsigned_bundle_is_refused_where_signers_are_asked_for(root, italy, signed):
    """And nothing of it stays."""
    with pytest.raises(IntegrityError, match="is not signed"):
        install(root, italy, Request(allowed_signers=signed[1]))

    assert _names(root.releases) == []


def test_what_was_changed_after_signing_is_refused(root, signed, tmp_path):
    """The manifest by its signature, every other file by its hash in the manifest."""
    archive, allowed = signed
    for number, name in enumerate(("manifest.json", "golden.npz")):
        archives.unpack(archive, tmp_path / f"u{number}")
        path = tmp_path / f"u{number}" / name
        path.write_bytes(path.read_bytes().replace(b"e", b"f", 1))
        archives.pack(tmp_path / f"u{number}", tmp_path / f"c{number}.zip")

        with pytest.raises(IntegrityError, match="was changed"):
            install(root, tmp_path / f"c{number}.zip", Request(allowed_signers=allowed))

    assert _names(root.releases) == []


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"model": "best"}, UsageError, "no model 'best'"),
        ({"threads": 0}, UsageError, "threads is 0"),
        ({"program": Path("absent.pyz")}, UsageError, "no program at absent.pyz"),
        ({"program": Path(__file__)}, IntegrityError, "is no device program"),
    ],
)
def test_request_that_makes_no_sense_leaves_nothing(root, italy, request_, error, message):
    """Each is said, and no half of a release stays."""
    with pytest.raises(error, match=message):
        install(root, italy, Request(**request_))

    assert not root.names()
    assert not root.releases.exists() or _names(root.releases) == []


def test_archive_that_is_none_leaves_nothing(root, tmp_path):
    """Missing, or cut off."""
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")

    with pytest.raises(DataError, match="Cannot read"):
        install(root, tmp_path / "absent.zip", Request())
    with pytest.raises(IntegrityError, match="is not a whole zip"):
        install(root, tmp_path / "cut.zip", Request())

    assert _names(root.releases) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("golden.npz", bytes(10_000_000), "would unpack to"),
        ("../../current", b"x", "leaves its folder"),
        ("/current", b"x", "leaves its folder"),
        ("extra", b"x", "unlisted extra"),
    ],
    ids=["bomb", "parent", "absolute", "unlisted"],
)
def test_archive_is_bounded(root, italy, tmp_path, name, content, message):
    """Nothing is written that is too large, outside of the release, or not in the manifest."""
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(italy) as sound:
            for member in sound.namelist():
                if member != name:
                    archive.writestr(member, sound.read(member))
        archive.writestr(name, content)

    with pytest.raises(IntegrityError, match=message):
        install(root, tmp_path / "b.zip", Request())

    assert _names(root.path) == ["releases"]
    assert _names(root.releases) == []


def test_disk_without_room_is_refused_beforehand(italy, full_disk):
    """How much is needed, and how much there is."""
    (full_disk / "filler").unlink()
    root = Root(full_disk / "root")

    with pytest.raises(MachineError, match=r"unpacks to \d+ bytes, and \d+ are free"):
        install(root, italy, Request())

    assert _names(root.releases) == []


def test_leftovers_of_a_killed_command_are_removed(root, italy):
    """The next one that changes anything sweeps them away."""
    (root.releases / ".new.abc" / "bundle").mkdir(parents=True)

    release, _ = install(root, italy, Request())

    assert _names(root.releases) == [release.name]


def test_installed_package_is_no_program(root):
    """Only a zipapp can come along."""
    assert running_program() is None


# Pruning


@pytest.fixture
def many(root, italy):
    """Five releases, of which the second is current and the first previous."""
    for number in range(5):
        install(root, italy, Request(name=f"r{number}"))
        path = root.folder(f"r{number}") / "release.json"
        facts = json.loads(path.read_text())
        path.write_text(json.dumps({**facts, "installed": f"2026-01-0{number + 1}T00:00:00Z"}))
    root.current.symlink_to("releases/r1")
    root.previous.symlink_to("releases/r0")
    return root


@pytest.mark.parametrize(
    ("keep", "stay"),
    [
        (5, ["r0", "r1", "r2", "r3", "r4"]),
        (3, ["r0", "r1", "r4"]),
        (2, ["r0", "r1"]),
        (0, ["r0", "r1"]),
    ],
)
def test_prune_keeps_the_newest_and_what_runs(many, keep, stay):
    """Current and previous stay however old they are."""
    gone = prune(many, keep)

    assert many.names() == stay
    assert _names(many.releases) == stay
    assert sorted([*gone, *stay]) == ["r0", "r1", "r2", "r3", "r4"]


def test_prune_removes_damaged_releases_first(many):
    """What cannot be read is no newer than anything."""
    (many.folder("r4") / "release.json").write_text("{}")

    assert prune(many, 4) == ["r4"]


@pytest.fixture
def engines(many):
    """Engines of a model of every release, of one that is gone, and what TensorRT keeps beside."""
    listed = json.loads((many.folder("r0") / "bundle" / "manifest.json").read_text())["files"]
    digest = next(facts["sha256"] for name, facts in listed.items() if name.endswith(".onnx"))
    for name in (f"{digest[:16]}-0123", f"{'0' * 16}-0123"):
        (many.engines / name).mkdir(parents=True)
        (many.engines / name / "engine.plan").write_bytes(b"plan")
    (many.engines / "timing-0123.cache").write_bytes(b"times")
    left = many.engines / f".old.{'0' * 16}-0123"  # by a prune that was killed
    left.mkdir()
    (left / "engine.plan").write_bytes(b"half a pl")
    return [f"{digest[:16]}-0123", "timing-0123.cache"]


def test_prune_removes_the_engines_of_models_that_are_gone(many, engines):
    """Those of a model that some release still has stay, and so do TensorRT's timings."""
    prune(many, 3)

    assert _names(many.engines) == sorted(engines)


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_prune_keeps_all_engines_beside_a_release_that_cannot_be_read(many, engines, damage):
    """Its model may be theirs."""
    damage(many.folder("r1") / "bundle" / "manifest.json")

    prune(many, 3)

    assert len(_names(many.engines)) == len([*engines, "of the model that is gone"])


def test_prune_refuses_a_negative_number(many):
    """Nothing is removed."""
    with pytest.raises(UsageError, match="keep is -1"):
        prune(many, -1)

    assert len(many.names()) == 5


def test_prune_makes_room_on_a_full_disk(full_disk):
    """It writes nothing."""
    (full_disk / "filler").unlink()
    root = Root(full_disk / "root")
    for name in ("r0", "r1"):
        root.folder(name).mkdir(parents=True)
    with pytest.raises(OSError, match="No space"), (full_disk / "filler").open("wb") as filler:
        filler.write(bytes(1 << 20))

    with root_lock(root):
        assert prune(root, 0) == ["r0", "r1"]
    assert _names(root.releases) == []


def test_pruning_nothing(root):
    """A root that is not there has no releases."""
    assert prune(root, 3) == []


# Kills


def test_install_killed_at_any_step_leaves_releases_whole(kills, root, italy, tmp_path):
    """The new one is whole or absent, the old one runs on, and it can be done again."""
    install(root, italy, Request(name="old"))
    root.current.symlink_to("releases/old")
    command = ["releases", "install", str(italy), "--root", "{root}", "--unsigned", "--name", "new"]
    steps = kills(root.path, command)
    assert len(steps) > 15

    for number, step in enumerate(steps):
        found = Root(tmp_path / "kills" / str(number))
        assert found.current.resolve() == found.folder("old")
        assert found.names() in (["old"], ["new", "old"]), step
        for name in found.names():
            with open_bundle(found.folder(name) / "bundle"):
                assert found.release(name).name == name, step
        install(found, italy, Request(name="new"))
        assert _names(found.releases) == ["new", "old"], step


def test_prune_killed_at_any_step_leaves_releases_whole(kills, many, tmp_path):
    """A release that is going is gone at once."""
    steps = kills(many.path, ["releases", "prune", "--keep", "2", "--root", "{root}"])
    assert len(steps) > 10

    for number, step in enumerate(steps):
        root = Root(tmp_path / "kills" / str(number))
        for name in root.names():
            with open_bundle(root.folder(name) / "bundle"):
                assert root.release(name).name == name, step
        prune(root, 2)
        assert _names(root.releases) == ["r0", "r1"], step


def test_prune_frees_uploads_unless_a_deployment_is_under_way(root):
    """The deployment that left them is over; one that goes on still needs them."""
    root.incoming.mkdir(parents=True)
    (root.incoming / "part").write_bytes(b"1")

    with file_lock(root.deploying):
        prune(root, 1)
        assert root.incoming.exists()
    root.deploying.write_text("process 6 eeee you@desk")
    prune(root, 1)

    assert not root.incoming.exists()
    assert root.deploying.read_text() == "process 6 eeee you@desk"
