"""What DVC would call a dataset: the MD5 identity that `dvc add` computes.

DVC names a file by the MD5 of its bytes and a directory by the MD5 of a JSON list of its files
(https://dvc.org/doc/user-guide/project-structure/internal-files). MD5 binds nothing against an attacker: a twin with
the same MD5 can be made. It is recorded for the way back into DVC only, always beside SHA-256.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared.digests import Listing


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
    """Return DVC's identity of a file or directory.

    Args:
        root: The file or directory; only which of both it is counts, nothing is read.
        listing: Its listing with MD5, so that both names are of the very same bytes.
    """
    names = {entry.name: entry.md5 for entry in listing.entries if entry.md5}
    assert len(names) == len(listing.entries), "the listing was made without MD5"  # noqa: S101  (a bug of ours)
    if root.is_file():
        return DvcIdentity(names[root.name], listing.size, None)
    tree = [{"md5": names[name], "relpath": name} for name in sorted(names)]  # by characters, as DVC does
    digest = hashlib.md5(json.dumps(tree, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    return DvcIdentity(f"{digest}.dir", listing.size, len(tree))
