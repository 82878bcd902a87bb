"""Starting what is due exactly once: claim, look, renew, start, look again, record.

| what happens | why there is one run |
|---|---|
| fired twice, or three at once | one creates the claim; the others wait for what becomes of it |
| a crash before the start | the claim runs out, somebody takes it over and starts |
| a crash after the start, before the record | somebody takes it over, finds the run by its name and adopts it |
| an answer that is lost | the claim is kept until it runs out: the request may still be on its way |
| a holder that is slow | it renews right before it starts, and starts nothing when somebody took over |
| a holder that is frozen after that for longer than the claim | Kubeflow Pipelines has no unique names, so it is found
  by the second look: the oldest run stays, and whoever started another ends it |
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Protocol

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components._shared.evidence import now
from kfp_custody.components.retraining.claims import HELD, MISSED, STARTED, Claim, Standing, Store

NEW, ADOPTED, ALREADY = "STARTED", "ADOPTED", "ALREADY"


class Starter(Protocol):
    """What starts a run. Every method raises ServiceUnreachable, Misconfigured or InputRefused."""

    def find(self, key: str) -> str | None:
        """Return the id of the run that was started for a claim, whatever became of it."""

    def start(self, key: str) -> str:
        """Start a run for a claim and return its id."""

    def settle(self, key: str, run_id: str) -> str:
        """Look again: end our run when an older one of this claim is there; return the id of the one that stays."""


@dataclass(frozen=True)
class Timing:
    """Seconds: how long a claim is held, how far clocks may differ, between two looks at it, and of waiting for it.

    The claim must be held longer than one request to start a run can take (transport.TIMEOUT: 70 seconds).
    """

    lease: float = 180.0
    skew: float = 60.0
    poll: float = 2.0
    patience: float = 600.0


@dataclass(frozen=True)
class Done:
    """What became of it: STARTED, ADOPTED or ALREADY, and the run."""

    how: str
    run_id: str


USUAL: Final = Timing()


def start_once(
    store: Store,
    starter: Starter,
    key: str,
    due: Mapping[str, str],
    *,
    holder: str,
    timing: Timing = USUAL,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """Have exactly one run for what is due.

    Args:
        store: Where claims are kept.
        starter: What starts runs.
        key: Digest of what is due; the name of the claim and part of the run's name.
        due: What is due, for people who read the claim.
        holder: Who asks; no two processes have the same.
        timing: How long to hold and to wait.
        sleep: How to wait.

    Raises:
        ServiceUnreachable: a server failed, or somebody else holds the claim for longer than was waited. Asking again
            is safe, and finds a run that was started.
        Misconfigured, InputRefused: what the store and the starter raise.
    """
    deadline = time.monotonic() + timing.patience
    while True:
        standing = _take(store, key, due, holder, timing)
        if standing is not None and standing.claim.state == STARTED:
            return Done(ALREADY, standing.claim.run_id)
        if standing is not None and standing.claim.holder == holder:
            done = _start(store, starter, key, standing, timing)
            if done is not None:
                return done
        if time.monotonic() >= deadline:
            raise ServiceUnreachable(
                "Somebody else is starting this retraining, and has not said yet what became of it.",
                evidence=f"{store.name(key)}, held by {standing.claim.holder if standing else 'nobody yet'}",
                remedy="Ask again: when its holder died, the claim is free after a few minutes.",
                code=codes.CLAIM_HELD,
            )
        sleep(timing.poll)


def record_missed(store: Store, key: str, due: Mapping[str, str], *, holder: str) -> str:
    """Write down that this is not started because it is too late; return the run's id when it was started before."""
    made = store.create(key, Claim(due, MISSED, holder, now()))
    found = None if made else store.read(key)
    return found.claim.run_id if found and found.claim.state == STARTED else ""


def _take(store: Store, key: str, due: Mapping[str, str], holder: str, timing: Timing) -> Standing | None:
    """Claim it when it is free; return what stands, None when it changes right now."""
    ours = Claim(due, HELD, holder, now() + timedelta(seconds=timing.lease))
    made = store.create(key, ours)
    if made:
        return made
    found = store.read(key)
    if found is None or found.claim.state == STARTED or found.claim.holder == holder:
        return found
    free = found.claim.state == MISSED or now() > found.claim.until + timedelta(seconds=timing.skew)
    return store.replace(key, found, ours) if free else found


def _start(store: Store, starter: Starter, key: str, standing: Standing, timing: Timing) -> Done | None:
    """Start it as the holder of the claim; None when somebody took it over meanwhile."""
    known = starter.find(key)
    if known is None:
        # The last thing before the start: from here on nobody takes over while the request can be on its way.
        until = now() + timedelta(seconds=timing.lease)
        renewed = store.replace(key, standing, replace(standing.claim, until=until))
        if renewed is None:
            return None
        standing, own = renewed, starter.start(key)
        known = starter.settle(key, own)
        how = NEW if known == own else ADOPTED
    else:
        how = ADOPTED
    # When somebody took over by now, they find the run and write down the same.
    store.replace(key, standing, replace(standing.claim, state=STARTED, run_id=known))
    return Done(how, known)
