"""`kfp-custody verify`: does everything hold?"""

from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import At, Evidence, PolicyName, RunId, TrustFile
from kfp_custody.components._cli.refusals import refusals


def verify(
    path: Evidence,
    trust: TrustFile,
    policy: PolicyName = None,
    at: At = None,
    run: RunId = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    require_bytes: Annotated[
        bool, typer.Option("--require-bytes", help="Refuse when the bytes of an artifact are not below PATH.")
    ] = False,
    without_decision: Annotated[
        bool,
        typer.Option(
            "--without-decision",
            help="Accept a chain that ends before the gate. What its evidence names must still be there; "
            "nothing proves that no later evidence was taken away.",
        ),
    ] = False,
) -> None:
    """Verify every piece of evidence below PATH, the links between them, and the artifacts that lie there.

    Exit status 0 only when everything holds. Needs no network. PATH holds the evidence of one run: a folder that was
    collected, or the run's folder with its artifacts. Bytes that are not there are named and not verified.
    """
    with refusals():
        from kfp_custody.components._cli.audit import Question, audit, require_held
        from kfp_custody.components._cli.rendering import as_document, as_text

        done = audit(
            Question(
                path, trust, policy=policy, at=at, run_id=run, require_bytes=require_bytes, partial=without_decision
            )
        )
        typer.echo(as_document(done) if as_json else as_text(done))
        require_held(done)
