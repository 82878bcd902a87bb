"""A folder as a store: for the local engine, and for DVC remotes that are mounted.

No symbolic link is followed, also not one that takes a folder's place between the listing and the reading: what a file
was opened as is compared with where it should be.
"""

import errno
import os
import stat
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.data_versioning.encryption import AtRest
from kfp_custody.components.data_versioning.objects import CHUNK, Reading, Stored, changed, missing


class FolderStore:
    """Files below a folder; their names are keys."""

    def __init__(self, root: Path) -> None:
        """Keep the folder, as it is with every link on the way to it resolved: the platform chose it."""
        self._root = os.path.realpath(root)

    @property
    def name(self) -> str:
        """The folder."""
        return f"file://{self._root}"

    def entries(self, prefix: str) -> list[Stored]:
        """Return the file `prefix`, or every file below it.

        Raises:
            InputRefused: a symbolic link, a special file or an empty folder.
        """
        start = os.path.join(self._root, prefix) if prefix else self._root
        self._check_way(prefix)
        try:
            status = os.lstat(start)
        except FileNotFoundError:
            return []
        if not stat.S_ISDIR(status.st_mode):
            return [_stored(prefix, status)]
        found: list[Stored] = []
        pending = [(start, prefix)]
        while pending:
            folder, name = pending.pop()
            with os.scandir(folder) as scan:
                children = list(scan)
            if not children and name != prefix:
                raise _not_regular(name)
            for child in children:
                key = f"{name}/{child.name}" if name else child.name
                if child.is_dir(follow_symlinks=False):
                    pending.append((child.path, key))
                else:
                    found.append(_stored(key, child.stat(follow_symlinks=False)))
        return found

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read a file; `pin` is its inode, size and time of change.

        Raises:
            EvidenceInvalid: it is not there, or is another one now.
        InputRefused: it is a link or a special file.
        """
        path = os.path.join(self._root, key)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise missing(self.name, key) from error
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise _not_regular(key) from error
        file = os.fdopen(handle, "rb", buffering=0)
        try:
            now = _stored(key, os.fstat(handle))  # also refuses what is no regular file
            if os.readlink(f"/proc/self/fd/{handle}") != path or (pin is not None and now.pin != pin):
                raise changed(self.name, key, "another file is in its place")
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return Reading(now.size, now.pin, AtRest(), _chunks(file, now.size - offset))

    def rule(self) -> str | None:
        """Nothing is known of how a folder is encrypted."""
        return None

    def _check_way(self, prefix: str) -> None:
        """Refuse a symbolic link on the way from the folder to what is asked for."""
        path = self._root
        for part in prefix.split("/") if prefix else ():
            path = os.path.join(path, part)
            with suppress(FileNotFoundError, NotADirectoryError):
                if stat.S_ISLNK(os.lstat(path).st_mode):
                    raise _not_regular(prefix)


def _chunks(file: BinaryIO, size: int) -> Generator[bytes, None, None]:
    with file:
        while size > 0 and (data := file.read(min(CHUNK, size))):
            size -= len(data)
            yield data
        if size == 0 and file.read(1):
            yield b"+"  # it grew while it was read: one byte more than it may have, so that the reader refuses


def _stored(key: str, status: os.stat_result) -> Stored:
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(key)
    return Stored(key, status.st_size, f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}")


def _not_regular(name: str) -> InputRefused:
    return InputRefused(
        "The source holds a symbolic link, a special file or an empty folder; no listing can bind these.",
        evidence=f"{name!a} is not a regular file or a folder with files",
        remedy="Replace a link with a copy of the file that it points to; remove the rest.",
        code=codes.NOT_LISTABLE,
    )
