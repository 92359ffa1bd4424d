"""`releases` on the command line, from the first installation to the last rollback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from edgedistill.device.__main__ import main
from edgedistill.device.releases.layout import Root

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, capsys):
    """Run an action on a root; return its exit code and what it printed."""

    def call(action, *arguments):
        code = main(["releases", action, "--root", str(tmp_path / "root"), *map(str, arguments)])
        return code, capsys.readouterr()

    return call


@pytest.fixture
def root(tmp_path):
    """The same root."""
    return Root(tmp_path / "root")


def _json(ran):
    code, printed = ran
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.fixture
def validated(root, capsys):
    """Validate a release."""

    def call(name):
        assert main(["validate", str(root.folder(name)), "--runs", "5"]) == 0
        assert "verdict: kept" in capsys.readouterr().out

    return call


def test_install_validate_switch_rollback_prune(run, root, italy, validated):
    """Install, validate there, switch, install another, switch, go back, prune."""
    first = _json(run("install", italy, "--unsigned", "--json"))
    assert first["fresh"]
    assert first["path"] == str(root.folder(first["name"]))
    assert first["signer"] is None
    validated(first["name"])
    assert (root.folder(first["name"]) / "report.json").exists()
    assert str((root.folder(first["name"]) / "python").readlink()) == sys.executable
    assert _json(run("switch", first["name"], "--json"))["outcome"] == "confirmed"

    second = _json(run("install", italy, "--unsigned", "--threads", "1", "--json"))
    assert second["name"] != first["name"]
    validated(second["name"])
    assert _json(run("switch", second["name"], "--json"))["current"] == second["name"]
    assert _json(run("rollback", "--json"))["current"] == first["name"]
    assert _json(run("prune", "--keep", "2", "--json")) == {"removed": []}

    listed = _json(run("list", "--json"))
    assert (listed["current"], listed["previous"]) == (first["name"], None)
    assert listed["rolled_back"] == second["name"]
    assert [each["verdict"] for each in listed["releases"]] == ["kept", "kept"]


def test_tables_for_people(run, root, italy):
    """Without --json."""
    _, printed = run("install", italy, "--unsigned", "--name", "a")
    assert printed.out == f"Installed: {root.folder('a')}\n"
    _, printed = run("install", italy, "--unsigned", "--name", "a")
    assert printed.out == f"There already: {root.folder('a')}\n"
    _, printed = run("switch", "a", "--force")
    assert printed.out == "current: a (confirmed)\n"
    _, printed = run("list")
    assert printed.out.splitlines()[1].split()[-3:] == ["not", "validated", "current"]
    _, printed = run("prune", "--keep", "0")
    assert printed.out == "Removed: none\n"
    _, printed = run("settle")
    assert printed.out == "current: a (unchanged)\n"


def test_root_stands_before_or_after_the_action(root, capsys):
    """Either way it is heard."""
    for words in (
        ["releases", "--root", str(root.path), "list", "--json"],
        ["releases", "list", "--root", str(root.path), "--json"],
    ):
        assert main(words) == 0
        assert json.loads(capsys.readouterr().out)["root"] == str(root.path)


def test_root_is_in_the_home_folder_by_default(tmp_path, monkeypatch, capsys):
    """Whoever deploys need not say where."""
    monkeypatch.setenv("HOME", str(tmp_path))

    main(["releases", "list", "--json"])

    assert json.loads(capsys.readouterr().out)["root"] == str(tmp_path / "edgedistill")


def test_install_needs_signers_or_unsigned(run, italy):
    """Neither signers nor --unsigned is a wrong command; both are, too."""
    for trust in ([], ["--unsigned", "--allowed-signers", "f"]):
        with pytest.raises(SystemExit) as raised:
            run("install", italy, *trust)
        assert raised.value.code == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["install", "ITALY", "--allowed-signers", "absent"], 6, "is not signed"),
        (["install", "ITALY", "--unsigned", "--model", "best"], 2, "no model 'best'"),
        (["install", "absent.zip", "--unsigned"], 3, "Cannot read absent.zip"),
        (["switch", "absent"], 2, "There are: none"),
        (["rollback"], 2, "no previous release"),
        (["prune", "--keep", "-1"], 2, "keep is -1"),
    ],
)
def test_errors_have_codes_and_messages(run, italy, words, code, message):
    """One line on stderr, nothing on stdout."""
    found, printed = run(*(str(italy) if word == "ITALY" else word for word in words))

    assert found == code
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert printed.out == ""


def test_unhealthy_release_is_left_with_exit_4(run, root, italy):
    """Its bundle was damaged after it was validated."""
    for name in ("a", "b"):
        run("install", italy, "--unsigned", "--name", name)
    run("switch", "a", "--force")
    golden = root.folder("b") / "bundle" / "golden.npz"
    golden.write_bytes(golden.read_bytes()[:-1])

    code, printed = run("switch", "b", "--force")

    assert code == 4
    assert "b is not healthy here" in printed.err
    assert "So a is current again" in printed.err
    assert root.current.resolve() == root.folder("a")


def test_interrupted_switch_is_listed_and_settled(run, root, italy):
    """`list` says how; `settle` asks the release, takes the switch back, and says so."""
    run("install", italy, "--unsigned", "--name", "a")
    (root.folder("a") / "bundle" / "golden.npz").unlink()
    root.current.symlink_to("releases/a")
    root.journal.write_text('{"from": null, "to": "a"}')

    _, listed = run("list")
    code, printed = run("settle", "--json")

    assert "end it with: releases settle" in listed.err
    assert code == 0
    assert json.loads(printed.out)["outcome"] == "returned"
    assert "An interrupted switch to a was taken back: " in printed.err
    assert not root.current.exists()


def test_release_stands_for_its_bundle(run, root, italy, capsys, tmp_path, monkeypatch):
    """In every command that takes a bundle; what the release says of its run applies."""
    monkeypatch.chdir(tmp_path)
    run("install", italy, "--unsigned", "--name", "a", "--provider", "NoSuchProvider")
    root.current.symlink_to("releases/a")

    code = main(["benchmark", str(root.current), "--runs", "5"])
    assert code == 5
    assert "NoSuchProvider" in capsys.readouterr().err

    code = main(["validate", str(root.current), "--runs", "5", "--provider", "cpu"])
    assert code == 0
    assert (root.folder("a") / "report.json").exists()
    assert not (tmp_path / "report.json").exists()


def test_check_runs_one_prediction(run, root, italy, capsys):
    """It is what a switch runs."""
    run("install", italy, "--unsigned", "--name", "a")

    assert main(["releases", "check", str(root.folder("a"))]) == 0
    assert capsys.readouterr().out.endswith("/a answers.\n")
    assert main(["releases", "check", str(root.folder("a")), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"healthy": True}


def test_two_at_once(root, italy):
    """Of many installations at the same time one works, and the others are told to wait."""
    command = [sys.executable, "-m", "edgedistill.device", "releases", "install", str(italy)]
    processes = [
        subprocess.Popen(
            [*command, "--unsigned", "--root", str(root.path)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [(process.communicate()[1], process.returncode) for process in processes]

    assert {code for _, code in ended} <= {0, 5}
    assert any(code == 0 for _, code in ended)
    assert all("Another command is changing" in err for err, code in ended if code == 5)
    assert len(root.names()) == 1
