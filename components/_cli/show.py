"""`kfp-custody show`: the chain as a picture, in text or HTML."""

from pathlib import Path
from typing import Annotated

import typer

from kfp_custody.components._cli.arguments import At, Evidence, PolicyName, RunId, TrustFile
from kfp_custody.components._cli.refusals import refusals


def show(
    path: Evidence,
    trust: TrustFile,
    policy: PolicyName = None,
    at: At = None,
    run: RunId = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT", dir_okay=False, help="Also write an HTML page that needs nothing else."),
    ] = None,
) -> None:
    """Draw the chain below PATH: what was made from what, by whom, and which pieces are refused.

    Verifies exactly what `verify` does, and exits with the same status.
    """
    with refusals():
        from kfp_custody.components._cli.audit import Question, audit, require_held
        from kfp_custody.components._cli.drawing import as_graph, as_html
        from kfp_custody.components._shared.files import write_atomic

        done = audit(Question(path, trust, policy=policy, at=at, run_id=run))
        for line in as_graph(done).splitlines():
            typer.secho(line, fg=typer.colors.RED if line.lstrip().startswith("REFUSED") else None)
        if html is not None:
            write_atomic(html, as_html(done).encode())
        require_held(done)
