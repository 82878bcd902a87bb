"""`kfp-custody attest`: signing what a dataset is, outside of a pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import SignerUri
from kfp_custody.components._cli.refusals import refusals


def attest(
    dataset: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False)],
    signer: SignerUri,
    out: Annotated[Path, typer.Option("--out", metavar="EVIDENCE_DIR", help="The evidence directory to write.")],
    run: Annotated[str, typer.Option("--run", metavar="ID", help="The run that this evidence is for.")],
    masking: Annotated[
        Path | None,
        typer.Option(
            "--masking", metavar="EVIDENCE_DIR", exists=True, file_okay=False, help="What mask_pii left about it."
        ),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="FILE", exists=True, dir_okay=False, help="To verify --masking with."),
    ] = None,
) -> None:
    """Sign what a dataset is: every file by SHA-256 (evidence of the kind attest-dataset).

    With --masking and --trust this is attest_dataset by hand: the masking evidence is verified, must be about these
    bytes, and is named. Without, the evidence names no input and no masking, because none was shown: it says which
    bytes, and nothing about where they come from. The gate refuses a model that was trained on such a dataset.
    """
    if (masking is None) != (trust is None):
        raise typer.BadParameter("--masking and --trust are given together")
    if out.resolve().is_relative_to(dataset.resolve()):
        raise typer.BadParameter("the evidence must not lie inside the dataset", param_hint="--out")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter("it exists already", param_hint="--out")
    if not run.strip():
        raise typer.BadParameter("it is empty", param_hint="--run")
    with refusals():
        sha256 = (
            _masked(dataset, masking, trust, signer, out, run)
            if masking and trust
            else _bare(dataset, signer, out, run)
        )
        typer.echo(f"dataset sha256:{sha256}\nevidence {out}")


def _masked(dataset: Path, masking: Path, trust: Path, signer: str, out: Path, run: str) -> str:
    """Do what attest_dataset does."""
    from kfp_custody.components._shared.settings import load_settings
    from kfp_custody.components.data_attestation.attestation import attest as attest_masked

    settings = load_settings({"CUSTODY_SIGNER": signer, "CUSTODY_TRUST": str(trust)})
    return attest_masked(dataset, masking, out, run, settings).listing.sha256


def _bare(dataset: Path, signer: str, out: Path, run: str) -> str:
    """Sign the listing, and claim nothing else."""
    from kfp_custody.components._shared.digests import list_tree
    from kfp_custody.components._shared.evidence import ATTESTATION, now, provenance, write_evidence
    from kfp_custody.components._shared.signers.loading import load_signer

    started, who, listing = now(), load_signer(signer), list_tree(dataset)
    statement = provenance(
        ATTESTATION,
        listing,
        run_id=run,
        started=started,
        parameters={},
        internal={"files": len(listing.entries), "bytes": listing.size, "attested_by_hand": True},
        dependencies=[],
        byproducts=[],
    )
    write_evidence(out, statement, who, listing)
    return listing.sha256
