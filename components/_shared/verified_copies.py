"""Reading the bytes that were verified, and not what lies at the path by then.

To hash a file and then to open it again leaves a gap in which it can be exchanged. A consumer therefore reads a copy
that only it can reach, made and hashed in one reading and compared with the verified listing.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from kfp_custody.components._shared.digests import Entry, Listing, require_same

_BUFFER = 1 << 20


@contextmanager
def verified_file(path: Path, listing: Listing, artifact: str, folder: Path) -> Iterator[IO[bytes]]:
    """Yield a copy of the only file of a listing, in a file without a name: no path leads to it.

    Args:
        path: The file.
        listing: Its verified listing.
        artifact: What a message calls it.
        folder: Where the copy takes its room.

    Raises:
        EvidenceInvalid: these bytes are not the verified ones.
        OSError: it cannot be read, is a symbolic link, or there is no room.
    """
    with tempfile.TemporaryFile(dir=folder) as copy:
        require_same(listing, Listing((_copied(path, listing.entries[0].name, copy),)), artifact)
        copy.seek(0)
        yield copy


@contextmanager
def verified_tree(root: Path, listing: Listing, artifact: str, folder: Path) -> Iterator[Path]:
    """Yield a private directory with a copy of every file of a listing and nothing else; it is gone afterwards.

    Args:
        root: The directory (or the one file) that the listing describes.
        listing: Its verified listing.
        artifact: What a message calls it.
        folder: Where the copy takes its room.

    Raises:
        EvidenceInvalid: these bytes are not the verified ones.
        OSError: a file cannot be read, is a symbolic link, or there is no room.
    """
    with tempfile.TemporaryDirectory(prefix=".verified-", dir=folder) as private:
        found = []
        for entry in listing.entries:
            target = Path(private, entry.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as copy:
                found.append(_copied(root / entry.name if root.is_dir() else root, entry.name, copy))
        require_same(listing, Listing(tuple(found)), artifact)
        yield Path(private)


def _copied(path: Path, name: str, copy: IO[bytes]) -> Entry:
    digest, size = hashlib.sha256(), 0
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while block := file.read(_BUFFER):
            digest.update(block)
            size += copy.write(block)
    return Entry(name, digest.hexdigest(), size)
