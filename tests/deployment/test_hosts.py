"""Addresses of boards: what is one, and what is refused."""

from __future__ import annotations

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
    ],
)
def test_address_is_parsed(text, user, address, port):
    """User and port may be left out; an IPv6 address is no port."""
    host = parse(text, root="/srv/edge")

    assert (host.user, host.address, host.port) == (user, address, port)
    assert (host.name, host.root) == (text, "/srv/edge")


@pytest.mark.parametrize(
    "text", ["", "@board", "pi@", "board:", "board:ssh", "a b", "a@b@c", "-oProxyCommand=x"]
)
def test_invalid_board_address_is_refused(text):
    """The message repeats it; a leading dash is no name, so that it cannot become an option."""
    with pytest.raises(UsageError, match=r"Give user@host"):
        parse(text)


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_outside_the_range_is_refused(port):
    """Ports go from 1 to 65535."""
    with pytest.raises(UsageError, match=f"Port {port} of board is none"):
        Host(name="board", address="board", port=port)
