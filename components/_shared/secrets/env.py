"""Secrets in environment variables: `env:NAME`. Children of the process inherit them; a file or a server is better."""

import os
import re

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.secrets.secret import Reading, Source


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the variable."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", rest):
        raise Misconfigured(
            "This is no name of an environment variable.",
            evidence=f"env: and {len(rest)} characters",
            remedy="Use env:NAME, with the name of the variable and not its value.",
        )

    def read() -> Reading:
        value = os.environb.get(rest.encode())
        if value is None:
            raise Misconfigured(
                "A secret's environment variable is not set.", evidence=rest, remedy="Set it for this task."
            )
        return Reading(value, 0.0)

    return read
