"""Addresses of boards: what is one, and what is refused."""

from __future__ import annotations

import subprocess

import pytest

from edgedistill.deployment.hosts import Host, parse
from edgedistill.errors import UsageError


@pytest.mark.parametrize(
    ("text", "user", "address", "port"),
    [
        ("board", None, "board", None),
        ("pi@board", "pi", "board", None),
        ("pi@board.local:2222", "pi", "board.local", 2222),
        ("192.168.1.5:22", None, "192.168.1.5", 22),
        ("fe80::1", None, "fe80::1", None),
        ("pi@fe80::1", "pi", "fe80::1", None),
        ("pi@[fe80::1]:2222", "pi", "fe80::1", 2222),
        ("me@corp.com@board", "me@corp.com", "board", None),
        ("me@corp.com@board:2222", "me@corp.com", "board", 2222),
        ("ssh://pi@board.local:2222", "pi", "board.local", 2222),
        ("ssh://board/", None, "board", None),
        ("ssh://me%40corp.com@[fe80::1]:22", "me@corp.com", "fe80::1", 22),
    ],
)
def test_address_is_parsed(text, user, address, port):
    """User and port may be left out, an IPv6 address is no port, and the last @ splits."""
    host = parse(text, root="/srv/edge")

    assert (host.user, host.address, host.port) == (user, address, port)
    assert (host.name, host.root) == (text, "/srv/edge")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@board",
        "pi@",
        "board:",
        "board:ssh",
        "a b",
        "-oProxyCommand=x",
        "-l@b",
        "ssh://",
        "ssh://b/x",
    ],
)
def test_invalid_board_address_is_refused(text):
    """The message repeats it; a leading dash is no name, so that it cannot become an option."""
    with pytest.raises(UsageError, match=r"Give user@host"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["pi@board:2222", "me@corp.com@board", "ssh://pi@board.local:2222", "ssh://a%40b@board"]
)
def test_address_is_parsed_as_by_openssh(text):
    """`ssh -G` prints what it understood; it takes a port only in the form of a URI."""
    host = parse(text)

    given = f"ssh://{text}" if text.endswith("board:2222") else text
    shown = subprocess.run(["ssh", "-F", "none", "-G", given], capture_output=True, check=True)
    understood = dict(line.split(" ", 1) for line in shown.stdout.decode().splitlines())
    assert (host.user, host.address) == (understood["user"], understood["hostname"])
    assert str(host.port or 22) == understood["port"]


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_outside_the_range_is_refused(port):
    """Ports go from 1 to 65535."""
    with pytest.raises(UsageError, match=f"Port {port} of board is none"):
        Host(name="board", address="board", port=port)
