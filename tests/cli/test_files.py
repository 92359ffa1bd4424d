"""Commands on files: `report`, `inspect`, `sign`, `verify`."""

from __future__ import annotations

import shutil

import pytest

from edgedistill.io.files import read_json, sha256

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alice(tmp_path_factory, ssh_key):
    """A key, and the file that trusts it."""
    folder = tmp_path_factory.mktemp("alice")
    ssh_key(folder / "id")
    (folder / "allowed_signers").write_text(f"alice {(folder / 'id.pub').read_text()}")
    return folder


def test_signed_bundle_is_verified(invoke, finished, alice, tmp_path):
    """The signed copy has its signer; the bundle itself stays unchanged."""
    before = sha256(finished.bundle)
    out = tmp_path / "signed.zip"

    ran = invoke("sign", finished.bundle, "--key", alice / "id", "--out", out)
    assert (ran.code, ran.stdout) == (0, f"Signed {out}.\n")
    ran = invoke("verify", out, "--allowed-signers", alice / "allowed_signers")
    assert (ran.code, ran.stdout) == (0, f"{out} is whole, and alice signed it.\n")
    ran = invoke("verify", out, "--allowed-signers", alice / "allowed_signers", "--json")
    assert ran.json == {"bundle": str(out), "signer": "alice"}
    assert sha256(finished.bundle) == before

    ran = invoke("validate", out, "--out", tmp_path / "report.json", "--runs", "5")
    assert ran.code == 0


def test_bundle_is_signed_in_place(invoke, finished, alice, tmp_path):
    """A second signature gives the same bytes."""
    path = tmp_path / "b.zip"
    shutil.copyfile(finished.bundle, path)

    first = invoke("sign", path, "--key", alice / "id", "--json")
    digest = sha256(path)
    invoke("sign", path, "--key", alice / "id")

    assert first.json == {"out": str(path)}
    assert sha256(path) == digest != sha256(finished.bundle)


def test_unsigned_bundle_exits_6(invoke, finished, alice):
    """The message has the command that signs it."""
    ran = invoke("verify", finished.bundle, "--allowed-signers", alice / "allowed_signers")

    assert ran.code == 6
    assert "The bundle is not signed. Sign it where it was made" in ran.stderr


def test_damaged_bundle_is_neither_signed_nor_verified(invoke, finished, alice, tmp_path):
    """Its hashes are checked first."""
    path = tmp_path / "b.zip"
    path.write_bytes(finished.bundle.read_bytes()[:-100])

    ran = invoke("sign", path, "--key", alice / "id")
    assert ran.code == 6
    ran = invoke("verify", path, "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 6


def test_compress_and_bundle_write_a_signed_copy(invoke, recipe, finished, alice, tmp_path):
    """With --sign-key; the stages stay as they are, so the next run has nothing to do."""
    ran = invoke("compress", recipe, "--out", finished.folder, "--sign-key", alice / "id", "--json")
    signed = finished.folder / "signed.zip"
    assert ran.json["signed"] == str(signed)
    assert not any(ran.json["stages"].values())
    ran = invoke("verify", signed, "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 0
    signed.unlink()

    stages = {name: finished.folder / name for name in ("teacher", "student", "variants")}
    options = [word for name, folder in stages.items() for word in (f"--{name}", folder)]
    out = tmp_path / "result"
    ran = invoke("bundle", recipe, *options, "--out", out, "--sign-key", alice / "id")
    assert ran.code == 0, ran.stderr
    ran = invoke("verify", out / "signed.zip", "--allowed-signers", alice / "allowed_signers")
    assert ran.code == 0


def test_missing_sign_key_is_refused_before_training(invoke, recipe, tmp_path):
    """A wrong path costs no training."""
    ran = invoke("compress", recipe, "--out", tmp_path / "run", "--sign-key", tmp_path / "absent")

    assert ran.code == 2
    assert not (tmp_path / "run").exists()


def test_report_draws_the_page_again(invoke, finished):
    """A run's folder, its result's folder and its report.json are equivalent."""
    file = finished.folder / "result" / "report.json"

    by_folder = invoke("report", finished.folder)
    by_result = invoke("report", file.parent)
    by_file = invoke("report", file, "--json")

    assert by_folder.code == 0
    assert by_folder.stdout.rstrip() in finished.ran.stdout
    assert by_result.stdout == by_folder.stdout
    assert by_file.json == read_json(file)
    assert "Wrote" in by_file.stderr


def test_report_joins_boards(invoke, finished, tmp_path):
    """Each board has its label, or the name of its folder; the run's stages stay unchanged."""
    result = finished.folder / "result" / "report.json"
    before = result.read_bytes()
    board = tmp_path / "orin" / "report.json"
    invoke("validate", finished.bundle, "--runs", 5, "--out", board)

    ran = invoke("report", finished.folder, "--device", board, "--device", f"pi={board}")
    elsewhere = invoke(
        *("report", result, "--device", board, "--out", tmp_path / "out", "--json"),
    )

    joined = read_json(finished.folder / "boards" / "report.json")
    assert [entry["label"] for entry in joined["boards"]] == ["orin", "pi"]
    assert "orin   kept" in ran.stdout
    assert "engine on pi" in (finished.folder / "boards" / "report.html").read_text("utf-8")
    assert "engine on pi" in (finished.folder / "boards" / "report.md").read_text("utf-8")
    assert elsewhere.json == read_json(tmp_path / "out" / "report.json")
    assert result.read_bytes() == before


def test_report_refuses_equal_labels(invoke, finished, tmp_path):
    """A usage error, before any report is read."""
    ran = invoke("report", finished.folder, "--device", "a=x.json", "--device", "a=y.json")

    assert ran.code == 2
    assert "has the label 'a', which is empty or taken" in ran.stderr


def test_report_refuses_out_without_boards(invoke, finished, tmp_path):
    """Without a board there is no report to join."""
    ran = invoke("report", finished.folder, "--out", tmp_path / "out")

    assert ran.code == 2
    assert "--out is the folder of a joined report" in ran.stderr


def test_report_of_a_missing_path_exits_3(invoke, tmp_path):
    """The error has the path."""
    ran = invoke("report", tmp_path / "none")

    assert ran.code == 3
    assert f"Cannot read {tmp_path / 'none'}" in ran.stderr


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("model/student.onnx", ("series float32 (batch, 1, 24)", "logits float32 (batch, 2)")),
        ("student/weights.safetensors", ("safetensors", "head.weight", "(2, 4)")),
        ("result/bundle.zip", ("ort-int8", "class_names", "1, 2", "max_kl 100", "Conv 3")),
    ],
)
def test_inspect(invoke, finished, path, texts):
    """Inputs, outputs, parameters, size, operators; without Python syntax."""
    people = invoke("inspect", finished.folder / path)
    machines = invoke("inspect", finished.folder / path, "--json").json

    assert people.code == 0
    for words in texts:
        assert words in people.stdout
    assert "{" not in people.stdout
    assert "None" not in people.stdout
    assert machines["size_bytes"] > 0
