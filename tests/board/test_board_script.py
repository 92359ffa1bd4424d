"""The emulated board starts from nothing, says what it lacks, and is an aarch64 Linux."""

from __future__ import annotations

import subprocess
from pathlib import Path

import onnxruntime
import pytest

pytestmark = [pytest.mark.board, pytest.mark.slow]


def test_is_an_aarch64_linux(board):
    """What ssh reaches says so itself."""
    assert board.ssh("uname -m").stdout == "aarch64\n"


def test_has_what_the_device_program_needs(board):
    """Python, NumPy, an ONNX Runtime older than the workstation's, and ssh-keygen."""
    found = board.ssh(
        "command -v ssh-keygen && "
        "python3 -c 'import numpy, onnxruntime; print(onnxruntime.__version__)'"
    )

    assert found.returncode == 0, found.stderr
    keygen, version = found.stdout.split()
    assert keygen == "/usr/bin/ssh-keygen"
    assert version != onnxruntime.__version__


def test_lacks_what_a_board_lacks(board):
    """Nothing of the workstation's packages is there, or the tests on the board show nothing."""
    code = (
        "import importlib.util as u; "
        "print([n for n in ('edgedistill', 'torch', 'onnx', 'click') if u.find_spec(n)])"
    )

    assert board.ssh(f'python3 -c "{code}"').stdout == "[]\n"


def test_exit_codes_arrive(board):
    """A command's exit code is ssh's."""
    assert board.ssh("exit 6").returncode == 6


def test_starting_again_changes_nothing(board, board_script):
    """The board that runs is told of again; another port is refused."""
    before = board.ssh("cat /etc/edgedistill-board").stdout
    port = next(x.split()[1] for x in board.config.read_text().splitlines() if "Port" in x)

    again = board_script("start", "--dir", board.folder, "--port", port)
    elsewhere = board_script("start", "--dir", board.folder, "--port", "1")

    assert again.returncode == 0
    assert f"ssh -F {board.config} board" in again.stdout
    assert board.ssh("cat /etc/edgedistill-board").stdout == before
    assert elsewhere.returncode == 5
    assert f"answers on port {port} already" in elsewhere.stderr


def test_an_unknown_key_is_not_let_in(board, tmp_path):
    """Logging in takes the board's own key."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    settings = board.config.read_text().replace(str(board.folder / "ssh" / "id_ed25519"), str(key))
    (tmp_path / "config").write_text(settings)

    tried = subprocess.run(
        ["ssh", "-F", tmp_path / "config", "-o", "BatchMode=yes", "board", "true"],
        capture_output=True,
        text=True,
    )

    assert tried.returncode == 255
    assert "Permission denied" in tried.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "No command"),
        (["explode"], "Unknown command explode"),
        (["start", "--port"], "--port needs a value"),
        (["start", "--speed", "9"], "Unknown option --speed"),
        (["start", "--port", "70000"], "A port is a number from 1 to 65535, got 70000"),
    ],
)
def test_wrong_arguments(board_script, arguments, message):
    """Exit code 2, what was wrong, and what would be right."""
    ran = board_script(*arguments)

    assert ran.returncode == 2
    assert message in ran.stderr
    assert "usage: board.sh" in ran.stderr


def test_needs_root(board_machine, board_script):
    """Another user is told to come back as root."""
    ran = board_script("setup", user="nobody")

    assert ran.returncode == 5
    assert "Only root can make or start the board" in ran.stderr


def test_refuses_a_folder_that_others_can_write(board_machine, board_script, tmp_path):
    """sshd would refuse it later, and say so only in its log."""
    tmp_path.chmod(0o777)

    ran = board_script("setup", "--dir", tmp_path / "board", "--cache", tmp_path / "cache")

    assert ran.returncode == 5
    assert f"{tmp_path} is not root's alone" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_needs_binfmt_misc(board_machine, tmp_path):
    """Where nothing may be mounted, as in most containers, the reason is told."""
    script = Path(__file__).parents[2] / "deploy" / "emulated-board" / "board.sh"
    hide = "mount -t tmpfs none /proc/sys/fs/binfmt_misc"
    weak = "setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin"
    command = f"{hide} && exec {weak} {script} setup --dir /var/lib/never-made"

    ran = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True)

    assert ran.returncode == 5
    assert "Cannot mount binfmt_misc" in ran.stderr


def test_a_board_that_is_not_there(board_machine, board_script, tmp_path):
    """Its status is 1; stopping and removing it are no errors."""
    nowhere = ("--dir", tmp_path / "nowhere")

    assert board_script("status", *nowhere).returncode == 1
    assert board_script("stop", *nowhere).returncode == 0
    assert board_script("remove", *nowhere).returncode == 0
