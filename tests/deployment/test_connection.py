"""A real SSH server on loopback: who is let in, who is refused, what a command leaves."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import shutil
import signal
import socket
import subprocess

import pytest

from edgedistill.deployment.connection import (
    Connection,
    SshOptions,
    connect,
    jump_hosts,
    translate_ssh_errors,
)
from edgedistill.deployment.hosts import Host, parse
from edgedistill.errors import IntegrityError, LostConnectionError, MachineError, UsageError

KILL_SESSION = 'kill -9 $(cut -d " " -f 4 /proc/$PPID/stat); sleep 5'  # our parent's is sshd's


@pytest.fixture
def board(ssh_server):
    """The server as a board."""
    return parse(ssh_server.address)


@pytest.fixture
def other_key(tmp_path):
    """A private key that nobody knows."""
    path = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def _run(host, access, *command, **options):
    async def work():
        async with connect(host, access) as connection:
            return await connection.run(command, **options)

    return asyncio.run(work())


def test_a_command_leaves_its_output_and_exit_code(board, access):
    """Arguments arrive as they are, input too, and both streams come back apart."""
    told = []

    found = _run(
        *(board, access, "sh", "-c", 'cat; echo "$1" >&2; exit 7', "sh", "$HOME 'a'  b"),
        stdin="in\nput",
        on_line=told.append,
    )

    assert (found.code, found.stdout, found.stderr) == (7, "in\nput", "$HOME 'a'  b\n")
    assert told == ["$HOME 'a'  b"]


def test_exit_code_of_a_killed_command(board, access):
    """As a shell does: 128 and the signal."""
    found = _run(board, access, "sh", "-c", "kill -9 $$")

    assert found.code == 128 + signal.SIGKILL


def test_command_that_hangs_times_out(board, access):
    """The message names the board and the command."""
    with pytest.raises(MachineError, match=r"sleep 60 did not end within 0.3 s"):
        _run(board, access, "sleep", "60", timeout_s=0.3)


def test_lost_connection_is_an_error_of_its_own(board, access):
    """The session's own process is killed, which the board cannot announce."""
    with pytest.raises(LostConnectionError, match="broke off") as caught:
        _run(board, access, "sh", "-c", KILL_SESSION)

    assert caught.value.exit_code == 5


@pytest.mark.parametrize("number", [errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_a_network_that_goes_away_is_a_cut(board, number):
    """The system names it by a number, and it is no error of a file."""
    with pytest.raises(LostConnectionError, match="broke off"), translate_ssh_errors(board):
        raise OSError(number, "it is so")
    with pytest.raises(PermissionError), translate_ssh_errors(board):
        raise OSError(errno.EACCES, "it is so")


def test_shell_that_runs_no_command_is_quoted(board, access, ssh_server, other_key):
    """As of an account that may not log in; here for one key only."""
    allowed = ssh_server.folder / "authorized_keys"
    public = other_key.with_name("other.pub").read_text()
    refusal = r"printf 'No shell\033[2J for you.\n'; exit 3"
    allowed.write_text(f'{allowed.read_text()}command="{refusal}" {public}')

    with pytest.raises(MachineError, match="does not run commands") as caught:
        _run(board, dataclasses.replace(access, identity=other_key), "true")

    assert not isinstance(caught.value, LostConnectionError)
    assert r"ended with exit code 3 and printed: No shell\x1b[2J for you.." in str(caught.value)


def test_the_ssh_configuration_is_honored(ssh_server):
    """An alias brings address, port, user, key and known hosts."""
    found = _run(parse("board"), SshOptions(config=ssh_server.config), "id", "-un")

    assert found.stdout.strip() == ssh_server.user


def test_connection_through_a_jump_host(ssh_server, tmp_path):
    """The board is reached from the jump host, whose key is checked as well."""
    config = tmp_path / "config"
    behind = ssh_server.config.read_text().replace("Host board", "Host behind\n  ProxyJump board")
    config.write_text(ssh_server.config.read_text() + behind)

    found = _run(parse("behind"), SshOptions(config=config), "echo", "here")

    assert found.stdout == "here\n"


def test_an_unknown_jump_host_is_refused(ssh_server, tmp_path):
    """Its name and its fingerprint are in the message."""
    config = tmp_path / "config"
    stranger = ssh_server.config.read_text().replace("Host board", "Host stranger")
    stranger = stranger.replace(str(ssh_server.known_hosts), "/dev/null")
    behind = ssh_server.config.read_text().replace(
        "Host board", "Host behind\n  ProxyJump stranger"
    )
    config.write_text(stranger + behind)

    with pytest.raises(MachineError, match="The host key of stranger is not known"):
        _run(parse("behind"), SshOptions(config=config), "true")


_ROUTES = {
    "the jump host of a jump host": (
        "Host board\n ProxyJump inner\nHost inner\n ProxyJump bastion\n",
        ["bastion", "inner"],
    ),
    "a list, whose first host alone has its own": (
        "Host board\n ProxyJump outer,inner\nHost inner\n ProxyJump lost\n"
        "Host outer\n ProxyJump bastion\n",
        ["bastion", "outer", "inner"],
    ),
    "none for the jump host": (
        "Host bastion\n ProxyJump none\nHost *\n ProxyJump bastion\n",
        ["bastion"],
    ),
    "none for the board": ("Host board\n ProxyJump none\nHost *\n ProxyJump lost\n", []),
    "no command": ("Host board\n ProxyCommand none\nHost *\n ProxyJump lost\n", []),
    "a URI": ("Host board\n ProxyJump ssh://bastion:PORT\n", ["ssh://bastion:PORT"]),
}


@pytest.mark.parametrize(("rules", "names"), _ROUTES.values(), ids=_ROUTES)
def test_jump_hosts_are_those_of_openssh(ssh_server, tmp_path, rules, names):
    """As many logins as `ssh` needs under the same configuration."""
    config, log = tmp_path / "config", ssh_server.folder / "log"
    hosts = "Host board bastion inner outer"
    text = rules + ssh_server.config.read_text().replace("Host board", hosts)
    config.write_text(text.replace("PORT", str(ssh_server.port)))
    ssh = ["ssh", "-F", config, "-o", "BatchMode=yes", "board", "true"]

    def logins(connect_to_board):
        before = log.read_text().count("Accepted publickey")
        connect_to_board()
        return log.read_text().count("Accepted publickey") - before

    by_ssh = logins(lambda: subprocess.run(ssh, check=True))
    by_us = logins(lambda: _run(parse("board"), SshOptions(config=config), "true"))

    taken = [host.name for host in jump_hosts(parse("board"), SshOptions(config=config))]
    assert taken == [name.replace("PORT", str(ssh_server.port)) for name in names]
    assert by_us == by_ssh == len(names) + 1


@pytest.mark.parametrize(
    "rules", ["Host a\n ProxyJump b\nHost b\n ProxyJump a\n", "Host *\n ProxyJump a\n"]
)
def test_jump_hosts_in_a_circle_are_refused(tmp_path, rules):
    """The message has the host and the line that ends it."""
    config = tmp_path / "config"
    config.write_text(rules)

    with pytest.raises(UsageError, match=r"jump hosts of a go in a circle.*`ProxyJump none` for a"):
        _run(parse("a"), SshOptions(config=config), "true")


@pytest.mark.parametrize("content", ["", "elsewhere ssh-ed25519 AAAA\n"])
def test_an_unknown_host_key_is_refused_and_shown(board, access, ssh_server, tmp_path, content):
    """The fingerprint is the one that the board's owner sees, with the command that adds it."""
    known = tmp_path / "known_hosts"
    known.write_text(content)
    listed = subprocess.run(
        ["ssh-keygen", "-lf", ssh_server.host_key], capture_output=True, text=True, check=True
    )
    fingerprint = listed.stdout.split()[1]

    with pytest.raises(MachineError, match="is not known: ED25519 SHA256:") as caught:
        _run(board, dataclasses.replace(access, known_hosts=known), "true")

    assert fingerprint in str(caught.value)
    assert f"ssh-keyscan -p {ssh_server.port} 127.0.0.1 >> {known}" in str(caught.value)


def test_switching_the_check_off_in_the_configuration_refuses(ssh_server, tmp_path):
    """`UserKnownHostsFile none` trusts nobody; it does not trust everybody."""
    config = tmp_path / "config"
    config.write_text(
        ssh_server.config.read_text().replace(str(ssh_server.known_hosts), "none")
        + "  StrictHostKeyChecking no\n"
    )

    with pytest.raises(MachineError, match="is not known"):
        _run(parse("board"), SshOptions(config=config), "true")


def test_a_changed_host_key_is_refused_loudly(board, access, ssh_server, other_key, tmp_path):
    """Exit code 6, both fingerprints, and how to forget the old key."""
    known = tmp_path / "known_hosts"
    public = other_key.with_name("other.pub").read_text()
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {public}")

    with pytest.raises(IntegrityError, match="HAS CHANGED") as caught:
        _run(board, dataclasses.replace(access, known_hosts=known), "true")

    assert str(caught.value).count("SHA256:") == 2
    assert f"ssh-keygen -R '[127.0.0.1]:{ssh_server.port}'" in str(caught.value)


def test_a_hashed_known_host_is_known(board, access, ssh_server, tmp_path):
    """As Debian writes its known hosts."""
    known = tmp_path / "known_hosts"
    shutil.copyfile(ssh_server.known_hosts, known)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)

    assert _run(board, dataclasses.replace(access, known_hosts=known), "true").code == 0


def test_a_stray_byte_in_known_hosts(board, access, ssh_server, tmp_path):
    """In a comment it does no harm, as for `ssh`; other lines with one are skipped, and told."""
    known = tmp_path / "known_hosts"
    key = ssh_server.known_hosts.read_bytes().rstrip()
    known.write_bytes(
        b"\xe9t\xe9 ssh-ed25519 AAAA\nalone\n|1|x|" + key + b"\n" + key + b" \xe9t\xe9\n"
    )
    warnings = []
    options = dataclasses.replace(access, known_hosts=known, on_warning=warnings.append)

    assert _run(board, options, "true").code == 0

    assert [line.split(" was skipped")[0] for line in warnings] == [
        f"Line {number} of {known}" for number in (1, 2, 3)
    ]


def test_a_key_that_is_revoked_beside_a_stray_byte(board, access, ssh_server, tmp_path):
    """The byte in its comment does not bring the key back."""
    known = tmp_path / "known_hosts"
    key = ssh_server.known_hosts.read_bytes().rstrip()
    known.write_bytes(key + b"\n@revoked " + key + b" \xe9t\xe9\n")

    with pytest.raises(MachineError, match="cannot be verified: it is revoked"):
        _run(board, dataclasses.replace(access, known_hosts=known), "true")


def test_a_wrong_key_is_refused(board, access, other_key, ssh_server):
    """The message has the user and the ways to bring a key."""
    with pytest.raises(MachineError, match=f"refused the login as {ssh_server.user}.*ssh-copy-id"):
        _run(board, dataclasses.replace(access, identity=other_key), "true")


def test_no_listener(access):
    """A port that was just free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with pytest.raises(MachineError, match="refused the connection"):
        _run(parse(f"127.0.0.1:{port}"), access, "true")


def test_silent_server_times_out(access):
    """It takes the connection and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = parse(f"127.0.0.1:{silent.getsockname()[1]}")

        with pytest.raises(MachineError, match="did not answer in time"):
            _run(host, dataclasses.replace(access, timeout_s=0.3), "true")


def test_unknown_host_name_is_refused(access):
    """The resolver's own words are in the message."""
    with pytest.raises(MachineError, match=r"There is no host nowhere\.invalid"):
        _run(Host(name="x", address="nowhere.invalid"), access, "true")


def test_a_missing_file_of_known_hosts(board, access, tmp_path):
    """A named file that is not there is not taken for an empty one."""
    with pytest.raises(MachineError, match="no file of known hosts"):
        _run(board, dataclasses.replace(access, known_hosts=tmp_path / "none"), "true")


def test_a_missing_identity(board, access, tmp_path):
    """The message names the file."""
    with pytest.raises(UsageError, match=r"no SSH key at .*missing"):
        _run(board, dataclasses.replace(access, identity=tmp_path / "missing"), "true")


def test_a_broken_configuration(board, tmp_path):
    """The message has the line."""
    config = tmp_path / "config"
    config.write_text("Port many\n")

    with pytest.raises(UsageError, match=r"cannot be set up: .*Invalid"):
        _run(parse("board"), SshOptions(config=config), "true")


def test_command_that_ends_before_its_input_is_written(board, access, monkeypatch):
    """Is no lost connection: its exit code has come."""
    start = Connection.start

    async def ended(self, command):
        process = await start(self, command)
        await process.wait_closed()
        return process

    monkeypatch.setattr(Connection, "start", ended)

    assert _run(board, access, "sh", "-c", "exit 3", stdin="unread").code == 3


def test_concurrent_commands_that_end_at_once(board, access):
    """None of many is taken for a lost connection."""

    async def one(connection):
        return [(await connection.run(["true"], stdin="unread")).code for _ in range(10)]

    async def many():
        async with connect(board, access) as connection:
            return await asyncio.gather(*(one(connection) for _ in range(8)))

    assert {code for codes in asyncio.run(many()) for code in codes} == {0}


def test_server_that_allows_too_few_sessions(board, access):
    """The message names the option; here more are opened than it allows by default."""

    async def many():
        async with connect(board, access) as connection:
            await asyncio.gather(*(connection.run(["sleep", "1"]) for _ in range(11)))

    with pytest.raises(MachineError, match=r"opens no channel: .* remove MaxSessions from"):
        asyncio.run(many())
