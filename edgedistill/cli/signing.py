"""`sign` and `verify`: who made a bundle."""

from __future__ import annotations

from pathlib import Path

import click

_BUNDLE = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)

sign_key_option = click.option(
    "--sign-key",
    metavar="KEY",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="SSH key; also write the bundle signed with it, as signed.zip in the folder of --out.",
)


def signed_copy(bundle: Path | None, key: Path | None, folder: Path) -> Path | None:
    """Write a signed copy of a bundle into a folder, if there is a bundle and a key."""
    from edgedistill.deployment.signing import sign_bundle

    if bundle is None or key is None:
        return None
    sign_bundle(bundle, key, folder / "signed.zip")
    return folder / "signed.zip"


@click.command()
@click.argument("bundle", type=_BUNDLE)
@click.option(
    "--key",
    default="~/.ssh/id_ed25519",
    show_default=True,
    type=_FILE,
    help="Private SSH key, or the public key of one that your agent holds.",
)
@click.option("--out", type=_BUNDLE, help="Signed copy to write.  [default: BUNDLE itself]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
def sign(bundle: Path, key: Path, out: Path | None, as_json: bool) -> None:
    """Sign BUNDLE with your SSH key, so that boards know that it is yours.

    \b
    Example: edgedistill sign runs/GunPoint/result/bundle.zip --out gunpoint.zip
    """
    from edgedistill.cli.output import print_json
    from edgedistill.deployment.signing import sign_bundle

    sign_bundle(bundle, key.expanduser(), out)
    if as_json:
        print_json({"out": str(out or bundle)})
    else:
        click.echo(f"Signed {out or bundle}.")


@click.command()
@click.argument("bundle", type=_BUNDLE)
@click.option(
    "--allowed-signers",
    required=True,
    type=_FILE,
    help="Whom you trust: a line of name and public key for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a line.")
def verify(bundle: Path, allowed_signers: Path, as_json: bool) -> None:
    """Say who signed BUNDLE; exits with 6 unless it is whole and one of the allowed signers did.

    \b
    Example: edgedistill verify gunpoint.zip --allowed-signers allowed_signers
    """
    from edgedistill.cli.output import print_json
    from edgedistill.deployment.signing import signer

    principal = signer(bundle, allowed_signers)
    if as_json:
        print_json({"bundle": str(bundle), "signer": principal})
    else:
        click.echo(f"{bundle} is whole, and {principal} signed it.")
