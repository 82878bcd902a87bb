"""Windows of a schedule: when one is too late, and which came before it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.evidence import now, stamp
from kfp_custody.components.retraining.claims import SEEN, Claim, Store, key_of

_SKEW: Final = timedelta(minutes=5)  # clocks of two nodes may differ by this much
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_TRIES: Final = 20
MAX_HOURS: Final = 24 * 366


@dataclass(frozen=True)
class Before:
    """The window before this one, when this schedule had one; how many were missed in between, when it can be told."""

    moment: datetime | None
    missed: int


def parse_time(text: str) -> datetime:
    """Return the time of a window in UTC, to the second.

    Raises:
        Misconfigured: it is no RFC 3339 time, or lies in the future.
    """
    # Kubeflow Pipelines before 2.17 hands a placeholder on as it stands.
    found = None
    if _TIME.fullmatch(text):
        try:
            found = datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
        except (ValueError, OverflowError):
            found = None
    if found is None:
        raise Misconfigured(
            "The time of the window is no time, so it cannot be told whether its retraining was started.",
            evidence=f"scheduled_time = {text[:60]!r}",
            remedy="Pass dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER as a constant (Kubeflow Pipelines 2.17 or "
            "newer); on this machine, a time such as 2026-01-31T12:00:00Z.",
            code=codes.WATCH_TIME,
        )
    if found > now() + _SKEW:
        raise Misconfigured(
            "The window lies in the future; claiming it would keep its own firing from starting anything.",
            evidence=f"scheduled_time = {stamp(found)}, now {stamp(now())}",
            remedy="Correct the time, or the clock.",
            code=codes.WATCH_TIME,
        )
    return found


def edge(text: str, hours_before: int) -> str:
    """Return a time some hours before another, as evidence has it.

    Raises:
        Misconfigured: see `parse_time`; or the hours are none of a window.
    """
    if not 0 <= hours_before <= MAX_HOURS:
        raise Misconfigured(
            "The parameter hours_before is wrong.",
            evidence=f"hours_before = {hours_before}",
            remedy=f"Give 0 to {MAX_HOURS}.",
            code=codes.WATCH_TIME,
        )
    return stamp(parse_time(text) - timedelta(hours=hours_before))


def mark(store: Store, schedule: str, moment: datetime, every_hours: int, holder: str) -> Before:
    """Remember a window as the schedule's newest, and tell which came before it.

    A window that is older than the newest, or fired again, changes nothing.
    """
    key = key_of({"newest": schedule})
    for _ in range(_TRIES):
        due = {"schedule": schedule, "newest": stamp(moment), "before": ""}
        if store.create(key, Claim(due, SEEN, holder, now())):
            return Before(None, 0)
        standing = store.read(key)
        if standing is None:
            continue
        newest = standing.claim.due["newest"]
        if newest > stamp(moment):  # RFC 3339 in UTC to the second: as text it sorts as in time
            return Before(None, 0)
        before = standing.claim.due["before"] if newest == stamp(moment) else newest
        due["before"] = before
        if newest == stamp(moment) or store.replace(key, standing, Claim(due, SEEN, holder, now())):
            return _before(before, moment, every_hours)
    return Before(None, 0)  # others are quicker: they mark windows of their own, and ours is told by its own report


def _before(text: str, moment: datetime, every_hours: int) -> Before:
    if not text:
        return Before(None, 0)
    earlier = datetime.fromisoformat(text)
    missed = round((moment - earlier) / timedelta(hours=every_hours)) - 1 if every_hours else 0
    return Before(earlier, max(missed, 0))
