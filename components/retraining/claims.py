"""Claims: who may start what is due, said in a place where only one can be the first.

A claim is made before anything is started, atomically: it is created when it is not there, and never edited but by who
read it as it is now. Its name is the digest of what is due. It holds no data and no secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from kfp_custody.components._shared.digests import sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, canonical_json, parse_json, require_keys
from kfp_custody.components._shared.evidence import stamp

# HELD: somebody is starting it. STARTED: the run is known. MISSED: it was too late, and nothing was started.
# SEEN: no claim but a mark, the newest window of a schedule.
HELD, STARTED, MISSED, SEEN = "HELD", "STARTED", "MISSED", "SEEN"
_STATES: Final = (HELD, STARTED, MISSED, SEEN)


@dataclass(frozen=True)
class Claim:
    """A claim: what is due, how far it is, who has it until when, and the run once there is one."""

    due: Mapping[str, str]
    state: str
    holder: str
    until: datetime
    run_id: str = ""

    def encode(self) -> bytes:
        """Return the claim as JSON."""
        said = {"due": dict(self.due), "state": self.state, "holder": self.holder}
        return canonical_json({**said, "until": stamp(self.until), "run_id": self.run_id})


@dataclass(frozen=True)
class Standing:
    """A claim as it was read, and what the store knows this very state by."""

    claim: Claim
    version: str


class Store(Protocol):
    """Where claims are kept. Every method raises ServiceUnreachable or Misconfigured when it cannot say for sure."""

    def name(self, key: str) -> str:
        """Return what a person looks for to see a claim."""

    def create(self, key: str, claim: Claim) -> Standing | None:
        """Make a claim; None when there is one of this key."""

    def read(self, key: str) -> Standing | None:
        """Return a claim; None when there is none."""

    def replace(self, key: str, standing: Standing, claim: Claim) -> Standing | None:
        """Put a claim in the place of the one that was read; None when that is not what stands there any more."""


def key_of(due: Mapping[str, str]) -> str:
    """Return the SHA-256 that stands for what is due."""
    return sha256_bytes(canonical_json(dict(due)))


def decode(data: bytes) -> Claim:
    """Return a claim from JSON.

    Raises:
        DocumentFault: it is none.
    """
    found = require_keys(parse_json(data), "the claim", ("due", "state", "holder", "until", "run_id"))
    texts = [found["state"], found["holder"], found["until"], found["run_id"]]
    due = found["due"]
    if not isinstance(due, dict) or not all(isinstance(text, str) for text in (*texts, *due.values())):
        raise DocumentFault("a field of the claim is no text")
    if found["state"] not in _STATES:
        raise DocumentFault(f"the claim's state is none of {', '.join(_STATES)}")
    try:
        until = datetime.fromisoformat(found["until"])
    except ValueError as error:
        raise DocumentFault("the claim's time is none") from error
    if until.tzinfo is None:
        raise DocumentFault("the claim's time has no zone")
    return Claim(due, found["state"], found["holder"], until, found["run_id"])
