"""Asking again: a server that does not answer, or breaks off, gets more chances, each later than the last."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from kfp_custody.components._shared.errors import ServiceUnreachable
from kfp_custody.components.data_versioning.objects import Interrupted

ATTEMPTS = 5  # in a row without any progress
PAUSE = 0.25  # seconds before the second attempt; each pause is up to twice the one before

_T = TypeVar("_T")


def again(call: Callable[[], _T], what: str) -> _T:
    """Return what a call returns, at the latest at the last attempt.

    Raises:
        ServiceUnreachable: every attempt was interrupted.
    """
    attempt = 1
    while True:
        try:
            return call()
        except Interrupted as error:
            pause(attempt, what, error)
            attempt += 1


def pause(attempt: int, what: str, error: Interrupted) -> None:
    """Wait before the next attempt, a little at random, so that many tasks do not come back at the same moment.

    Raises:
        ServiceUnreachable: that was the last one.
    """
    if attempt >= ATTEMPTS:
        raise ServiceUnreachable(
            "The source could not be read.",
            evidence=f"{what}: {error}; {attempt} attempts",
            remedy="Check that it runs and is reachable from this task, then run the stage again.",
            code=error.code,
        ) from error
    time.sleep(PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311  (no secret)
