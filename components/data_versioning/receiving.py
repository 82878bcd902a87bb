"""Receiving files: every byte is hashed as it arrives, once, and nothing is kept that is not what it must be.

A transfer that breaks goes on where it broke: the hashes keep their state, the next reading starts at the next byte and
is held to the same state of the object. Nothing is ever read back from the disk to be trusted.
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Entry, Listing, require_names
from kfp_custody.components._shared.errors import EvidenceInvalid, InputRefused
from kfp_custody.components.data_versioning.encryption import AtRest, Encryption
from kfp_custody.components.data_versioning.objects import (
    THREADS,
    Interrupted,
    Plan,
    Readable,
    Reading,
    Wanted,
    changed,
)
from kfp_custody.components.data_versioning.retrying import pause

_LOG = logging.getLogger("kfp_custody.data_versioning")
_BREAKS = 50  # of one transfer in all; a server that gives a byte at a time is none to wait for
_BATCH = 32  # files that a thread takes at once
_REMEDY = "Do not use this data. Find out who changed the object; push it again from where it was made."
_EVERY = 5.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Received:
    """A file that arrived: its entry in the listing (with MD5), what it had to be, and what the store said of it."""

    entry: Entry
    wanted: Wanted
    pin: str | None = None
    version: str | None = None
    at_rest: AtRest = AtRest()


def receive(plan: Plan, folder: Path, encryption: Encryption, max_bytes: int) -> list[Received]:
    """Fetch every file of a plan into an empty folder.

    Args:
        plan: The files and their store.
        folder: Where; the caller removes it when this raises.
        encryption: What every object's encryption at rest must be.
        max_bytes: The most that may arrive.

    Returns:
        The files, sorted by the bytes of their names.

    Raises:
        InputRefused: names that are of no tree, or more than `max_bytes`.
        EvidenceInvalid: an object is missing, changed, or not what it must be.
        PolicyRefused: an object is not encrypted as demanded.
        ServiceUnreachable: the store does not answer, or breaks off again and again.
    """
    require_names([file.name for file in plan.files])
    files = sorted(plan.files, key=lambda file: file.name.encode())
    progress = _Progress(len(files), sum(file.size or 0 for file in files), max_bytes)
    for parent in sorted({os.path.dirname(file.name) for file in files}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    receiver = _Receiver(plan.store, folder, encryption, progress)
    with ThreadPoolExecutor(THREADS) as pool:
        cuts = range(0, len(files), _BATCH if len(files) > THREADS * _BATCH else 1)
        step = cuts.step
        tasks = [pool.submit(receiver.batch, files[cut : cut + step]) for cut in cuts]
        try:
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            for task in tasks:
                if task in done and not isinstance(task.exception(), _Stopped | None):
                    task.result()
        finally:
            progress.stop.set()
            for task in tasks:
                task.cancel()
    progress.log(last=True)
    return [file for task in tasks for file in task.result()]


def listing_of(received: Sequence[Received]) -> Listing:
    """Return the listing of what arrived: that which `list_tree` gives for the folder."""
    return Listing(tuple(file.entry for file in received))


class _Stopped(Exception):
    """Another thread was refused: this one need not go on."""


class _Progress:
    """How much has arrived, over all threads; it refuses what is too much."""

    def __init__(self, files: int, expected: int, most: int) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._files, self._bytes = 0, 0
        self._all_files, self._expected, self._most = files, expected, most
        self._logged = time.monotonic()
        self._check(expected)

    def add(self, size: int, files: int = 0) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self._lock:
            self._bytes += size
            self._files += files
            self._check(self._bytes)
            due = time.monotonic() - self._logged >= _EVERY
            if due:
                self._logged = time.monotonic()
        if due:
            self.log()

    def log(self, last: bool = False) -> None:
        total = self._bytes if last else max(self._expected, self._bytes)
        _LOG.info("fetched %d of %d files, %d of %d bytes", self._files, self._all_files, self._bytes, total)

    def _check(self, size: int) -> None:
        if size > self._most:
            raise InputRefused(
                "The data has more bytes than the platform lets be fetched.",
                evidence=f"{size} bytes or more, max_bytes {self._most}",
                remedy="Fetch a smaller part, or have the platform's team raise max_bytes of this source.",
                code=codes.SOURCE_SIZE,
            )


class _Receiver:
    """Fetches files; the threads share it."""

    def __init__(self, store: Readable, folder: Path, encryption: Encryption, progress: _Progress) -> None:
        self._store, self._folder, self._encryption, self._progress = store, folder, encryption, progress

    def batch(self, files: Sequence[Wanted]) -> list[Received]:
        received = []
        for file in files:
            received.append(self._file(file))
            self._progress.add(0, files=1)
        return received

    def _file(self, wanted: Wanted) -> Received:
        path = self._folder / wanted.name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(handle, "wb", buffering=0) as file:
            arriving = _Arriving(wanted)
            if wanted.content is not None:
                file.write(arriving.take(wanted.content))
                self._progress.add(arriving.size)
                return arriving.received(None)
            attempt = breaks = 1
            while True:
                before = arriving.size
                try:
                    reading = self._open(arriving)
                    with closing(reading.chunks) as chunks:
                        for chunk in chunks:
                            if arriving.size + len(chunk) > reading.size:
                                raise _wrong_size(wanted, reading.size, "more")
                            file.write(arriving.take(chunk))
                            self._progress.add(len(chunk))
                    if arriving.size == reading.size:
                        return arriving.received(reading)
                    raise Interrupted("the transfer ended early", codes.TRANSFER)
                except Interrupted as error:
                    attempt = 1 if arriving.size > before and breaks < _BREAKS else attempt
                    where = f"{wanted.key!a} in {self._store.name}, {arriving.size} bytes arrived"
                    pause(attempt, where, error)
                    attempt, breaks = attempt + 1, breaks + 1

    def _open(self, arriving: "_Arriving") -> Reading:
        """Start to read where the file ends so far, and refuse another object than that of the beginning."""
        wanted = arriving.wanted
        reading = self._store.read(wanted.key, arriving.pin, arriving.size)
        if arriving.pin is not None and reading.pin != arriving.pin:
            reading.chunks.close()
            raise changed(self._store.name, wanted.key, "it was written again")
        arriving.pin = reading.pin
        try:
            if wanted.size is not None and wanted.size != reading.size:
                raise _wrong_size(wanted, wanted.size, str(reading.size))
            self._encryption.require(wanted.name, reading.at_rest)
        except BaseException:
            reading.chunks.close()
            raise
        return reading


class _Arriving:
    """A file that has arrived so far: the state of its hashes, its size, and the state of the object it comes from."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.size, self.pin = wanted, 0, wanted.pin
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def take(self, data: bytes) -> bytes:
        self._sha256.update(data)
        self._md5.update(data)
        self.size += len(data)
        return data

    def received(self, reading: Reading | None) -> Received:
        """Return the whole file, when it is what it must be."""
        entry = Entry(self.wanted.name, self._sha256.hexdigest(), self.size, self._md5.hexdigest())
        for kind, expected, found in (
            ("sha256", self.wanted.sha256, entry.sha256),
            ("md5", self.wanted.md5, entry.md5),
        ):
            if expected is not None and expected != found:
                raise EvidenceInvalid(
                    "An object is not the one that the commit's pointer names.",
                    evidence=f"{entry.name!a} expected {kind}:{expected}, found {kind}:{found}, sha256:{entry.sha256}",
                    remedy=_REMEDY,
                    code=codes.OBJECT_DIGEST,
                )
        return (
            Received(entry, self.wanted, self.pin, reading.version, reading.at_rest)
            if reading
            else Received(entry, self.wanted)
        )


def _wrong_size(wanted: Wanted, expected: int, found: str) -> EvidenceInvalid:
    return EvidenceInvalid(
        "An object has another size than it must have.",
        evidence=f"{wanted.name!a} expected {expected} bytes, found {found}",
        remedy=_REMEDY,
        code=codes.OBJECT_SIZE,
    )
