"""Claims as files of a folder: for one machine, or for a file system that all tasks share and that locks truly."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, read_document
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.files import write_atomic
from kfp_custody.components.retraining.claims import Claim, Standing, decode


class FolderStore:
    """A file for each claim; whoever is killed leaves either the whole claim or none."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made when it is not there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def name(self, key: str) -> str:
        """Return the file's path."""
        return str(self._path(key))

    def create(self, key: str, claim: Claim) -> Standing | None:
        """Write the claim beside its place, and link it there unless one is there: the kernel lets one be first."""
        handle, name = tempfile.mkstemp(prefix=f".{key}.", suffix=".partial", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(claim.encode())
                file.flush()
                os.fsync(file.fileno())
            os.link(name, self._path(key))
        except FileExistsError:
            return None
        finally:
            Path(name).unlink(missing_ok=True)
        return Standing(claim, sha256_bytes(claim.encode()))

    def read(self, key: str) -> Standing | None:
        """Read the file.

        Raises:
            Misconfigured: it holds no claim.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            data = read_document(path)
            return Standing(decode(data), sha256_bytes(data))
        except DocumentFault as fault:
            raise not_a_claim(str(path), fault) from fault

    def replace(self, key: str, standing: Standing, claim: Claim) -> Standing | None:
        """Compare and rename under a lock, which the kernel gives back when its holder dies."""
        with self._lock():
            now = self.read(key)
            if now is None or now.version != standing.version:
                return None
            write_atomic(self._path(key), claim.encode(), mode=0o600)
        return Standing(claim, sha256_bytes(claim.encode()))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self._folder / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def not_a_claim(where: str, fault: DocumentFault) -> Misconfigured:
    """Return the refusal of something else in a claim's place: nothing is started over it."""
    return Misconfigured(
        "What stands in the place of a claim is none; nothing was started.",
        evidence=f"{where}: {fault}",
        remedy="See who wrote it, and whether this retraining was started; then remove it.",
        code=codes.CLAIM,
    )
