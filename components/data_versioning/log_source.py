"""Logs as a source: what is at a place as it was listed, though somebody goes on writing there.

A dataset must not change while it is fetched. A log does: its last file grows, and new ones are added. So of every file
that was listed, that much is read which was there then; a file that is another one afterwards, or shorter, was rotated
or rewritten meanwhile, and then lines might be missing or come twice.
"""

from collections.abc import Generator, Mapping
from contextlib import closing

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.data_versioning.engines import plan_source
from kfp_custody.components.data_versioning.folder_store import FolderStore
from kfp_custody.components.data_versioning.locations import Location
from kfp_custody.components.data_versioning.objects import Plan, Reading, Stored, changed
from kfp_custody.components.data_versioning.revisions import Revision
from kfp_custody.components.data_versioning.sources import Source


def plan_logs(location: Location, source: Source) -> Plan:
    """Find the log files at a place.

    Raises:
        InputRefused: it is a path in Git: nobody logs there.
        The refusals of `engines.plan_source`.
    """
    if location.is_git:
        raise InputRefused(
            "Logs are not collected from there.",
            evidence=f"{location.scheme}://: a path in a Git repository",
            remedy="Give a folder or a prefix of an object store.",
            code=codes.SOURCE_URI,
        )
    plan = plan_source(location, Revision("", None), source)
    if not isinstance(plan.store, FolderStore):  # an object is never appended to, so its pin says all
        return Plan(plan.files, plan.store)
    growing = _Growing(plan.store, {file.key: Stored(file.key, file.size or 0, file.pin or "") for file in plan.files})
    return Plan(plan.files, growing, still=growing.require_still)


class _Growing:
    """A folder of log files, each read as far as it was when it was listed."""

    def __init__(self, store: FolderStore, listed: Mapping[str, Stored]) -> None:
        self._store, self._listed = store, listed

    @property
    def name(self) -> str:
        """The folder."""
        return self._store.name

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read what a file held when it was listed, from an offset on.

        Raises:
            EvidenceInvalid: it is gone, shorter, or another one.
        """
        before, reading = self._listed[key], self._store.read(key, None, offset)
        try:
            self._require_grown(before, Stored(key, reading.size, reading.pin))
        except BaseException:
            reading.chunks.close()
            raise
        return Reading(before.size, before.pin, reading.at_rest, _first(reading.chunks, before.size - offset))

    def rule(self) -> str | None:
        """Nothing is known of how a folder is encrypted."""
        return self._store.rule()

    def require_still(self) -> None:
        """Refuse files that were rotated away or rewritten since they were listed.

        Raises:
            EvidenceInvalid: naming the first one.
        """
        for key, before in self._listed.items():
            reading = self._store.read(key, None, 0)
            reading.chunks.close()
            self._require_grown(before, Stored(key, reading.size, reading.pin))

    def _require_grown(self, before: Stored, after: Stored) -> None:
        if after.size < before.size or after.pin.split(":")[:2] != before.pin.split(":")[:2]:
            raise changed(self.name, before.key, "it was rotated or written again")


def _first(chunks: Generator[bytes, None, None], size: int) -> Generator[bytes, None, None]:
    with closing(chunks):
        while size > 0 and (chunk := next(chunks, b"")):
            yield chunk[:size]
            size -= len(chunk)
