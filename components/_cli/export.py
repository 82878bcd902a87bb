"""`kfp-custody export`: an admitted model in the layout of another server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import TrustFile
from kfp_custody.components._cli.refusals import refusals


class Layout(StrEnum):
    """Whose layout is written."""

    BENTOML = "bentoml"
    TRITON = "triton"
    TORCHSERVE = "torchserve"


def export(
    form: Annotated[
        Layout,
        typer.Option(
            "--format",
            help="bentoml: the sources of a bento; triton: a model repository for the Python backend; "
            "torchserve: a model archive.",
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(
            "--model", metavar="DIR", exists=True, file_okay=False, help="The signed model: model/ and model.sig."
        ),
    ],
    decision: Annotated[
        Path,
        typer.Option("--decision", metavar="DIR", exists=True, file_okay=False, help="The gate's decision about it."),
    ],
    trust: TrustFile,
    run: Annotated[str, typer.Option("--run-id", "--run", metavar="ID", help="The run that decided.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The service; the decision must speak of models:/NAME.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must not exist.")],
) -> None:
    """Write a signed and admitted model for another server, which verifies it again before it loads it.

    Verified first, as by deploy_model: the decision (at most 24 hours old, PASSED, of this run, on a pinned policy),
    every byte of the model, and its signature. The export pins the digests of both. Its server reads the trust file
    that CUSTODY_TRUST names, and needs this package: pip install 'kfp-custody[exported]'.
    """
    if out.resolve().is_relative_to(model.resolve()) or out.resolve().is_relative_to(decision.resolve()):
        raise typer.BadParameter("the export must not lie inside what it is made of", param_hint="--out")
    with refusals():
        from kfp_custody.components._shared.trust import load_trust
        from kfp_custody.components.seldon_deployment.decision import require_admitted
        from kfp_custody.components.seldon_deployment.exports.bento import export_bento
        from kfp_custody.components.seldon_deployment.exports.torchserve import export_torchserve
        from kfp_custody.components.seldon_deployment.exports.triton import export_triton

        writers = {
            Layout.BENTOML: export_bento,
            Layout.TRITON: export_triton,
            Layout.TORCHSERVE: export_torchserve,
        }
        admitted = require_admitted(model, decision, load_trust(trust), run_id=run, name=name)
        writers[form](admitted, name, out)
        typer.echo(f"model  sha256:{admitted.digest}\nexport {out}")
