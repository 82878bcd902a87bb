"""Arguments that several commands share."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer


def moment(value: str) -> datetime:
    """Read a time with its zone, as RFC 3339 has it.

    Raises:
        BadParameter: it is no time, or has no zone.
    """
    try:
        found = datetime.fromisoformat(value)
    except ValueError as error:
        raise typer.BadParameter("it is no time like 2026-01-31T12:00:00Z") from error
    if found.tzinfo is None:
        raise typer.BadParameter("it has no time zone; write 2026-01-31T12:00:00Z")
    return found


Evidence = Annotated[
    Path,
    typer.Argument(
        metavar="PATH", exists=True, file_okay=False, help="A folder with evidence in it or in any folder below it."
    ),
]
TrustFile = Annotated[
    Path, typer.Option("--trust", metavar="FILE", exists=True, dir_okay=False, help="Who is trusted for what.")
]
PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="The policy the decision must rest on (a file, or a shipped name), evaluated again as of the decision; "
        "without it the trust file must pin the policy that the decision names.",
    ),
]
At = Annotated[
    datetime | None,
    typer.Option(
        "--at",
        metavar="TIME",
        parser=moment,
        help="Judge the signers as of this time (2026-01-31T12:00:00Z) and not as of now.",
    ),
]
RunId = Annotated[str | None, typer.Option("--run", metavar="ID", help="The run that all evidence must belong to.")]
SignerUri = Annotated[
    str, typer.Option("--signer", metavar="URI", help="Who signs, such as file:/secure/key.pem; never a key itself.")
]
