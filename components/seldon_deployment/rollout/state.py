"""The state of a rollout, kept where the service is: a file beside the local server, an annotation in a cluster.

It is enough to go on after a crash at any point, or to go back: every change is written before it is made, and making
it again changes nothing.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from kfp_custody.components._shared.documents import DocumentFault, parse_json, require_keys
from kfp_custody.components._shared.errors import EvidenceInvalid
from kfp_custody.components._shared.keys import is_sha256

ANNOTATION = "custody.kubeflow.org/rollout"


@dataclass(frozen=True)
class Version:
    """A version of a service: digests (SHA-256, hex) of its listing, its signature and the decision that let it in."""

    digest: str
    signature: str
    decision: str

    @property
    def name(self) -> str:
        """Short name: eight digits of the model and, as the same bytes may be signed twice, eight of the signature."""
        return f"{self.digest[:8]}-{self.signature[:8]}"


@dataclass(frozen=True)
class Rollout:
    """What is served under a name: the stable version, and while a rollout runs the canary with its share in percent.

    `run_id` is of the run that the canary belongs to. None for a version means there is none.
    """

    service: str
    stable: Version | None = None
    canary: Version | None = None
    weight: int = 0
    run_id: str = ""

    @property
    def weights(self) -> dict[str, int]:
        """Shares by the versions' names, of 100; empty while nothing may be answered yet."""
        if self.canary is None:
            return {self.stable.name: 100} if self.stable else {}
        if self.stable is None:
            return {self.canary.name: 100} if self.weight else {}
        return {self.stable.name: 100 - self.weight, self.canary.name: self.weight}

    @property
    def versions(self) -> tuple[Version, ...]:
        """All versions that are there."""
        return tuple(version for version in (self.stable, self.canary) if version is not None)


def write_state(rollout: Rollout) -> str:
    """Return the state as JSON."""
    return json.dumps(asdict(rollout), sort_keys=True)


def read_state(text: str, where: str) -> Rollout:
    """Read the state.

    Raises:
        EvidenceInvalid: it is not as it was written, so nothing is known about what is served.
    """
    try:
        document = require_keys(parse_json(text.encode()), "it", tuple(asdict(Rollout(""))))
        weight, names = document["weight"], (document["service"], document["run_id"])
        if type(weight) is not int or not 0 <= weight <= 100 or not all(isinstance(name, str) for name in names):
            raise DocumentFault("a field has the wrong form")
        versions = {name: _version(document[name]) for name in ("stable", "canary")}
        return Rollout(**{**document, **versions})
    except DocumentFault as error:
        raise EvidenceInvalid(
            "The state of the service's rollout was changed by somebody else.",
            evidence=f"{where}: {error}",
            remedy="Find out who changed it, restore it or remove the service, then deploy again.",
        ) from error


def _version(value: Any) -> Version | None:
    if value is None:
        return None
    digests = require_keys(value, "a version", ("digest", "signature", "decision"))
    if not all(is_sha256(digest) for digest in digests.values()):
        raise DocumentFault("a digest is malformed")
    return Version(**digests)
