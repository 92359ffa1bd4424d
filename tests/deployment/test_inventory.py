"""A fleet in a file: what it means, and what is wrong with it in words."""

from __future__ import annotations

import pytest

from edgedistill.deployment.hosts import Host, read_inventory
from edgedistill.errors import ConfigError

BOARDS = """
[defaults]
user = "pi"
python = "~/venv/bin/python"

[boards.kitchen]
host = "192.168.1.20"
groups = ["home", "test"]

[boards."attic.local"]
user = "root"
port = 2222
root = "/srv/edge"
target = "aarch64"
groups = ["home"]
"""


@pytest.fixture
def write(tmp_path):
    """Write an inventory."""

    def put(text):
        path = tmp_path / "boards.toml"
        path.write_text(text)
        return path

    return put


def test_boards_take_what_they_do_not_say_from_the_defaults(write):
    """In the order of the file; a board without a host is called as it is reached."""
    kitchen, attic = read_inventory(write(BOARDS))

    assert kitchen == Host(
        name="kitchen", address="192.168.1.20", user="pi", python="~/venv/bin/python"
    )
    assert attic == Host(
        name="attic.local",
        address="attic.local",
        user="root",
        port=2222,
        root="/srv/edge",
        python="~/venv/bin/python",
        target="aarch64",
    )


@pytest.mark.parametrize(
    ("group", "names"), [("home", ["kitchen", "attic.local"]), ("test", ["kitchen"])]
)
def test_group_selects_boards(write, group, names):
    """Only its boards are returned."""
    assert [host.name for host in read_inventory(write(BOARDS), group=group)] == names


def test_names_select_boards(write):
    """Among the boards of the group, if there is one."""
    path = write(BOARDS)

    assert [host.name for host in read_inventory(path, names=["attic.local"])] == ["attic.local"]
    with pytest.raises(ConfigError, match=r"no board 'kitchn' to choose\. Did you mean kitchen"):
        read_inventory(path, names=["kitchn"])
    with pytest.raises(ConfigError, match=r"no board 'attic\.local' to choose"):
        read_inventory(path, names=["attic.local"], group="test")


def test_a_group_of_the_defaults_holds_all(write):
    """As with every other setting."""
    text = BOARDS.replace('user = "pi"', 'groups = ["all"]')

    assert len(read_inventory(write(text), group="all")) == 2


@pytest.mark.parametrize(
    ("text", "group", "told"),
    [
        (BOARDS, "hoem", "no group 'hoem' to choose. Did you mean home. There are: home, test"),
        ("[boards.a]", "x", "no group 'x' to choose. There are none at all"),
        ("[boards.a", None, "cannot be read: "),
        ("", None, "boards is missing"),
        ("[boards]", None, "boards is {}: .*at least 1 item"),
        ("[boards.a]\ntarge = 1", None, r"boards\.a\.targe is not known\. Did you mean target"),
        ("[boards.a]\nport = 0", None, r"boards\.a\.port is 0: input should be greater"),
        ("[boards.a]\nport = '22'", None, r"boards\.a\.port is '22': .*integer"),
        ("[boards.a]\ngroups = 'x'", None, r"boards\.a\.groups is 'x': .*list"),
        ("[other]\n[boards.a]", None, "other is not known"),
    ],
)
def test_validation_errors_name_the_key(write, text, group, told):
    """As it stands in the file."""
    with pytest.raises(ConfigError, match=told):
        read_inventory(write(text), group=group)


def test_a_missing_inventory(tmp_path):
    """With its name."""
    with pytest.raises(ConfigError, match=r"inventory .*none\.toml cannot be read"):
        read_inventory(tmp_path / "none.toml")


@pytest.mark.parametrize("levels", [300, 100_000])
def test_values_nested_deep_are_refused(write, levels):
    """The parser of TOML refuses them, or the message of a wrong value stays short."""
    deep = "[" * levels + "]" * levels

    with pytest.raises(
        ConfigError, match=r"boards\.toml (cannot be read|makes no sense)"
    ) as caught:
        read_inventory(write(f"[boards.kitchen]\nhost = {deep}"))

    assert len(str(caught.value)) < 300
