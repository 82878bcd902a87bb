"""Files that hold a secret: read only when nobody else can read them."""

import os
import stat
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured


def read_private_file(path: Path, purpose: str) -> bytes:
    """Read a file with a secret, refusing one that its group or others may read.

    Raises:
        Misconfigured: missing, unreadable, no regular file, or readable by others.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            # A Kubernetes secret volume is a read-only mount that only this pod sees; its modes (0644) say nothing.
            mounted = os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY
            if not stat.S_ISREG(status.st_mode) or (status.st_mode & 0o077 and not mounted):
                raise Misconfigured(
                    f"The {purpose} may be read or written by others, so it is no secret.",
                    evidence=f"{path} has mode {stat.S_IMODE(status.st_mode):04o}",
                    remedy="chmod 600 it, and consider whether it has leaked.",
                    code=codes.SECRET_EXPOSED,
                )
            return file.read()
    except OSError as error:
        raise Misconfigured(
            f"The {purpose} cannot be read.",
            evidence=f"{path}: {error.strerror}",
            remedy="Mount the secret there, or point the CUSTODY_ variable to it.",
            code=codes.SECRET_UNREADABLE,
        ) from error


def read_private_text(path: Path | None, purpose: str, variable: str) -> str:
    """Read a one-line secret (token, password, PIN) without its line end.

    Raises:
        Misconfigured: no file is named, it cannot be read, may be read by others, or is not one line of text.
    """
    if path is None:
        raise Misconfigured(
            f"The {purpose} is not configured.",
            evidence=f"{variable} is not set",
            remedy=f"Set {variable} to the file that holds the {purpose}.",
            code=codes.SECRET_UNREADABLE,
        )
    data = read_private_file(path, purpose).rstrip(b"\r\n")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        # Not chained: the decoding error would carry the secret's bytes.
        raise Misconfigured(
            f"The {purpose} cannot be used.",
            evidence=f"{path} is empty or is not one line of text",
            remedy=f"Write the {purpose} into it, and nothing else.",
            code=codes.SECRET_UNREADABLE,
        )
    return text
