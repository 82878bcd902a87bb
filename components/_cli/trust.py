"""`kfp-custody trust`: editing a trust file."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import moment
from kfp_custody.components._cli.refusals import refusals

app = typer.Typer(help="Edit a trust file: who may speak for what. Comments in it are lost.", no_args_is_help=True)

TrustFile = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The trust file.")]


@app.command("add")
def add(
    file: TrustFile,
    name: Annotated[str, typer.Option("--name", help="The signer's name in reports and policies.")],
    may_sign: Annotated[
        list[str], typer.Option("--may-sign", metavar="KIND", help="A kind of evidence, such as train-model. Repeat.")
    ],
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="PUB", exists=True, dir_okay=False, help="Its EC P-256 public key, in PEM."),
    ] = None,
    issuer: Annotated[str | None, typer.Option("--issuer", help="Keyless: who vouches for the identity.")] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Keyless: exactly this identity.")] = None,
    not_before: Annotated[
        datetime | None, typer.Option("--not-before", metavar="TIME", parser=moment, help="Not believed earlier.")
    ] = None,
    not_after: Annotated[
        datetime | None, typer.Option("--not-after", metavar="TIME", parser=moment, help="Not believed later.")
    ] = None,
) -> None:
    """Add a signer, by key or by keyless identity; a file that is not there yet is started."""
    keyless = {"issuer": issuer, "identity": identity} if issuer and identity else None
    if (key is None) == (keyless is None) or (key is not None and (issuer or identity)):
        raise typer.BadParameter("give --key, or --issuer and --identity")
    with refusals():
        from kfp_custody.components._shared.trust import add_signer

        credential = {"key": _public_key(key)} if key else {k: v for k, v in (keyless or {}).items() if v}
        text = _read(file) if file.exists() else ""
        _write(file, add_signer(text, name, credential, may_sign, not_before=not_before, not_after=not_after))
        typer.echo(f"{file}: {name} may sign {', '.join(may_sign)}")


@app.command("revoke")
def revoke(
    file: TrustFile,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signer.")],
    at: Annotated[
        datetime | None, typer.Option("--at", metavar="TIME", parser=moment, help="From when; now without it.")
    ] = None,
) -> None:
    """Revoke a signer: verifying at this time or later refuses all that it ever signed."""
    with refusals():
        from kfp_custody.components._shared.evidence import now, stamp
        from kfp_custody.components._shared.trust import revoke_signer

        since = at or now()
        _write(file, revoke_signer(_read(file), name, since))
        typer.echo(f"{file}: {name} is revoked from {stamp(since)}")


def _public_key(path: Path) -> str:
    """Read a public key, and never put a private one into a trust file.

    Raises:
        Misconfigured: it holds a private key, or is no text.
    """
    from kfp_custody.components._shared import codes
    from kfp_custody.components._shared.errors import Misconfigured

    data = path.read_bytes()
    if b"PRIVATE" in data or not data.isascii():
        raise Misconfigured(
            "This is no public key.",
            evidence=f"{path} holds a private key, or is no PEM",
            remedy="Give the public half (.pub). A private key belongs nowhere but with its signer.",
            code=codes.TRUST_KEY,
        )
    return data.decode()


def _read(path: Path) -> str:
    """Read a trust file's text.

    Raises:
        Misconfigured: it is no text.
    """
    from kfp_custody.components._shared import codes
    from kfp_custody.components._shared.errors import Misconfigured

    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Misconfigured(
            "The trust file was not accepted, so it was not edited.",
            evidence=f"{path} is not UTF-8",
            remedy="Name a trust file, or one that is not there yet.",
            code=codes.NOT_UTF8,
        ) from error


def _write(path: Path, text: str) -> None:
    from kfp_custody.components._shared.files import write_atomic

    write_atomic(path, text.encode(), mode=path.stat().st_mode & 0o777 if path.exists() else 0o644)
