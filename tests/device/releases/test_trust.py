"""What a root's trust rests on, and what becomes of a signer who loses it."""

from __future__ import annotations

import grp
import json
import os
import pwd

import pytest

from edgedistill.bundle import signature
from edgedistill.device.__main__ import main
from edgedistill.device.releases.installation import Request, install
from edgedistill.device.releases.layout import Root, linked_release
from edgedistill.device.releases.permissions import require_safe
from edgedistill.errors import IntegrityError
from edgedistill.io import archives


@pytest.fixture
def root(tmp_path, italy, ssh_key):
    """Two releases of one signer, who is trusted."""
    found = Root(tmp_path / "root")
    found.path.mkdir()
    key = ssh_key(tmp_path / "id")
    archives.unpack(italy, tmp_path / "unpacked")
    signature.sign(tmp_path / "unpacked", key)
    archives.pack(tmp_path / "unpacked", tmp_path / "signed.zip")
    found.allowed_signers.write_text(f"alice {key.with_suffix('.pub').read_text()}")
    for name in ("a", "b"):
        install(
            found,
            tmp_path / "signed.zip",
            Request(name=name, allowed_signers=found.allowed_signers),
        )
    return found


def _releases(root, *arguments):
    return main(["releases", "--root", str(root.path), *arguments])


@pytest.mark.parametrize("change", ["removed", "revoked", "expired"])
def test_signer_who_is_no_longer_trusted(root, ssh_key, tmp_path, capsys, change):
    """The list shows it; a rollback does what it must, and says so."""
    assert [_releases(root, "switch", name, "--force") for name in "ab"] == [0, 0]
    assert "no longer trust" not in "".join(capsys.readouterr())
    line = root.allowed_signers.read_text()
    other = ssh_key(tmp_path / "other").with_suffix(".pub").read_text()
    new = {
        "removed": f"alice {other}",
        "revoked": line.replace("alice ", 'alice namespaces="nothing" '),
        "expired": line.replace("alice ", 'alice valid-before="20200101" '),
    }
    root.allowed_signers.write_text(new[change])

    assert _releases(root, "list") == 0
    assert capsys.readouterr().out.count("signer no longer trusted") == 2
    assert _releases(root, "rollback") == 0
    assert linked_release(root.current) == "a"
    assert "warning: a was signed by alice, whom" in capsys.readouterr().err


def test_release_without_a_signature_is_not_called_distrusted(root, italy, capsys):
    """Nor one of a root without allowed signers: nobody knows."""
    install(root, italy, Request(name="c"))
    assert _releases(root, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["releases"]
    assert [each["trusted"] for each in listed] == [True, True, None]

    root.allowed_signers.unlink()
    assert _releases(root, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["releases"]
    assert [each["trusted"] for each in listed] == [None, None, None]


@pytest.mark.parametrize("place", ["allowed_signers", "", "releases", ".."])
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_place_that_others_may_write_is_refused(root, tmp_path, monkeypatch, place, mode):
    """As by sshd: the file, the root, and the folders above it. The message names the place."""
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group(("staff", "x", 50, ["bob"])))
    path = (root.path / place).resolve()
    path.chmod(mode)

    with pytest.raises(IntegrityError, match=r"may be written by others.*chmod go-w") as caught:
        _install_again(root, tmp_path)

    assert f"{path} may be written" in str(caught.value)
    path.chmod(0o755)
    _install_again(root, tmp_path)


def test_private_group_of_the_user_may_write(root, tmp_path):
    """Debian's umask gives it the right; nobody else is in the group."""
    group = grp.getgrgid(os.getegid())
    members = {*group.gr_mem, *(u.pw_name for u in pwd.getpwall() if u.pw_gid == group.gr_gid)}
    root.path.chmod(0o775)

    if members <= {pwd.getpwuid(os.geteuid()).pw_name}:
        _install_again(root, tmp_path)
    else:
        with pytest.raises(IntegrityError, match="may be written by others"):
            _install_again(root, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize("place", ["allowed_signers", "", "releases"])
def test_place_of_somebody_else_is_refused(root, tmp_path, place):
    """Root's own are fine for everybody, another user's are not."""
    os.chown(root.path / place, 12345, -1)

    with pytest.raises(IntegrityError, match=r"belongs to user 12345.*chown 0 "):
        _install_again(root, tmp_path)


def test_folder_with_the_sticky_bit_is_safe(tmp_path):
    """Nobody moves the files of others there."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "shared" / "mine").write_text("")

    require_safe(tmp_path / "shared" / "mine")


def _install_again(root, tmp_path):
    request = Request(name="a", allowed_signers=root.allowed_signers)
    return install(root, tmp_path / "signed.zip", request)
