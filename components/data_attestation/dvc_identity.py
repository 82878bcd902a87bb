"""What DVC would call a dataset: the MD5 identity that `dvc add` computes.

DVC names a file by the MD5 of its bytes and a directory by the MD5 of a JSON list of its files
(https://dvc.org/doc/user-guide/project-structure/internal-files). MD5 binds nothing against an attacker: a twin with
the same MD5 can be made. It is recorded for the way back into DVC only, always beside SHA-256.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Entry, Listing
from kfp_custody.components._shared.errors import EvidenceInvalid

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class DvcIdentity:
    """A dataset as DVC names it: MD5 (with `.dir` for a directory), bytes, number of files (None for one file)."""

    md5: str
    size: int
    files: int | None

    def pointer(self, path: str) -> bytes:
        """Return the `.dvc` file that `dvc add <path>` writes."""
        lines = ["outs:", f"- md5: {self.md5}", f"  size: {self.size}"]
        lines += [f"  nfiles: {self.files}"] if self.files is not None else []
        return "\n".join([*lines, "  hash: md5", f"  path: {path}", ""]).encode()


def dvc_identity(root: Path, listing: Listing) -> DvcIdentity:
    """Compute DVC's identity of a file or directory.

    Args:
        root: The file or directory.
        listing: Its listing, which says which files there are and what is in them.

    Raises:
        EvidenceInvalid: a file is no longer what the listing says.
        OSError: a file cannot be read.
    """
    if root.is_file():
        return DvcIdentity(_md5(root, listing.entries[0]), listing.size, None)
    tree = [{"md5": _md5(root / entry.name, entry), "relpath": entry.name} for entry in listing.entries]
    tree.sort(key=lambda entry: entry["relpath"])  # by characters, as DVC does; a listing sorts by bytes
    digest = hashlib.md5(json.dumps(tree, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return DvcIdentity(f"{digest}.dir", listing.size, len(tree))


def _md5(path: Path, entry: Entry) -> str:
    """Hash a file both ways in one reading, so that the MD5 is of the very bytes that are attested."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while chunk := file.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    if sha256.hexdigest() != entry.sha256:
        raise EvidenceInvalid(
            "The dataset changed while it was being attested.",
            evidence=f"{entry.name!r} expected sha256:{entry.sha256}, found sha256:{sha256.hexdigest()}",
            remedy="Find out what writes to it; run the stage again.",
        )
    return md5.hexdigest()
