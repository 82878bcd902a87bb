"""`kfp-custody sign`: an OpenSSF model signature."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import SignerUri
from kfp_custody.components._cli.refusals import refusals


def sign(
    model: Annotated[Path, typer.Argument(metavar="MODEL_DIR", exists=True, file_okay=False)],
    signer: SignerUri,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the signature (model.sig).")],
) -> None:
    """Sign a model folder in the OpenSSF format, which `model_signing verify` reads too.

    A signature says who signed which files. It does not say how the model was made: in a pipeline sign_model verifies
    the training provenance first.
    """
    if out.resolve().is_relative_to(model.resolve()):
        raise typer.BadParameter("the signature must not lie inside the model that it signs", param_hint="--out")
    if out.exists():
        raise typer.BadParameter("it exists already", param_hint="--out")
    with refusals():
        from kfp_custody.components._shared.digests import list_tree, sha256_file
        from kfp_custody.components._shared.model_signature import sign_model_tree
        from kfp_custody.components._shared.signers.loading import load_signer

        sign_model_tree(model, out, load_signer(signer))
        typer.echo(f"model     sha256:{list_tree(model).sha256}\nsignature sha256:{sha256_file(out)} {out}")
