"""`kfp-custody keygen`: a signing key for one machine."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.refusals import refusals


def keygen(
    out: Annotated[Path, typer.Argument(metavar="OUT", dir_okay=False, help="The private key to write, in PEM.")],
    name: Annotated[
        str | None, typer.Option("--name", help="The signer's name in trust files; the file's without it.")
    ] = None,
) -> None:
    """Make an EC P-256 key: OUT with mode 0600, the public key beside it (.pub); print its entry for a trust file.

    The entry may sign nothing yet: fill in `may_sign`, or use `kfp-custody trust add`.
    """
    public = out.with_suffix(".pub")
    if public == out:
        raise typer.BadParameter("a private key is not named .pub", param_hint="OUT")
    if public.exists():
        raise typer.BadParameter(f"{public} exists already", param_hint="OUT")
    with refusals():
        import json

        from kfp_custody.components._shared.files import write_atomic
        from kfp_custody.components._shared.keys import public_pem
        from kfp_custody.components._shared.kinds import KINDS
        from kfp_custody.components._shared.signers.file import generate_key

        pem = public_pem(generate_key(out))
        write_atomic(public, pem)
        key = "".join(f"      {line}\n" for line in pem.decode().splitlines())
        typer.echo(f"  - name: {json.dumps(name or out.stem)}\n    key: |\n{key}    may_sign: []  # {', '.join(KINDS)}")
