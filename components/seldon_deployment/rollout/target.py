"""What a place must be able to do, where models are rolled out to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components.seldon_deployment.decision import Admitted
from kfp_custody.components.seldon_deployment.rollout.analysis import Counters
from kfp_custody.components.seldon_deployment.rollout.state import Rollout, Version


@dataclass(frozen=True)
class Placed:
    """A version in its place: what it is called there, and its answer to the smoke inference, None if none was sent."""

    model: str
    response: Mapping[str, Any] | None


class Target(Protocol):
    """One service in one place. All but `place` change only what the state says, so that each may be repeated."""

    def state(self) -> Rollout:
        """Return the state; an empty one when the service is not there."""
        ...

    def place(self, admitted: Admitted, run_id: str) -> Placed:
        """Bring a version beside the stable one, ready, without traffic.

        A canary of another run is rolled back first. When the version is the stable one already, nothing is changed.
        """
        ...

    def shift(self, weight: int) -> Rollout:
        """Give the canary a share, in percent, and return when it is in force."""
        ...

    def promote(self) -> Rollout:
        """Make the canary the stable version, and remove the old one when it has answered what it was asked."""
        ...

    def roll_back(self) -> Rollout:
        """Send everything to the stable version, and remove the canary when it has answered what it was asked."""
        ...

    def counters(self) -> Mapping[str, Counters]:
        """Return what was counted so far, by the versions' names.

        Raises:
            ServiceUnreachable: whoever counts does not answer.
        """
        ...

    @property
    def url(self) -> str:
        """Where the service answers."""
        ...


def version_of(admitted: Admitted) -> Version:
    """Return the version that an admitted model is."""
    return Version(admitted.digest, admitted.signature_sha256, admitted.decision_sha256)


def require_canary(now: Rollout, admitted: Admitted, run_id: str) -> None:
    """Refuse to go on with a rollout that is not this run's.

    Raises:
        InputRefused: the service has no canary of this model and run.
    """
    wanted = version_of(admitted)
    if now.canary is None or now.canary.name != wanted.name or now.run_id != run_id:
        found = f"canary {now.canary.name} of run {now.run_id!a}" if now.canary else "no canary"
        raise InputRefused(
            "The rollout of this model is not there any more.",
            evidence=f"{now.service}: expected canary {wanted.name} of run {run_id!a}, found {found}",
            remedy="Another run took its place, or it was rolled back; start the pipeline again.",
        )
