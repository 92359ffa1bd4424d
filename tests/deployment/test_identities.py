"""Keys that log in on a real SSH server, with a real agent: as `ssh` chooses them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess

import pytest

from edgedistill.deployment.connection import SshOptions, connect
from edgedistill.deployment.hosts import parse
from edgedistill.errors import MachineError, UsageError

_PASSPHRASE = "long enough"


@pytest.fixture
def agent(monkeypatch, tmp_path):
    """A running agent; the function loads a key into it."""
    socket = tmp_path / "agent"
    started = subprocess.run(["ssh-agent", "-s", "-a", socket], capture_output=True, check=True)
    number = int(started.stdout.split(b"SSH_AGENT_PID=")[1].split(b";")[0])
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))

    def add(key):
        shown = tmp_path / "askpass"
        shown.write_text(f"#!/bin/sh\necho '{_PASSPHRASE}'\n")
        shown.chmod(0o755)
        environment = {**os.environ, "SSH_ASKPASS": str(shown), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(
            ["ssh-add", "-q", key], env=environment, check=True, stdin=subprocess.DEVNULL
        )

    yield add
    os.kill(number, signal.SIGTERM)


@pytest.fixture
def key(ssh_key, ssh_server, tmp_path):
    """A key with a passphrase that may log in."""
    path = ssh_key(tmp_path / "key", passphrase=_PASSPHRASE)
    _let_in(ssh_server, path)
    return path


def _let_in(server, key):
    with (server.folder / "authorized_keys").open("a") as stream:
        stream.write(key.with_name(f"{key.name}.pub").read_text())


def _log_in(server, *, identity=None, config=None):
    async def work():
        known = None if config else server.known_hosts
        options = SshOptions(identity=identity, known_hosts=known, config=config)
        async with connect(parse("board" if config else server.address), options) as connection:
            return (await connection.run(["true"])).code

    return asyncio.run(work())


def _config(server, tmp_path, text):
    config = tmp_path / "config"
    host = server.config.read_text().replace(f"  IdentityFile {server.key}\n", "")
    config.write_text(f"{host}{text}")
    return config


def test_encrypted_key_in_the_agent(ssh_server, agent, key):
    """The agent signs; nothing asks for the passphrase."""
    agent(key)

    assert _log_in(ssh_server, identity=key) == 0


def test_public_half_of_a_key_in_the_agent(ssh_server, agent, key, tmp_path):
    """The private file may be elsewhere: on a token, or on another machine."""
    agent(key)
    key.rename(tmp_path / "away")

    assert _log_in(ssh_server, identity=tmp_path / "key.pub") == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("key", r"key has a passphrase.*ssh-add .*key$"),
        ("key.pub", r"key.pub is a public key, and ssh-agent does not hold its private half"),
        ("config", r"config is no SSH key"),
    ],
)
def test_named_key_that_cannot_be_used(ssh_server, agent, key, tmp_path, name, message):
    """The message says what the file is, and how to go on."""
    _config(ssh_server, tmp_path, "")

    with pytest.raises(UsageError, match=message):
        _log_in(ssh_server, identity=tmp_path / name)


def test_named_key_is_tried_before_all_of_the_agent(ssh_server, agent, ssh_key, tmp_path):
    """A server lets nobody try more than six keys."""
    for number in range(7):
        agent(ssh_key(tmp_path / f"other-{number}"))

    assert _log_in(ssh_server, identity=ssh_server.key) == 0


def test_identities_only_leaves_the_other_keys_of_the_agent_out(
    ssh_server, agent, key, ssh_key, tmp_path
):
    """As `ssh` under the same configuration: only what the files name, which the agent may hold."""
    agent(key)
    other = ssh_key(tmp_path / "other")
    without = _config(ssh_server, tmp_path, f"  IdentityFile {other}\n  IdentitiesOnly yes\n")
    assert _by_ssh(without) != 0
    with pytest.raises(MachineError, match="refused the login"):
        _log_in(ssh_server, config=without)

    shutil.copy(f"{key}.pub", tmp_path / "half.pub")
    named = _config(ssh_server, tmp_path, f"  IdentityFile {key}\n  IdentitiesOnly yes\n")
    assert _by_ssh(named) == 0
    assert _log_in(ssh_server, config=named) == 0


def test_configured_keys_that_cannot_be_used_are_passed_over(ssh_server, agent, key, tmp_path):
    """As by `ssh`: missing, encrypted without the agent, no key at all."""
    stray = tmp_path / "stray"
    stray.write_text("no key")
    files = (tmp_path / "missing", key, stray, ssh_server.key)
    config = _config(ssh_server, tmp_path, "".join(f"  IdentityFile {file}\n" for file in files))

    assert _by_ssh(config) == 0
    assert _log_in(ssh_server, config=config) == 0


def test_agent_of_the_configuration(ssh_server, agent, key, tmp_path, monkeypatch):
    """`IdentityAgent` names another one, or none."""
    agent(key)
    socket = os.environ["SSH_AUTH_SOCK"]
    none = _config(ssh_server, tmp_path, f"  IdentityFile {key}\n  IdentityAgent none\n")
    assert _by_ssh(none) != 0
    with pytest.raises(MachineError, match="refused the login"):
        _log_in(ssh_server, config=none)

    monkeypatch.delenv("SSH_AUTH_SOCK")
    config = _config(ssh_server, tmp_path, f"  IdentityAgent {socket}\n")
    assert _by_ssh(config) == 0
    assert _log_in(ssh_server, config=config) == 0


def _by_ssh(config):
    options = ["-o", "BatchMode=yes"]
    return subprocess.run(
        ["ssh", "-F", config, *options, "board", "true"], capture_output=True
    ).returncode
