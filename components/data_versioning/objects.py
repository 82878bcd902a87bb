"""What engines and stores have in common: an object, a reading of it, and what is to be fetched."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured
from kfp_custody.components.data_versioning.encryption import AtRest

CHUNK = 1024 * 1024  # bytes that a thread holds at once
THREADS = 8  # transfers at once: most of their time is waiting


class Interrupted(Exception):
    """A server did not answer, or a transfer broke: worth another attempt. The code is of the refusal in the end."""

    def __init__(self, why: str, code: str) -> None:
        """Keep the reason and its code (`codes.py`)."""
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class Stored:
    """An object as a listing has it: key, size in bytes, and what later readings are held to (ETag, generation...)."""

    key: str
    size: int
    pin: str


@dataclass(frozen=True)
class Reading:
    """An object that is being read from some offset on: its whole size, its pin, and what the store says of it."""

    size: int
    pin: str
    at_rest: AtRest
    chunks: Generator[bytes, None, None]
    version: str | None = None


class Readable(Protocol):
    """Where objects are that are known by name."""

    @property
    def name(self) -> str:
        """Its address, for messages and evidence; no secret in it."""

    def read(self, key: str, pin: str | None, offset: int) -> Reading:
        """Read an object from an offset on, and only in the state that `pin` names (None: as it is now)."""

    def rule(self) -> str | None:
        """Return the encryption that the bucket gives to new objects; None when there is no such thing, or unknown."""


class Store(Readable, Protocol):
    """Where objects are that can be listed."""

    def entries(self, prefix: str) -> list[Stored]:
        """Return every object that is `prefix` or below it, as it is now."""


@dataclass(frozen=True)
class Wanted:
    """A file to be: its name in the tree and where its bytes are.

    `size` (bytes) and `md5` or `sha256` (hex) are what they must be, as far as the pointer or listing says; `content`
    are the bytes themselves where they came with the commit.
    """

    name: str
    key: str
    size: int | None = None
    pin: str | None = None
    md5: str | None = None
    sha256: str | None = None
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Plan:
    """What an engine found at a source: the files, their store, and what the evidence has to say of it.

    `still` is asked when everything has arrived, and refuses a source that changed in between.
    """

    files: tuple[Wanted, ...]
    store: Readable
    commit: str | None = None
    pointer: dict[str, Any] | None = None
    still: Callable[[], None] = lambda: None


def missing(store: str, key: str) -> EvidenceInvalid:
    """Return the refusal of an object that is not there."""
    return EvidenceInvalid(
        "An object of the dataset is missing.",
        evidence=f"{key!a} in {store}",
        remedy="Find out who removed it; push the data again from where it was made.",
        code=codes.OBJECT_MISSING,
    )


def changed(store: str, key: str, why: str) -> EvidenceInvalid:
    """Return the refusal of a source that changes while it is read."""
    return EvidenceInvalid(
        "The source changed while it was being fetched.",
        evidence=f"{key!a} in {store}: {why}",
        remedy="Find out who writes there. Run the stage again when nobody does.",
        code=codes.OBJECT_CHANGED,
    )


def denied(store: str, key: str, why: str) -> Misconfigured:
    """Return the refusal of credentials that a store does not accept; S3 also says so of what is not there."""
    return Misconfigured(
        "The store does not let this stage read.",
        evidence=f"{key!a} in {store}: {why}",
        remedy="Check the credentials in the sources file and what they may read; and that the object is there.",
        code=codes.STORE_DENIED,
    )


def no_range(store: str, key: str, offset: int) -> EvidenceInvalid:
    """Return the refusal of a server that sends other bytes than those that were asked for."""
    return EvidenceInvalid(
        "A server does not go on where a transfer broke.",
        evidence=f"{key!a} in {store}: other bytes came than those from {offset} on",
        remedy="Use a server that answers ranges, or find out what stands between it and this task.",
        code=codes.RANGE,
    )
