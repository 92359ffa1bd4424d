"""From a bundle to predictions on an aarch64 board and back, all of it through ssh."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.board, pytest.mark.slow]


@dataclass(frozen=True)
class Shipping:
    """A workstation, a board, a folder on it, and what is deployed there."""

    board: object
    goods: object
    folder: Path
    root: str

    def edgedistill(self, command: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the workstation that works on the board."""
        reach = ("--ssh-config", self.board.config, "--root", self.root, "--json")
        return subprocess.run(
            [sys.executable, "-m", "edgedistill", command, *words, "board", *reach],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )

    def deploy(self, name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Deploy a bundle to a board that is told, the first time, whom to trust."""
        trust = words or ("--allowed-signers", self.goods.signers)
        return self.edgedistill("deploy", self.goods.bundle(name), *trust)

    def status(self) -> dict[str, object]:
        """Return how the board stands."""
        (standing,) = json.loads(self.edgedistill("status").stdout)
        return standing

    def predict(self) -> list[dict[str, object]]:
        """Return what runs on the board says of recorded series, which go there over ssh."""
        current = f"{shlex.quote(self.root)}/current"
        program = f"python3 {current}/edgedistill-device.pyz"
        ran = subprocess.run(
            ["ssh", "-F", self.board.config, "board", f"{program} predict {current} --json"],
            input=self.goods.series.read_text(),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return [json.loads(line) for line in ran.stdout.splitlines()]

    def program(self, words: str) -> subprocess.CompletedProcess[str]:
        """Run the device program of the release that runs."""
        root = shlex.quote(self.root)
        return self.board.ssh(f"python3 {root}/current/edgedistill-device.pyz {words}")


@pytest.fixture
def shipping(board, goods, tmp_path):
    """Nothing is on the board yet."""
    root = f"/root/test/{tmp_path.name}"
    yield Shipping(board, goods, tmp_path, root)
    board.ssh(f"rm -rf {shlex.quote(root)}")


@pytest.fixture(scope="module")
def expected(goods, tmp_path_factory):
    """What the workstation says of the same series, by the bundle's name."""
    return {name: _predicted_here(goods, name) for name in ("one", "two")}


def _predicted_here(goods, name):
    ran = subprocess.run(
        [sys.executable, goods.program, "predict", goods.bundle(name), goods.series, "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in ran.stdout.splitlines()]


def _agree(there, here):
    assert [line["class"] for line in there] == [line["class"] for line in here]
    for a, b in zip(there, here, strict=True):
        assert a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)


def test_there_and_back(shipping, expected):
    """Deploy, validate, predict, deploy again, meet a broken bundle, go back, say how it stands."""
    assert shipping.board.ssh("uname -m").stdout == "aarch64\n"

    first = shipping.deploy("one")
    assert first.returncode == 0, first.stderr
    (one,) = json.loads(first.stdout)
    assert (one["verdict"], one["current"]) == ("kept", one["release"])
    report = json.loads((shipping.folder / "boards" / "board" / "report.json").read_text())
    assert report["environment"]["machine"] == "aarch64"
    _agree(shipping.predict(), expected["one"])

    second = shipping.deploy("two")
    assert second.returncode == 0, second.stderr
    (two,) = json.loads(second.stdout)
    assert two["current"] == two["release"] != one["release"]
    _agree(shipping.predict(), expected["two"])

    broken = shipping.deploy("broken")
    assert broken.returncode == 4
    assert f"Nothing was switched; {two['release']} runs there as before" in broken.stderr

    forced = shipping.program(
        f"releases --root {shipping.root} switch {json.loads(broken.stdout)[0]['release']} --force"
    )
    assert forced.returncode == 4
    assert f"{two['release']} is current again" in forced.stderr
    _agree(shipping.predict(), expected["two"])

    assert shipping.edgedistill("rollback").returncode == 0
    standing = shipping.status()
    assert (standing["current"], standing["rolled_back"]) == (one["release"], two["release"])
    assert (standing["verdict"], standing["signer"]) == ("kept", "tester")
    assert not standing["switching"]
    _agree(shipping.predict(), expected["one"])


def test_refusals(shipping):
    """No trust, no signature, the wrong kind of board: nothing is installed."""
    board = shipping.board

    untrusting = shipping.deploy("one", "--keep", "2")
    unsigned = shipping.edgedistill(
        "deploy", shipping.goods.unsigned, "--allowed-signers", shipping.goods.signers
    )
    elsewhere = shipping.deploy("one", "--unsigned", "--target", "x86-64")

    assert (untrusting.returncode, unsigned.returncode, elsewhere.returncode) == (6, 6, 5)
    assert "trusts no signer yet" in untrusting.stderr
    assert "is not signed" in unsigned.stderr
    assert "needed is x86_64" in elsewhere.stderr
    assert board.ssh(f"ls {shipping.root}/releases").stdout == ""
