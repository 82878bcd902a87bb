"""Secrets in files: `file:/path`. Read at every use: a rewritten file or a swapped Kubernetes volume counts at once."""

from pathlib import Path

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.secrets.secret import Reading, Source
from kfp_custody.components._shared.signers.private_files import read_private_file


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the file; one that its group or others may read is refused."""
    path = Path(rest)
    if not path.is_absolute():
        raise Misconfigured(
            "A secret's file has no absolute path.", evidence="file:", remedy="Use file:/absolute/path."
        )
    return lambda: Reading(read_private_file(path, "secret file"), 0.0)
