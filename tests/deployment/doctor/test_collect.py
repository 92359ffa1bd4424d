"""A real SSH server on loopback is asked what it has; nothing stays there."""

from __future__ import annotations

import asyncio
import platform
import sys
from pathlib import Path

import pytest

from edgedistill.deployment.connection import SshOptions, connect
from edgedistill.deployment.doctor import collect as asking
from edgedistill.deployment.doctor.diagnosis import diagnose
from edgedistill.deployment.hosts import parse
from edgedistill.errors import MachineError


@pytest.fixture
def ask(ssh_server, tmp_path):
    """Ask the server, which is this machine, with another Python or none."""
    access = SshOptions(identity=ssh_server.key, known_hosts=ssh_server.known_hosts)

    def work(python=sys.executable):
        async def there():
            host = parse(ssh_server.address, root=str(tmp_path / "root"), python=str(python))
            async with connect(host, access) as connection:
                return await asking.collect_from_board(connection)

        return asyncio.run(there())

    return work


def test_a_board_tells_what_it_has(ask, tmp_path):
    """The program is carried there for the question."""
    found = ask()

    assert found["machine"] == platform.machine()
    assert found["disk"]["folder"] == str(tmp_path / "root")
    assert found["packages"]["numpy"]["works"] is True
    assert diagnose(found).target.board.machine == platform.machine()


def test_nothing_stays_on_the_board(ask, tmp_path, monkeypatch):
    """Neither the program nor its folder; releases are not touched."""
    before = set(Path("/tmp").glob("tmp.*"))  # what mktemp makes

    ask()

    assert set(Path("/tmp").glob("tmp.*")) - before == set()
    assert not (tmp_path / "root").exists()


def test_this_machine_tells_it_too(tmp_path):
    """Without a connection."""
    assert asking.collect_here(str(tmp_path))["disk"]["folder"] == str(tmp_path)


def test_a_board_without_python_is_told(ask):
    """With what installs it."""
    with pytest.raises(MachineError, match=r"has no python3\.99.*apt-get install.*--python"):
        ask("python3.99")


def test_an_old_python_is_told_in_its_own_words(ask, tmp_path):
    """The program says what it needs, even to one that cannot run it."""
    old = tmp_path / "old"
    old.write_text(
        "#!/bin/sh\necho 'error: This is Python 3.8; it needs 3.10 or newer.' >&2\nexit 5\n"
    )
    old.chmod(0o755)

    with pytest.raises(MachineError, match=r"cannot tell what it has: error: This is Python 3\.8"):
        ask(old)


def test_an_interpreter_at_home_is_found(ask, tmp_path):
    """`~` is the board's home; a shell is not asked to expand anything else."""
    home = Path.home()
    link = home / f".edgedistill-test-{tmp_path.name}"
    link.symlink_to(sys.executable)
    try:
        found = ask(f"~/{link.name}")
    finally:
        link.unlink()

    assert found["python"]["executable"] == str(link)
