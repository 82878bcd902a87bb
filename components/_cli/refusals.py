"""How a refusal reaches the person at the terminal: three lines with a code, and the exit status."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

REFUSED, USAGE = 1, 2


def printable(text: object) -> str:
    """Return text whose control characters are shown and not obeyed: evidence may say anything."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


@contextmanager
def refusals() -> Iterator[None]:
    """Show a refusal on stderr and exit: 1 when something was refused, 2 when the command could not work as asked."""
    from kfp_custody.components._shared.errors import CustodyError, Misconfigured, boundary

    try:
        with boundary():
            yield
    except CustodyError as refusal:
        print(f"REFUSED {type(refusal).__name__}: {printable(refusal)}", file=sys.stderr)
        raise typer.Exit(USAGE if isinstance(refusal, Misconfigured) else REFUSED) from refusal
